import type { ResponseId } from "./ids.ts";
import type { Run } from "./background-run.ts";
import type { Clock } from "./ports.ts";

/** Of one response. */
export type OwnRun = Run & { id: ResponseId; project: string };

/**
 * The runs of one process. Where the runtime ends what a request began, without a word, one whose lease has ended is none any more: it
 * has no room, and its work may be taken up here, too, as by every other process. It lost its work, should it be alive after all.
 */
export function createRuns({ now, cutsAfterMs }: Clock) {
  const all = new Set<OwnRun>();

  function forgetEnded(): void {
    if (cutsAfterMs === undefined) return;
    for (const run of all) if (run.keptUntil() <= now()) all.delete(run);
  }

  return {
    add: (run: OwnRun): void => void all.add(run),
    remove: (run: OwnRun): void => void all.delete(run),
    under: (): OwnRun[] => {
      forgetEnded();
      return [...all];
    },
    of: (id: string): OwnRun | null => {
      forgetEnded();
      return [...all].find((run) => run.id === id) ?? null;
    },
  };
}
