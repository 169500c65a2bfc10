import { expect, test } from "vitest";
import { BrokerError } from "../../src/core/errors.ts";
import { untilKept } from "../../src/core/until-kept.ts";

/** A clock on which time passes only in tries and pauses. */
function createBench(tryMs: number) {
  let now = 0;
  const clock = { now: () => now, sleep: async (ms: number) => void (now += ms) };
  const fail = (error: Error) => {
    now += tryMs;
    throw error;
  };
  return { clock, fail, elapsed: () => now };
}

const unavailable = () => new BrokerError("unavailable", { what: "database", passing: true });

test("a first try that takes longer than all the time is not the only one", async () => {
  const { clock, fail } = createBench(35_000);
  const kept = await untilKept(clock, async (tries) => (tries === 1 ? fail(unavailable()) : tries));
  expect(kept).toBe(2);
});

test("a database that is silent for every try is given up after three", async () => {
  const { clock, fail } = createBench(35_000);
  let tried = 0;
  const keeping = untilKept(clock, async (tries) => {
    tried = tries;
    return fail(unavailable());
  });
  await expect(keeping).rejects.toMatchObject({ code: "unavailable" });
  expect(tried).toBe(3);
});

test("a database that says at once that it is away is asked for half a minute, and not for longer", async () => {
  const { clock, fail, elapsed } = createBench(0);
  await expect(untilKept(clock, async () => fail(unavailable()))).rejects.toMatchObject({
    code: "unavailable",
  });
  expect(elapsed()).toBe(30_000);
});

test("what the database refuses is not said to it again", async () => {
  const { clock, fail, elapsed } = createBench(0);
  await expect(untilKept(clock, async () => fail(new Error("refused")))).rejects.toThrow("refused");
  expect(elapsed()).toBe(0);
});
