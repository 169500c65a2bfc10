import type { OAuthOverrides } from "./connection.ts";

/**
 * A server's canonical URI where it has no metadata of its own (MCP, "Canonical Server URI"): without query and fragment, a
 * slash at the end only where the path needs one.
 */
export function canonicalResource(target: string): string {
  const { origin, pathname } = new URL(target);
  return pathname === "/" ? origin : `${origin}${pathname}`;
}

/** What tokens are asked for (RFC 8707). `own`: what the server is called by itself. Null: it is left out of requests. */
export function resourceOf({ resource }: Pick<OAuthOverrides, "resource">, own: string): string | null {
  if (resource === "omit") return null;
  return resource === "prm" ? own : resource.value;
}
