import type { AuditEntry } from "../core/audit.ts";
import { BrokerError, isRefusal } from "../core/errors.ts";
import type { AuditQueue, Clock, Log } from "../core/ports.ts";
import type { AuditLog } from "../core/storage.ts";

export type AuditQueueOptions = {
  /** `sync`: every record is written before its `record` resolves. */
  mode: "batched" | "sync";
  clock: Pick<Clock, "sleep">;
  log: Log;
  /** How long a record may wait for its batch. */
  flushAfterMs?: number;
  /** How many records may wait. When so many do, `record` waits for room: nothing is dropped. */
  capacity?: number;
  /** How long `close` tries to write what is left while the database fails, or says nothing. */
  closeWithinMs?: number;
};

const BATCH_ENTRIES = 100;
const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 5_000;

/**
 * Keeps records of plain calls out of the way of the calls themselves (DESIGN 13): queued, written in batches in the
 * order in which they came, retried until they are written.
 *
 * A crash loses at most the records of the last `flushAfterMs`. Only two things ever give a record up, and both are
 * logged with its id: the database refuses the record itself, or `close` runs out of time.
 */
export function createAuditQueue(audit: Pick<AuditLog, "append">, options: AuditQueueOptions): AuditQueue {
  const { mode, clock, log, flushAfterMs = 50, capacity = 10_000, closeWithinMs = 5_000 } = options;
  const waiting: AuditEntry[] = [];
  const forRoom: (() => void)[] = [];
  const stopping = new AbortController();
  let closedAt: AbortSignal | null = null;
  let isOver = false;
  let writer: Promise<void> | null = null;

  return {
    record: async (entry) => {
      if (mode === "sync") return audit.append([entry]);
      while (waiting.length >= capacity) await new Promise<void>((resolve) => forRoom.push(resolve));
      if (isOver) return giveUp([entry], outOfTime());
      waiting.push(entry);
      writer ??= writeAll();
    },

    close: async () => {
      closedAt ??= AbortSignal.timeout(closeWithinMs);
      stopping.abort();
      const late = abortOf(closedAt);
      while (writer !== null && !closedAt.aborted) await Promise.race([writer, late]);
      // A try on its way to a silent database takes longer than there is time.
      if (waiting.length > 0) {
        isOver = true;
        giveUp(waiting.splice(0), outOfTime());
        for (const resume of forRoom.splice(0)) resume();
      }
    },
  };

  async function writeAll(): Promise<void> {
    await clock.sleep(flushAfterMs, stopping.signal);
    while (waiting.length > 0) {
      await write(waiting.slice(0, BATCH_ENTRIES));
      waiting.splice(0, BATCH_ENTRIES);
      for (const resume of forRoom.splice(0, BATCH_ENTRIES)) resume();
    }
    writer = null;
  }

  // An entry that is there already is not written twice (audit.ts), so a batch may be repeated.
  async function write(batch: AuditEntry[]): Promise<void> {
    let pauseMs = FIRST_RETRY_MS;
    for (;;) {
      try {
        await audit.append(batch);
        return;
      } catch (error) {
        // Given up by `close`, which has said so.
        if (isOver) return;
        if (!isRefusal(error, "unavailable") && batch.length > 1) return writeEach(batch);
        if (!isRefusal(error, "unavailable") || closedAt?.aborted) return giveUp(batch, error);
        log("warn", "audit_write_failed", { records: batch.length, retryInMs: pauseMs, err: error });
        await clock.sleep(pauseMs, closedAt ?? stopping.signal);
        pauseMs = Math.min(pauseMs * 2, LONGEST_RETRY_MS);
      }
    }
  }

  // One bad entry must not hold up the others.
  async function writeEach(batch: AuditEntry[]): Promise<void> {
    for (const entry of batch) await write([entry]);
  }

  function giveUp(batch: AuditEntry[], error: unknown): void {
    log("error", "audit_lost", { records: batch.map(({ id, event }) => ({ id, event })), err: error });
  }
}

function outOfTime(): BrokerError {
  return new BrokerError("unavailable", { what: "database", passing: true });
}

function abortOf(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
