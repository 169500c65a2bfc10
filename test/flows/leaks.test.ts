// The soak of `npm run bench -- --soak`, in short: calls of two dozen kinds, and what they leave behind.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SOURCES } from "../../bench/broker.ts";
import { soak } from "../../bench/soak.ts";
import type { Reading } from "../../bench/soak-readings.ts";
import { leaksOf } from "../../bench/soak-verdict.ts";

const CALLS = 1_200;
/** Half of the calls is some twenty rounds of every kind. Code and caches still warm up. */
const ALLOWED = { memoryMiB: 6, rssMiB: 80, handles: 12 };

const onLinux = process.platform === "linux";

describe.runIf(onLinux)("calls of two dozen kinds", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "consentry-leaks-"));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  test("leave no socket, timer, memory or row behind but what is remembered by design", async () => {
    const [middle, end] = await soak(SOURCES, { folder, calls: CALLS, readAt: [0.5, 1] });
    if (!middle || !end) throw new Error("nothing was read");
    expect(end.calls).toBeGreaterThanOrEqual(CALLS);
    expect(leaksOf(middle, end, ALLOWED)).toEqual([]);
  }, 240_000);
});

describe("what a soak complains of", () => {
  const reading: Reading = {
    calls: 1,
    rssMiB: 100,
    heapMiB: 40,
    externalMiB: 5,
    handles: { Timeout: 1 },
    files: { socket: 4 },
    rows: { audit: 10, users: 3 },
  };
  const after = (changed: Partial<Reading>) => leaksOf(reading, { ...reading, ...changed });

  test("is nothing where nothing grew, or what is kept of each call alone", () => {
    expect(after({ rows: { audit: 10_000, users: 3 }, heapMiB: 43 })).toEqual([]);
  });

  test.each<[string, Partial<Reading>]>([
    ["heap, MiB: 40, then 45", { heapMiB: 45 }],
    ["external memory, MiB: 5, then 10", { externalMiB: 10 }],
    ["resident memory, MiB: 100, then 130", { rssMiB: 130 }],
    ["handles Timeout: 1, then 40", { handles: { Timeout: 40 } }],
    ["open files socket: 4, then 40", { files: { socket: 40 } }],
    ["rows of users: 3, then 4", { rows: { audit: 10, users: 4 } }],
    ["rows of handles: 0, then 1", { rows: { handles: 1 } }],
  ])("%s", (said, changed) => {
    expect(after(changed)).toEqual([said]);
  });
});
