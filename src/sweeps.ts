import type { World } from "./core/ports.ts";

/** What is swept, by the name that the log knows it by. */
export type Jobs = Record<string, () => Promise<void>>;

/**
 * Work that no request waits for: every job once now, and again every ten minutes. A job that fails is logged and has its
 * next turn like the others. `stop` begins no other round and resolves when the one under way has ended.
 */
export function startSweeps(
  { clock, log }: Pick<World, "clock" | "log">,
  jobs: Jobs,
): { stop: () => Promise<void> } {
  const stopping = new AbortController();
  const { signal } = stopping;
  const round = () => sweepOnce(log, jobs);
  const sweeping = (async () => {
    await round();
    while (!signal.aborted) {
      await clock.sleep(SWEEP_MS, signal);
      if (!signal.aborted) await round();
    }
  })();
  return {
    stop: () => {
      stopping.abort();
      return sweeping;
    },
  };
}

/** Every job once, one after the other. Never rejects. */
export async function sweepOnce(log: World["log"], jobs: Jobs): Promise<void> {
  for (const [job, sweep] of Object.entries(jobs))
    await sweep().catch((error: unknown) => log("warn", "sweep_failed", { job, err: error }));
}

const SWEEP_MS = 10 * 60 * 1000;
