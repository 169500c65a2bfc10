import { expect, test } from "vitest";
import { createSharedWork } from "../../src/core/shared-work.ts";
import { scriptedClock } from "../helpers/scripted-clock.ts";

const MINUTE = 60_000;

function createDesk() {
  const clock = { ...scriptedClock(), cutsAfterMs: MINUTE };
  const keepMs = (outcome: string) => (outcome === "good" ? MINUTE : 0);
  const share = createSharedWork<string>({ max: 10, clock, withinMs: MINUTE, keepMs });
  const state = { done: 0 };
  const ask = (outcome: string, key = "k") =>
    share(key, async () => {
      state.done++;
      return outcome;
    });
  return { share, ask, state, advance: clock.advance };
}

test("what came of it is believed by those who come later, as long as it says and no longer", async () => {
  const { ask, state, advance } = createDesk();
  expect(await Promise.all([ask("good"), ask("other"), ask("own", "another")])).toEqual([
    "good",
    "good",
    "own",
  ]);
  advance(MINUTE - 1);
  expect(await ask("other")).toBe("good");
  advance(1);
  expect(await ask("bad")).toBe("bad");
  expect(await ask("good")).toBe("good");
  expect(state.done).toBe(4);
});

test("what was begun earlier and lands later replaces nothing", async () => {
  const { share, ask, advance } = createDesk();
  const slow = Promise.withResolvers<string>();
  const early = share("k", () => slow.promise);
  advance(MINUTE);
  const late = ask("good");
  advance(0);
  expect(await late).toBe("good");
  slow.resolve("old");
  expect(await early).toBe("old");
  expect(await ask("other")).toBe("good");
});

test("what never ends is done anew for those who wait, once", async () => {
  const { share, ask, state, advance } = createDesk();
  void share("k", () => new Promise(() => {}));
  const waiting = [ask("good"), ask("good")];
  advance(MINUTE);
  expect(await Promise.all(waiting)).toEqual(["good", "good"]);
  expect(state.done).toBe(1);
});
