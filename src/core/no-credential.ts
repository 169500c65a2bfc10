import { isRefusal } from "./errors.ts";
import type { UpstreamFailure } from "./ports.ts";

/**
 * A credential of ours that cannot be opened, or is kept elsewhere and cannot be had, as the failure of the one server that it is
 * for. Throws whatever else it is given.
 */
export function noCredential(label: string, error: unknown): UpstreamFailure & { kind: "no_credential" } {
  if (!isRefusal(error, "unavailable")) throw error;
  const { what, reference } = error.details;
  const message = `the credentials of ${label} cannot be opened: ${what}`;
  return { kind: "no_credential", message, ...(reference !== undefined && { reference }) };
}
