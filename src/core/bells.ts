import type { Clock } from "./ports.ts";

export type Bells = ReturnType<typeof createBells>;

/** Wakes those of this process who wait for news of something; who waits looks again by himself after a while. */
export function createBells(clock: Clock) {
  const waiting = new Map<string, Set<() => void>>();

  return {
    ring: (id: string): void => {
      for (const wake of waiting.get(id) ?? []) wake();
    },

    /** Resolves when it rings, after `ms`, or when `signal` aborts. */
    wait: async (id: string, ms: number, signal: AbortSignal): Promise<void> => {
      const rung = new AbortController();
      const wake = () => rung.abort();
      const others = waiting.get(id) ?? new Set();
      waiting.set(id, others.add(wake));
      signal.addEventListener("abort", wake, { once: true });
      if (signal.aborted) wake();
      await clock.sleep(ms, rung.signal);
      signal.removeEventListener("abort", wake);
      others.delete(wake);
      if (others.size === 0) waiting.delete(id);
    },
  };
}
