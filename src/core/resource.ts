/**
 * A server's canonical URI where it has no metadata of its own (MCP, "Canonical Server URI"): without query and fragment, a
 * slash at the end only where the path needs one.
 */
export function canonicalResource(target: string): string {
  const { origin, pathname } = new URL(target);
  return pathname === "/" ? origin : `${origin}${pathname}`;
}
