import type { Clock } from "../core/ports.ts";
import type { Line } from "./mcp-line.ts";
import { LEGACY_ERA_MS, MAX_ERAS } from "./mcp-limits.ts";

/** What is known about a server, for all users: that it is stateless, or that `initialize` comes first. */
export type Era = { era: "modern"; version: string } | { era: "legacy" };

/** Eras by server URL. Bounded: the longest unused one is forgotten first. */
export type Eras = {
  get: (url: string) => Era | null;
  learn: (url: string, line: Line) => void;
  forget: (url: string) => void;
};

export function createEras(clock: Clock): Eras {
  const known = new Map<string, { era: Era; until: number }>();
  return {
    get: (url) => {
      const found = known.get(url);
      if (!found) return null;
      known.delete(url);
      if (found.until <= clock.now()) return null;
      known.set(url, found);
      return found.era;
    },
    learn: (url, line) => {
      known.delete(url);
      known.set(
        url,
        line.era === "modern"
          ? { era: { era: "modern", version: line.version }, until: Infinity }
          : { era: { era: "legacy" }, until: clock.now() + LEGACY_ERA_MS },
      );
      const [oldest] = known.keys();
      if (known.size > MAX_ERAS && oldest !== undefined) known.delete(oldest);
    },
    forget: (url) => void known.delete(url),
  };
}
