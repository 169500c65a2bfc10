/** A clock that a test moves: waits end when their time has come, and never by themselves. */
export function scriptedClock(start = Date.now()) {
  let now = start;
  const waits = new Set<{ at: number; end: () => void }>();
  return {
    now: () => now,
    sleep: (ms: number, signal?: AbortSignal) =>
      new Promise<void>((resolve) => {
        if (signal?.aborted) return resolve();
        const wait = { at: now + ms, end: resolve };
        waits.add(wait);
        signal?.addEventListener("abort", () => (waits.delete(wait), resolve()), { once: true });
      }),
    /** Moves on, and ends the waits whose time has come by then. */
    advance: (ms: number) => {
      now += ms;
      for (const wait of waits) {
        if (wait.at > now) continue;
        waits.delete(wait);
        wait.end();
      }
    },
  };
}
