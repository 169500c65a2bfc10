import type { AuditEntry } from "../core/audit.ts";
import { isRefusal } from "../core/errors.ts";
import type { Keep } from "../core/keep.ts";
import type { AuditQueue, Clock, Log } from "../core/ports.ts";
import type { AuditLog } from "../core/storage.ts";

/**
 * Records of plain calls where a runtime has no place for a queue that outlives its requests: each is written at once, beside the answer
 * and kept alive by `keep`, and tried again while the database fails. What cannot be written is logged with its id.
 *
 * `sync`: every record is written before its `record` resolves.
 */
export function createBackgroundAudit(
  audit: Pick<AuditLog, "append">,
  { mode, keep, clock, log }: { mode: "batched" | "sync"; keep: Keep; clock: Pick<Clock, "sleep">; log: Log },
): AuditQueue {
  async function write(entry: AuditEntry): Promise<void> {
    for (const pauseMs of [...PAUSES_MS, null]) {
      try {
        await audit.append([entry]);
        return;
      } catch (error) {
        if (!isRefusal(error, "unavailable") || pauseMs === null) {
          log("error", "audit_lost", { records: [{ id: entry.id, event: entry.event }], err: error });
          return;
        }
        log("warn", "audit_write_failed", { records: 1, retryInMs: pauseMs, err: error });
        await clock.sleep(pauseMs);
      }
    }
  }

  return {
    record: async (entry) => {
      if (mode === "sync") return audit.append([entry]);
      void keep(write(entry));
    },
    close: async () => {},
  };
}

/** Together well below what a runtime gives to work beside an answer. */
const PAUSES_MS = [100, 500, 2_000, 5_000];
