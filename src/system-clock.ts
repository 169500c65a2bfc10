import type { Clock } from "./core/ports.ts";

/** Part of all doors. */
export const systemClock: Clock = {
  now: () => Date.now(),
  // Not of timers/promises: there every wait that is given up costs an AbortError.
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const end = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", end);
        resolve();
      };
      const timer = setTimeout(end, ms);
      signal?.addEventListener("abort", end);
    }),
};
