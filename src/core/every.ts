import type { Clock } from "./ports.ts";

/**
 * Does `work` again and again, each time after a pause, until `over` aborts. Resolves when the work under way has ended. Rejects with the
 * first that `work` throws, and then no other is done.
 */
export async function every(
  { clock, pauseMs, over }: { clock: Clock; pauseMs: () => number; over: AbortSignal },
  work: () => Promise<void>,
): Promise<void> {
  while (!over.aborted) {
    await clock.sleep(pauseMs(), over);
    if (!over.aborted) await work();
  }
}
