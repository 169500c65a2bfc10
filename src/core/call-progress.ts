import type { Context } from "./context.ts";
import type { CallProgress, ProgressWatch } from "./ports.ts";

/** However much progress a call tells: ten times its connection's limit, and ten minutes. */
const LIMITS = 10;
const LONGEST_MS = 600_000;

/** How long a call may take at most. Only where somebody hears of its progress may it take longer than the limit. */
export function longestCallMs({ watched = false }: Context, timeoutMs: number): number {
  return watched ? Math.max(timeoutMs, Math.min(timeoutMs * LIMITS, LONGEST_MS)) : timeoutMs;
}

/** Null: nobody reads this turn as it goes, so that servers need not tell. */
export function progressWatch(
  context: Context,
  { timeoutMs, report }: { timeoutMs: number; report: ((progress: CallProgress) => void) | null },
): ProgressWatch | null {
  if (!context.watched || !report) return null;
  return { longestMs: longestCallMs(context, timeoutMs), report };
}
