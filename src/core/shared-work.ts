import { createCache } from "./cache.ts";
import { createUnderWay } from "./joined.ts";
import type { Clock } from "./ports.ts";

/** Runs work for a key, or gives what has come, or will come, of the same work. */
export type SharedWork<T> = (key: string, work: () => Promise<T>) => Promise<T>;

/**
 * Of all who want the same at once, one does it; and what comes of it is believed for `keepMs` by those who come later. Of this
 * process alone: between replicas the store decides. `withinMs`: as in `Work` (joined), after which it is done anew for those who wait.
 */
export function createSharedWork<T>(options: {
  max: number;
  clock: Clock;
  withinMs: number;
  keepMs: (outcome: T) => number;
}): SharedWork<T> {
  const { max, clock, withinMs, keepMs } = options;
  const underWay = createUnderWay<string, T>(clock);
  const done = createCache<{ outcome: T; begunAt: number }>({ max, now: clock.now });

  return async (key, work) => {
    const before = done.get(key);
    if (before) return before.outcome;
    const begin = async () => {
      const begunAt = clock.now();
      const outcome = await work();
      // One that was begun later says what is true by now.
      const isNewest = (done.get(key)?.begunAt ?? begunAt) <= begunAt;
      if (isNewest) done.set(key, { outcome, begunAt }, { ttlMs: keepMs(outcome) });
      return outcome;
    };
    return underWay.join(key, { begin, withinMs });
  };
}
