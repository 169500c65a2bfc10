import { expect, test } from "vitest";
import type { AuditEntry } from "../../src/core/audit.ts";
import { BrokerError } from "../../src/core/errors.ts";
import { createBackgroundAudit } from "../../src/store/audit-background.ts";
import { entry } from "./things.ts";

function createTest(append: (entries: AuditEntry[]) => Promise<void>, mode: "batched" | "sync" = "batched") {
  const kept: Promise<unknown>[] = [];
  const logs: string[] = [];
  const audit = createBackgroundAudit(
    { append },
    {
      mode,
      keep: (work) => (kept.push(work), work),
      clock: { sleep: async () => {} },
      log: (_, event) => logs.push(event),
    },
  );
  return { audit, kept, logs, settled: () => Promise.all(kept) };
}

const away = () => new BrokerError("unavailable", { what: "database", passing: true });

test("a record is written beside the answer, and the runtime is told of it", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const written: AuditEntry[] = [];
  const { audit, settled, kept } = createTest(async (entries) => {
    await promise;
    written.push(...entries);
  });
  const record = entry("p", "tool_called");
  await audit.record(record);
  expect([written, kept.length]).toEqual([[], 1]);
  resolve();
  await settled();
  expect(written).toEqual([record]);
});

test("while the database is away it is tried again, and given up in the log alone", async () => {
  let left = 2;
  const tried: string[] = [];
  const { audit, settled, logs } = createTest(async ([first]) => {
    tried.push(first?.id ?? "");
    if (left-- > 0) throw away();
  });
  await audit.record(entry("p", "tool_called"));
  await settled();
  expect([tried.length, logs]).toEqual([3, ["audit_write_failed", "audit_write_failed"]]);
  left = Infinity;
  await audit.record(entry("p", "tool_called"));
  await settled();
  expect(logs.at(-1)).toBe("audit_lost");
});

test("what the database refuses is not tried again", async () => {
  const { audit, settled, logs } = createTest(async () => {
    throw new Error("SQLITE_CONSTRAINT");
  });
  await audit.record(entry("p", "tool_called"));
  await settled();
  expect(logs).toEqual(["audit_lost"]);
});

test("with `sync` the answer waits for its record, and fails with it", async () => {
  const { audit } = createTest(async () => {
    throw away();
  }, "sync");
  await expect(audit.record(entry("p", "tool_called"))).rejects.toThrow(BrokerError);
});
