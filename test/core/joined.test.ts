import { expect, test } from "vitest";
import { createUnderWay } from "../../src/core/joined.ts";
import { scriptedClock } from "../helpers/scripted-clock.ts";

const MINUTE = 60_000;
const never = () => new Promise<string>(() => {});

/** Shared work whose every beginning is counted, and is what the test says. */
function createDesk({ cutsAfterMs }: { cutsAfterMs?: number } = {}) {
  const moved = scriptedClock(1_000_000);
  const clock = cutsAfterMs === undefined ? moved : { ...moved, cutsAfterMs };
  const underWay = createUnderWay<string, string>(clock);
  const state = { begun: 0 };
  const ask = (work: () => Promise<string>, key = "k", withinMs = MINUTE) =>
    underWay.join(key, {
      begin: () => {
        state.begun++;
        return work();
      },
      withinMs,
    });
  return { ask, state, advance: moved.advance };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("of all who want the same at once one does it, and its end or failure is theirs", async () => {
  const { ask, state } = createDesk();
  const work = Promise.withResolvers<string>();
  const all = Array.from({ length: 100 }, () => ask(() => work.promise));
  const other = ask(async () => "another", "other");
  work.resolve("done");
  expect(new Set(await Promise.all(all))).toEqual(new Set(["done"]));
  expect(await other).toBe("another");
  expect(state.begun).toBe(2);
  const broken = Promise.withResolvers<string>();
  const both = [ask(() => broken.promise), ask(() => broken.promise)];
  broken.reject(new Error("away"));
  for (const each of both) await expect(each).rejects.toThrow("away");
  expect(await ask(async () => "again")).toBe("again");
});

test("work that never ends is begun anew for those who wait, once, when its time is over", async () => {
  const { ask, state, advance } = createDesk();
  void ask(never);
  const waiting = Array.from({ length: 100 }, () => ask(async () => "anew"));
  advance(MINUTE - 1);
  await settled();
  expect(state.begun).toBe(1);
  advance(1);
  expect(new Set(await Promise.all(waiting))).toEqual(new Set(["anew"]));
  expect(state.begun).toBe(2);
});

test("whoever comes after its time does not wait for it at all", async () => {
  const { ask, advance } = createDesk();
  void ask(never);
  advance(MINUTE);
  const late = ask(async () => "anew");
  advance(0);
  expect(await late).toBe("anew");
});

test("where a runtime ends what a request began, its time is shorter; and what takes longer is not shortened elsewhere", async () => {
  const { ask, state, advance } = createDesk({ cutsAfterMs: 25_000 });
  void ask(never);
  const waiting = ask(async () => "anew");
  advance(25_000);
  expect(await waiting).toBe("anew");
  expect(state.begun).toBe(2);

  const node = createDesk();
  const work = Promise.withResolvers<string>();
  const first = node.ask(() => work.promise, "k", 5 * MINUTE);
  const second = node.ask(never, "k", 5 * MINUTE);
  node.advance(5 * MINUTE - 1);
  work.resolve("slow");
  expect([await first, await second]).toEqual(["slow", "slow"]);
});

test("what is slow and no more is good for all who waited for it, and takes nothing from what was begun instead", async () => {
  const { ask, state, advance } = createDesk();
  const slow = Promise.withResolvers<string>();
  const first = ask(() => slow.promise);
  const anew = Promise.withResolvers<string>();
  const waiting = [ask(() => anew.promise), ask(never), ask(never)];
  advance(MINUTE);
  await settled();
  expect(state.begun).toBe(2);
  const later = ask(never);
  advance(MINUTE - 1);
  slow.resolve("slow");
  expect(await Promise.all([first, ...waiting])).toEqual(Array(4).fill("slow"));
  // What came later waits for the newer one alone.
  anew.resolve("new");
  expect(await later).toBe("new");
  expect(state.begun).toBe(2);
});

test("the wait of one who has what it wanted leaves no timer behind", async () => {
  const moved = scriptedClock();
  let timers = 0;
  const sleep = async (ms: number, signal?: AbortSignal) => {
    timers++;
    await moved.sleep(ms, signal);
    timers--;
  };
  const underWay = createUnderWay<string, string>({ ...moved, sleep });
  const work = Promise.withResolvers<string>();
  const how = { begin: () => work.promise, withinMs: MINUTE };
  const first = underWay.join("k", how);
  expect(timers).toBe(0);
  const second = underWay.join("k", how);
  expect(timers).toBe(1);
  work.resolve("done");
  expect([await first, await second]).toEqual(["done", "done"]);
  await settled();
  expect(timers).toBe(0);
});
