import { expect, test } from "vitest";
import type { BackgroundState } from "../../src/core/background.ts";
import { createWatch } from "../../src/core/background-watch.ts";
import { createBells } from "../../src/core/bells.ts";
import { scriptedClock } from "../helpers/scripted-clock.ts";

const ID = "resp_1";
const state: BackgroundState = { status: "running", batches: 3, leaseUntil: 0 };

test("who follows a response together with one whose look ended with its request looks again", async () => {
  const moved = scriptedClock();
  let isEnded = false;
  const sleep: typeof moved.sleep = (ms, signal) =>
    isEnded ? new Promise(() => {}) : moved.sleep(ms, signal);
  const clock = { ...moved, sleep, cutsAfterMs: 25_000 };
  let looks = 0;
  const look = async () => {
    looks++;
    return state;
  };
  const watch = createWatch(clock, createBells(clock), look);
  isEnded = true;
  void watch("p", ID, { batches: 0 }).next();
  isEnded = false;
  const others = [watch("p", ID, { batches: 0 }).next(), watch("p", ID, { batches: 0 }).next()];
  moved.advance(24_999);
  await new Promise((resolve) => setImmediate(resolve));
  expect(looks).toBe(0);
  moved.advance(1);
  await new Promise((resolve) => setImmediate(resolve));
  moved.advance(200);
  expect(await Promise.all(others)).toEqual([state, state]);
  expect(looks).toBe(1);
});
