import type { Clock } from "./ports.ts";

// Work in memory that one request has begun and others wait for. Some runtimes end what a request began some time after it, without a
// word to those others: no promise settles, no `finally` runs, no timer fires. So whoever waits for work of somebody else waits by a
// timer of their own, and what has not ended by its time is begun anew.

/** `until`: by then it has ended, or never will. Milliseconds since the epoch. */
export type Begun<T> = { work: Promise<T>; until: number };

/** `withinMs`: what the work may take by its own limits, and room to spare. */
export function begun<T>(
  { now, cutsAfterMs = Infinity }: Clock,
  work: Promise<T>,
  withinMs: number,
): Begun<T> {
  return { work, until: now() + Math.min(withinMs, cutsAfterMs) };
}

/** What comes of it, or its rejection. Null: nothing by its time, or `signal` aborts before. */
export async function joined<T>(
  clock: Clock,
  { work, until }: Begun<T>,
  signal?: AbortSignal,
): Promise<{ outcome: T } | null> {
  const over = new AbortController();
  const stop = signal ? AbortSignal.any([signal, over.signal]) : over.signal;
  const late = clock.sleep(Math.max(until - clock.now(), 0), stop);
  try {
    return await Promise.race([work.then((outcome) => ({ outcome })), late.then(() => null)]);
  } finally {
    over.abort();
  }
}

/**
 * Runs work for a key, or gives what comes of the same work under way. Of those who wait for one that does not end by its time, one
 * begins it anew, and the others wait for that; what comes of the old one after all is its beginner's alone.
 */
export type UnderWay<K, T> = (key: K, work: { begin: () => Promise<T>; withinMs: number }) => Promise<T>;

export function createUnderWay<K, T>(clock: Clock): UnderWay<K, T> {
  const all = new Map<K, Begun<T>>();

  function launch(key: K, { begin, withinMs }: Parameters<UnderWay<K, T>>[1]): Promise<T> {
    forgetLate();
    const started: Begun<T> = begun(
      clock,
      begin().finally(() => forget(key, started)),
      withinMs,
    );
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

  return async (key, work) => {
    for (;;) {
      const running = all.get(key);
      if (!running) return launch(key, work);
      const done = await joined(clock, running);
      if (done) return done.outcome;
      forget(key, running);
    }
  };
}
