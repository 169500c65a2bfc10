import { createCache } from "./cache.ts";

/** Runs work for a key, or gives what has come, or will come, of the same work. */
export type SharedWork<T> = (key: string, work: () => Promise<T>) => Promise<T>;

/**
 * Of all who want the same at once, one does it; and what comes of it is believed for `keepMs` by those who come later. Of this
 * process alone: between replicas the store decides.
 */
export function createSharedWork<T>(options: {
  max: number;
  now: () => number;
  keepMs: (outcome: T) => number;
}): SharedWork<T> {
  const { max, now, keepMs } = options;
  const underWay = new Map<string, Promise<T>>();
  const done = createCache<{ outcome: T }>({ max, now });

  async function finish(key: string, work: () => Promise<T>): Promise<T> {
    try {
      const outcome = await work();
      done.set(key, { outcome }, { ttlMs: keepMs(outcome) });
      return outcome;
    } finally {
      underWay.delete(key);
    }
  }

  return async (key, work) => {
    const running = underWay.get(key);
    if (running) return running;
    const before = done.get(key);
    if (before) return before.outcome;
    const started = finish(key, work);
    underWay.set(key, started);
    return started;
  };
}
