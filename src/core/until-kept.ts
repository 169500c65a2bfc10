import { isRefusal } from "./errors.ts";
import type { Clock } from "./ports.ts";

/** A database that restarts or fails over is waited for: what is not kept by then is lost. */
const KEEP_MS = 30_000;
const PAUSE_MS = 250;

/**
 * Writes what exists nowhere else any more, such as tokens whose predecessors are spent, and writes it again while the database is
 * away. A try that failed may have been the one that counted, with its answer lost: so `write` must bear to be done twice, and
 * is told which try it is.
 *
 * Throws `unavailable` when it is still away after half a minute.
 */
export async function untilKept<T>(clock: Clock, write: (tries: number) => Promise<T>): Promise<T> {
  const until = clock.now() + KEEP_MS;
  for (let tries = 1; ; tries++) {
    try {
      return await write(tries);
    } catch (error) {
      if (!isRefusal(error, "unavailable") || clock.now() >= until) throw error;
      await clock.sleep(PAUSE_MS);
    }
  }
}
