import type { Clock } from "./ports.ts";

// Work in memory that one request has begun and others wait for. Some runtimes end what a request began some time after it, without a
// word to those others: no promise settles, no `finally` runs, no timer fires. So there whoever waits for work of somebody else waits by a
// timer of their own, and what has not ended by its time is begun anew. Elsewhere work ends by its own limits, and a clock that jumped, as
// when a laptop wakes up, must not begin a second one beside it.

/** `until`: by then it has ended, or never will; infinite where that cannot be. Milliseconds since the epoch. */
export type Begun<T> = { work: Promise<T>; until: number };

/** `withinMs`: what it may take by its own limits, and room to spare. Counts where the runtime ends work, and there `cutsAfterMs` at the most. */
export type Work<T> = { begin: () => Promise<T>; withinMs: number };

/** Begins it. */
export function begun<T>({ now, cutsAfterMs }: Clock, { begin, withinMs }: Work<T>): Begun<T> {
  const until = cutsAfterMs === undefined ? Infinity : now() + Math.min(withinMs, cutsAfterMs);
  return { work: begin(), until };
}

/** What comes of it, or its rejection. Null: nothing by its time, or `signal` aborts before. */
export async function joined<T>(
  clock: Clock,
  { work, until }: Begun<T>,
  signal?: AbortSignal,
): Promise<{ outcome: T } | null> {
  const over = new AbortController();
  const stop = signal ? AbortSignal.any([signal, over.signal]) : over.signal;
  const late = until === Infinity ? aborted(stop) : clock.sleep(Math.max(until - clock.now(), 0), stop);
  try {
    return await Promise.race([work.then((outcome) => ({ outcome })), late.then(() => null)]);
  } finally {
    over.abort();
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** Work under way, by what it is for. */
export type UnderWay<K, T> = {
  /**
   * Runs work for a key, or gives what comes of the same work under way. Of those who wait for one that does not end by its time, one
   * begins it anew, and the others wait for that, too: the old one may be slow and no more.
   */
  join: (key: K, work: Work<T>) => Promise<T>;
  /** Whether somebody is at it, as far as its time says. */
  has: (key: K) => boolean;
};

export function createUnderWay<K, T>(clock: Clock): UnderWay<K, T> {
  const all = new Map<K, Begun<T>>();

  function launch(key: K, { begin, withinMs }: Work<T>): Promise<T> {
    forgetLate();
    const started: Begun<T> = begun(clock, {
      begin: () => begin().finally(() => forget(key, started)),
      withinMs,
    });
    all.set(key, started);
    return started.work;
  }

  function forget(key: K, started: Begun<T>): void {
    if (all.get(key) === started) all.delete(key);
  }

  /** What nobody asks for again. The oldest stand first. */
  function forgetLate(): void {
    for (const [key, { until }] of all) {
      if (until > clock.now()) return;
      all.delete(key);
    }
  }

  return {
    join: async (key, work) => {
      const waitedFor: Promise<T>[] = [];
      for (;;) {
        const running = all.get(key);
        if (!running) return Promise.race([...waitedFor, launch(key, work)]);
        const { until } = running;
        waitedFor.push(running.work);
        const done = await joined(clock, { work: Promise.race(waitedFor), until });
        if (done) return done.outcome;
        forget(key, running);
      }
    },
    has: (key) => (all.get(key)?.until ?? -Infinity) > clock.now(),
  };
}
