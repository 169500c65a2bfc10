import type { Clock } from "../core/ports.ts";
import { startDeadline, type Deadline } from "./mcp-deadline.ts";

/** What is done beside a call, without anybody waiting: bounded in time, never a fault of its own. */
export type Asides = {
  /** Resolves when it is done, if anybody wants to know after all. Never rejects. */
  run: (task: (deadline: Deadline) => Promise<unknown>, timeoutMs: number) => Promise<void>;
  /** Resolves when all are done; each is bounded. */
  settled: () => Promise<void>;
};

export function createAsides(clock: Clock): Asides {
  const never = new AbortController();
  const running = new Set<Promise<void>>();
  return {
    run: async (task, timeoutMs) => {
      const deadline = startDeadline(clock, { timeoutMs, signal: never.signal });
      // A courtesy that fails concerns nobody: the call that it belonged to has its outcome.
      const done = task(deadline)
        .then(
          () => {},
          () => {},
        )
        .finally(() => {
          deadline.stop();
          running.delete(done);
        });
      running.add(done);
      await done;
    },
    settled: async () => {
      while (running.size > 0) await Promise.all(running);
    },
  };
}
