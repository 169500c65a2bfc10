import { expect, test } from "vitest";
import type { AuditEntry } from "../../src/core/audit.ts";
import { BrokerError } from "../../src/core/errors.ts";
import { createAuditQueue } from "../../src/store/audit-queue.ts";
import { onEveryEngine } from "./engines.ts";
import { EVERYTHING, entry, newProject } from "./things.ts";

const unavailable = () => new BrokerError("unavailable", { what: "database" });

/** A clock whose sleepers wake when the test says so, and an audit that fails when the test says so. */
function createBench(options: { mode?: "batched" | "sync"; capacity?: number; closeWithinMs?: number } = {}) {
  const written: AuditEntry[][] = [];
  const sleeps: number[] = [];
  const logged: { level: string; event: string; fields: Record<string, unknown> | undefined }[] = [];
  let wake: (() => void)[] = [];
  let fault: ((batch: AuditEntry[]) => Error | null) | null = null;
  const queue = createAuditQueue(
    {
      append: async (batch) => {
        const error = fault?.(batch);
        if (error) throw error;
        written.push(batch);
      },
    },
    {
      mode: "batched",
      ...options,
      log: (level, event, fields) => logged.push({ level, event, fields }),
      clock: {
        sleep: (ms, signal) => {
          sleeps.push(ms);
          if (signal?.aborted) return Promise.resolve();
          return new Promise<void>((resolve) => {
            wake.push(resolve);
            signal?.addEventListener("abort", () => resolve());
          });
        },
      },
    },
  );
  return {
    queue,
    written,
    sleeps,
    logged,
    fail: (next: typeof fault) => (fault = next),
    /** Lets every sleeper go on, and what follows from it happen. */
    tick: async () => {
      for (const resume of wake.splice(0)) resume();
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

const entries = (count: number) => Array.from({ length: count }, () => entry("p", "tool_called"));

test("records are kept back for at most 50 ms and written together, in their order", async () => {
  const { queue, written, sleeps, tick } = createBench();
  const all = entries(250);
  for (const each of all) await queue.record(each);
  expect(written).toEqual([]);
  expect(sleeps).toEqual([50]);
  await tick();
  expect(written.map((batch) => batch.length)).toEqual([100, 100, 50]);
  expect(written.flat()).toEqual(all);
  await queue.record(entry("p", "tool_called"));
  expect(sleeps).toEqual([50, 50]);
});

test("sync: a record is written before it resolves, and a failing database fails the caller", async () => {
  const { queue, written, fail } = createBench({ mode: "sync" });
  const [first, second] = entries(2);
  if (!first || !second) throw new Error("two entries");
  await queue.record(first);
  expect(written).toEqual([[first]]);
  fail(unavailable);
  await expect(queue.record(second)).rejects.toThrow("unavailable");
});

test("a full queue makes callers wait and drops nothing", async () => {
  const { queue, written, tick } = createBench({ capacity: 3 });
  const all = entries(5);
  let recorded = 0;
  const records = all.map((each) => queue.record(each).then(() => recorded++));
  await new Promise((resolve) => setImmediate(resolve));
  expect(recorded).toBe(3);
  await tick();
  await tick();
  await Promise.all(records);
  await queue.close();
  expect(written.flat()).toEqual(all);
});

test("a failed batch is reported and tried again, with growing pauses, until it is written once", async () => {
  const { queue, written, sleeps, logged, fail, tick } = createBench();
  const all = entries(2);
  fail(unavailable);
  for (const each of all) await queue.record(each);
  for (let round = 0; round < 9; round++) await tick();
  expect(sleeps).toEqual([50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
  expect(logged).toHaveLength(9);
  expect(logged[0]).toMatchObject({ level: "warn", event: "audit_write_failed", fields: { records: 2 } });
  fail(null);
  await tick();
  expect(written).toEqual([all]);
});

test("one record that the database refuses does not hold up the others", async () => {
  const { queue, written, logged, fail, tick } = createBench();
  const all = entries(3);
  const bad = all[1];
  if (!bad) throw new Error("three entries");
  fail((batch) => (batch.includes(bad) ? new Error("refused") : null));
  for (const each of all) await queue.record(each);
  await tick();
  expect(written.flat()).toEqual([all[0], all[2]]);
  expect(logged).toEqual([
    {
      level: "error",
      event: "audit_lost",
      fields: { records: [{ id: bad.id, event: "tool_called" }], err: new Error("refused") },
    },
  ]);
});

test("closing writes what waits at once", async () => {
  const { queue, written } = createBench();
  const all = entries(150);
  for (const each of all) await queue.record(each);
  await queue.close();
  expect(written.flat()).toEqual(all);
});

test("closing gives up in the end and says what was lost", async () => {
  const { queue, logged, fail } = createBench({ closeWithinMs: 1 });
  const [lost] = entries(1);
  if (!lost) throw new Error("one entry");
  fail(unavailable);
  await queue.record(lost);
  await queue.close();
  expect(logged.at(-1)).toMatchObject({
    level: "error",
    event: "audit_lost",
    fields: { records: [{ id: lost.id }] },
  });
});

test("closing does not wait for a database that says nothing, and says what was lost, once", async () => {
  const logged: { event: string; fields: Record<string, unknown> | undefined }[] = [];
  const silence = Promise.withResolvers<void>();
  const all = entries(150);
  const queue = createAuditQueue(
    { append: () => silence.promise },
    {
      mode: "batched",
      capacity: 150,
      closeWithinMs: 20,
      clock: { sleep: async () => {} },
      log: (_, event, fields) => logged.push({ event, fields }),
    },
  );
  for (const each of all) await queue.record(each);
  // One waits for room, one comes when all is over.
  const [last, late] = [entry("p", "tool_called"), entry("p", "tool_called")];
  const waiting = queue.record(last);
  await queue.close();
  await waiting;
  await queue.record(late);
  silence.reject(unavailable());
  await new Promise((resolve) => setImmediate(resolve));
  const lost = logged.map(({ event, fields }) => ({ event, records: fields?.["records"] }));
  const saying = (records: AuditEntry[]) => ({
    event: "audit_lost",
    records: records.map(({ id, event }) => ({ id, event })),
  });
  expect(lost).toEqual([saying(all), saying([last]), saying([late])]);
});

onEveryEngine("the audit queue", (replicas) => {
  test("what was recorded is in the audit when the queue has closed", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const clock = { sleep: () => new Promise<void>((resolve) => setImmediate(resolve)) };
    const queue = createAuditQueue(a.audit, { mode: "batched", clock, log: () => {} });
    const all = Array.from({ length: 333 }, () => entry(project, "tool_called"));
    await Promise.all(all.map((each) => queue.record(each)));
    await queue.close();
    expect((await b.audit.list(project, {}, EVERYTHING)).rows).toEqual(all.toReversed());
  });
});
