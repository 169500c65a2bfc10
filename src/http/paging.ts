import type { Listed, Page } from "../core/storage.ts";
import type { Call } from "./route.ts";
import type { PageQuery } from "./wire/common.ts";

export function pageOf({ limit, after }: PageQuery): Page {
  return { limit, after: after ?? null };
}

/**
 * A list of ours: `{value, nextLink?}`. The link is absolute, on the public URL, and repeats the query (foundry-wire
 * H15: clients follow it as it is).
 */
export function answerList<R, B>(
  call: Call,
  list: {
    listed: Listed<R>;
    write: (row: R) => B;
    idOf: (row: R) => string;
    publicUrl: string;
    /** What the answer says beside the rows. */
    beside?: object;
  },
): Response {
  const { rows, more } = list.listed;
  const { beside = {} } = list;
  const last = rows.at(-1);
  const value = rows.map(list.write);
  if (!more || last === undefined) return Response.json({ ...beside, value });
  const next = new URL(call.request.url);
  next.searchParams.set("after", list.idOf(last));
  const path = next.pathname.replaceAll(/\/{2,}/g, "/");
  return Response.json({ ...beside, value, nextLink: `${list.publicUrl}${path}${next.search}` });
}
