import { expect, test } from "vitest";
import { createUnderWay } from "../../src/core/joined.ts";
import { scriptedClock } from "../helpers/scripted-clock.ts";

const MINUTE = 60_000;
const never = () => new Promise<string>(() => {});

/** Shared work whose every beginning is counted, and is what the test says. `cutsAfterMs`: null where nothing is cut off. */
function createDesk(cutsAfterMs: number | null = 2 * MINUTE) {
  const moved = scriptedClock(1_000_000);
  const clock = cutsAfterMs === null ? moved : { ...moved, cutsAfterMs };
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

test("a runtime that ends what a request began shortens its time", async () => {
  const { ask, state, advance } = createDesk(25_000);
  void ask(never);
  const waiting = ask(async () => "anew");
  advance(25_000);
  expect(await waiting).toBe("anew");
  expect(state.begun).toBe(2);
});

test("where nothing is cut off, a clock that jumps begins nothing beside what is under way", async () => {
  const { ask, state, advance } = createDesk(null);
  const work = Promise.withResolvers<string>();
  const first = ask(() => work.promise);
  const second = ask(never);
  // A laptop that was asleep.
  advance(8 * 60 * MINUTE);
  const third = ask(never);
  await settled();
  work.resolve("slow");
  expect(await Promise.all([first, second, third])).toEqual(["slow", "slow", "slow"]);
  expect(state.begun).toBe(1);
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
  const underWay = createUnderWay<string, string>({ ...moved, sleep, cutsAfterMs: MINUTE });
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
