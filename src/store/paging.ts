import type { Listed } from "../core/storage.ts";

/** Makes a page out of one row more than was asked for. */
export function listed<T>(rows: T[], limit: number): Listed<T> {
  return { rows: rows.slice(0, limit), more: rows.length > limit };
}
