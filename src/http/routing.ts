import type { Route } from "./route.ts";

/**
 * Hono's pattern of a template: `/agents/{name}:enable` → `/agents/:name`. The verb after the last parameter is not
 * part of it: routes that differ only there share a pattern and `chooseRoute` tells them apart, which keeps Hono on
 * its compiled router.
 */
function patternOf(template: string): string {
  return template.replace(VERB, "").replaceAll(/\{(\w+)\}/g, ":$1");
}

const VERB = /(?<=\}):\w+$/;

function verbOf(template: string): string {
  return VERB.exec(template)?.[0] ?? "";
}

/**
 * Routes that share method and pattern, by both, those with a verb first. A fixed word at the end of a path, where a parameter stands in
 * another one of the method (`/responses/compact` beside `/responses/{id}/cancel`), is a parameter of the pattern, too: the
 * compiled router takes only one of the two.
 */
export function groupRoutes(routes: readonly Route[]): Map<string, Route[]> {
  const ends = new Set(
    routes.flatMap(({ method, path }) => headsOf(path).map((head) => `${method} ${head}`)),
  );
  const groups = new Map<string, Route[]>();
  for (const route of routes) {
    const { head, word } = endOf(route.path);
    const isBeside = word !== null && ends.has(`${route.method} ${patternOf(head)}`);
    const key = `${route.method} ${isBeside ? `${patternOf(head)}/:${WORD}` : patternOf(route.path)}`;
    groups.set(key, [...(groups.get(key) ?? []), route]);
  }
  for (const group of groups.values()) group.sort((a, b) => verbOf(b.path).length - verbOf(a.path).length);
  return groups;
}

/** The patterns of what stands before each parameter. */
function headsOf(path: string): string[] {
  return [...path.matchAll(/\/\{/g)].map(({ index }) => patternOf(path.slice(0, index)));
}

/** A path's last word, where that is fixed, and what stands before it. */
function endOf(path: string): { head: string; word: string | null } {
  const at = path.lastIndexOf("/");
  const word = path.slice(at + 1);
  return /^\w+$/.test(word) ? { head: path.slice(0, at), word } : { head: path, word: null };
}

const WORD = "word";

/** The route of a group that the path means, and its parameters. Null: the path has a verb that nobody knows, or a wrong word. */
export function chooseRoute(
  group: readonly Route[],
  params: Record<string, string>,
): { route: Route; params: Record<string, string> } | null {
  const { [WORD]: word, ...named } = params;
  for (const route of group) {
    if (word !== undefined) {
      if (endOf(route.path).word === word) return { route, params: named };
      continue;
    }
    // After a fixed word (`/consents:confirm`) Hono takes a verb for a parameter, and anything for its value.
    const fixed = FIXED_VERB.exec(route.path)?.[1];
    if (fixed !== undefined) {
      const { [fixed]: value, ...rest } = params;
      if (value === undefined || value === `:${fixed}`) return { route, params: rest };
      continue;
    }
    const verb = verbOf(route.path);
    // From the template: Hono gives parameters in an order of its own.
    const last = LAST.exec(route.path)?.[1];
    const value = last === undefined ? undefined : params[last];
    if (verb === "" || last === undefined || value === undefined) return { route, params };
    const isMeant = value.endsWith(verb) && value.length > verb.length;
    if (isMeant) return { route, params: { ...params, [last]: value.slice(0, -verb.length) } };
  }
  return null;
}

const FIXED_VERB = /\w:(\w+)$/;
const LAST = /\{(\w+)\}(?::\w+)?$/;

/** The methods that a path takes; for answering 405. Only for paths that matched nothing, so it may be slow. */
export function methodsOf(routes: readonly Route[], path: string): string[] {
  const matching = routes.filter((route) => {
    const escaped = route.path.replaceAll(/[.*+?^$()|[\]\\]/g, "\\$&");
    return new RegExp(`^${escaped.replaceAll(/\{\w+\}/g, "[^/]+")}$`).test(path);
  });
  return [...new Set(matching.map((route) => route.method))].toSorted();
}
