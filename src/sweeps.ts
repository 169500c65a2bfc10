import { every } from "./core/every.ts";
import type { World } from "./core/ports.ts";

/** What is swept, by the name that the log knows it by. */
export type Jobs = Record<string, (stopping: AbortSignal) => Promise<void>>;

/**
 * Work that no request waits for: every job once now, and again every ten minutes, or as often as is said. A job that fails is logged
 * and has its next turn like the others. `stop` begins no other round and resolves when the one under way has ended, which long
 * jobs hear of.
 */
export function startSweeps(
  { clock, log }: Pick<World, "clock" | "log">,
  jobs: Jobs,
  everyMs = SWEEP_MS,
): { stop: () => Promise<void> } {
  const stopping = new AbortController();
  const { signal } = stopping;
  const round = () => sweepOnce(log, jobs, signal);
  const sweeping = round().then(() => every({ clock, pauseMs: () => everyMs, over: signal }, round));
  return {
    stop: () => {
      stopping.abort();
      return sweeping;
    },
  };
}

/** Every job once, one after the other. Never rejects. */
export async function sweepOnce(log: World["log"], jobs: Jobs, stopping: AbortSignal): Promise<void> {
  for (const [job, sweep] of Object.entries(jobs))
    await sweep(stopping).catch((error: unknown) => log("warn", "sweep_failed", { job, err: error }));
}

const SWEEP_MS = 10 * 60 * 1000;
