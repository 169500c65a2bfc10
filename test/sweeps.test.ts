import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseConfig } from "../src/config.ts";
import type { Log } from "../src/core/ports.ts";
import { start } from "../src/node.ts";
import { startSweeps } from "../src/sweeps.ts";

/** A clock whose waits end when the test says so. */
function scriptedClock() {
  const waits: { ms: number; end: () => void }[] = [];
  let asked: () => void = () => {};
  return {
    now: () => 0,
    sleep: (ms: number, signal?: AbortSignal) =>
      new Promise<void>((resolve) => {
        waits.push({ ms, end: resolve });
        signal?.addEventListener("abort", () => resolve(), { once: true });
        asked();
      }),
    /** Resolves with the length of the next wait. */
    waiting: async () => {
      if (waits.length === 0) await new Promise<void>((resolve) => (asked = resolve));
      const wait = waits.shift();
      if (!wait) throw new Error("nobody waits");
      return wait;
    },
  };
}

test("every job has its turn at once and every ten minutes, whatever comes of the others", async () => {
  const clock = scriptedClock();
  const logs: [string, unknown][] = [];
  const log: Log = (_, event, fields) => logs.push([event, fields?.["job"]]);
  const turns: string[] = [];
  const sweeps = startSweeps(
    { clock, log },
    {
      broken: async () => {
        turns.push("broken");
        throw new Error("out of order");
      },
      sound: async () => void turns.push("sound"),
    },
  );
  const first = await clock.waiting();
  expect(first.ms).toBe(600_000);
  expect(turns).toEqual(["broken", "sound"]);
  first.end();
  await clock.waiting();
  expect(turns).toEqual(["broken", "sound", "broken", "sound"]);
  expect(logs).toEqual([
    ["sweep_failed", "broken"],
    ["sweep_failed", "broken"],
  ]);
  await sweeps.stop();
  expect(turns).toHaveLength(4);
});

test("a stop waits for the round under way and begins no other", async () => {
  const turns: string[] = [];
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const sweeps = startSweeps(
    { clock: scriptedClock(), log: () => {} },
    {
      slow: async () => {
        await released;
        turns.push("slow");
      },
    },
  );
  const stopped = sweeps.stop();
  release();
  await stopped;
  expect(turns).toEqual(["slow"]);
});

test("a start sweeps away the handles that have expired, and no others", async () => {
  const folder = await mkdtemp(join(tmpdir(), "consentry-sweeps-"));
  const env = {
    CONSENTRY_PORT: "0",
    CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
    CONSENTRY_ADMIN_KEY: "of-a-test",
  };
  const silent = { log: () => {} };
  const handle = (hash: string, expiresAt: number) => ({
    kind: "sign_in" as const,
    hash,
    project: "default",
    subject: "x",
    browserHash: null,
    sealed: null,
    createdAt: 1,
    expiresAt,
  });
  const first = await start(parseConfig(env), silent);
  await first.world.store.handles.put(handle("old", 2), []);
  await first.world.store.handles.put(handle("young", Date.now() + 600_000), []);
  await first.stop();
  const second = await start(parseConfig(env), silent);
  const isThere = async (hash: string) => (await second.world.store.handles.get("sign_in", hash, 0)) !== null;
  await expect.poll(() => isThere("old")).toBe(false);
  expect(await isThere("young")).toBe(true);
  await second.stop();
  await rm(folder, { recursive: true, force: true });
});

test("a start makes the next signing key when it is time, without anybody's request, and ends old ones", async () => {
  const folder = await mkdtemp(join(tmpdir(), "consentry-sweeps-"));
  const env = {
    CONSENTRY_PORT: "0",
    CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
    CONSENTRY_ADMIN_KEY: "of-a-test",
  };
  const DAY_MS = 24 * 60 * 60 * 1000;
  const startAfter = (days: number) =>
    start(parseConfig(env), {
      log: () => {},
      clock: { now: () => Date.now() + days * DAY_MS, sleep: scriptedClock().sleep },
    });
  const seqsOf = async ({ world }: Awaited<ReturnType<typeof start>>) =>
    (await world.store.signingKeys.list("workload")).map(({ seq }) => seq);

  const first = await startAfter(0);
  expect(await seqsOf(first)).toEqual([]);
  await first.world.workload.jwks();
  await first.stop();
  for (const [days, expected] of [
    [20, [1]],
    [29.5, [1, 2]],
    [32, [2]],
  ] as const) {
    const later = await startAfter(days);
    await expect.poll(() => seqsOf(later)).toEqual(expected);
    await later.stop();
  }
  await rm(folder, { recursive: true, force: true });
});
