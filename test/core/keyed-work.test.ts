import { expect, test } from "vitest";
import { createKeyedWork } from "../../src/core/keyed-work.ts";

const MINUTE = 60_000;

const codeOf = (work: () => unknown) => {
  try {
    work();
    return "done";
  } catch (error) {
    return (error as { details: { reason: string } }).details.reason;
  }
};

/** Places for a minute, and a clock that a test moves. */
function createDesk() {
  const state = { now: 1_000_000 };
  const take = createKeyedWork(() => state.now, { perCaller: 2, perProcess: 3 });
  return { state, enter: (caller: string) => take(caller, state.now + MINUTE) };
}

test("a caller has its places, the process has its own, and each is given back once", () => {
  const { enter } = createDesk();
  const [first, second] = [enter("ann"), enter("ann")];
  expect(codeOf(() => enter("ann"))).toBe("caller_busy");
  const bobs = enter("bob");
  expect(codeOf(() => enter("bob"))).toBe("process_busy");
  // A refusal takes no place, and who gives one back twice gives back one.
  first.leave();
  first.leave();
  const third = enter("ann");
  expect(codeOf(() => enter("ann"))).toBe("caller_busy");
  expect(codeOf(() => enter("bob"))).toBe("process_busy");
  for (const { leave } of [second, third, bobs]) leave();
  enter("cy");
  enter("cy");
  expect(codeOf(() => enter("bob"))).toBe("done");
});

test("a place that nobody gives back is another's when its time is over, and not before", () => {
  const { state, enter } = createDesk();
  enter("ann");
  enter("ann");
  enter("bob");
  state.now += MINUTE - 1;
  expect(codeOf(() => enter("ann"))).toBe("caller_busy");
  expect(codeOf(() => enter("bob"))).toBe("process_busy");
  state.now += 1;
  expect([1, 2, 3].map(() => codeOf(() => enter("cy")))).toEqual(["done", "done", "caller_busy"]);
  expect(codeOf(() => enter("ann"))).toBe("done");
});

test("a place that is renewed stays, however long its turn takes", () => {
  const { state, enter } = createDesk();
  const places = [enter("ann"), enter("ann")];
  for (let round = 0; round < 10; round++) {
    state.now += MINUTE - 1;
    for (const { renew } of places) renew(state.now + MINUTE);
  }
  expect(codeOf(() => enter("ann"))).toBe("caller_busy");
});

test("one that is renewed too late counts again, and one that was given back does not", () => {
  const { state, enter } = createDesk();
  const [late, left] = [enter("ann"), enter("ann")];
  state.now += MINUTE;
  enter("ann");
  left.leave();
  for (const { renew } of [late, left]) renew(state.now + MINUTE);
  expect(codeOf(() => enter("ann"))).toBe("caller_busy");
  late.leave();
  expect(codeOf(() => enter("ann"))).toBe("done");
});
