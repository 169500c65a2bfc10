import { MAX_CHANGES } from "./mcp-limits.ts";

export const TOOLS_CHANGED = "notifications/tools/list_changed";

/**
 * Which servers have said that their tools changed. By URL: whomever a server tells, it holds for all that ask there, and costs
 * them a listing at most. Bounded; of what is forgotten it counts as if it had changed.
 */
export type Changes = {
  note: (url: string) => void;
  /** Another number whenever the server has said so since. */
  of: (url: string) => number;
};

export function createChanges(): Changes {
  const noted = new Map<string, number>();
  let last = 0;
  let forgotten = 0;
  return {
    note: (url) => {
      noted.delete(url);
      noted.set(url, ++last);
      const [oldest] = noted;
      if (noted.size <= MAX_CHANGES || !oldest) return;
      noted.delete(oldest[0]);
      forgotten = oldest[1];
    },
    of: (url) => noted.get(url) ?? forgotten,
  };
}
