import { isRefusal } from "./errors.ts";
import type { Clock } from "./ports.ts";

/** A database that restarts or fails over is waited for: what is not kept by then is lost. */
export const KEEP_MS = 30_000;
/** One try on a connection that has gone silent takes longer than `KEEP_MS`, though new connections have worked for long. */
const LEAST_TRIES = 3;
/** What a try may go on for beyond `KEEP_MS`: a store waits no longer for a connection and its answer. */
export const LONGEST_TRY_MS = 40_000;
const PAUSE_MS = 250;

/**
 * Writes what exists nowhere else any more, such as tokens whose predecessors are spent, and writes it again while the database is
 * away. A try that failed may have been the one that counted, with its answer lost: so `write` must bear to be done twice, and
 * is told which try it is.
 *
 * Throws `unavailable` when it is still away after half a minute and three tries.
 */
export async function untilKept<T>(clock: Clock, write: (tries: number) => Promise<T>): Promise<T> {
  const until = clock.now() + KEEP_MS;
  for (let tries = 1; ; tries++) {
    try {
      return await write(tries);
    } catch (error) {
      const isOver = clock.now() >= until && tries >= LEAST_TRIES;
      if (!isRefusal(error, "unavailable") || isOver) throw error;
      await clock.sleep(PAUSE_MS);
    }
  }
}
