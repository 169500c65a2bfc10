import { expect, test } from "vitest";
import { createKeyedWork } from "../../src/core/keyed-work.ts";

const codeOf = (work: () => unknown) => {
  try {
    work();
    return "done";
  } catch (error) {
    return (error as { details: { reason: string } }).details.reason;
  }
};

test("a caller has its places, the process has its own, and each is given back once", () => {
  const enter = createKeyedWork({ perCaller: 2, perProcess: 3 });
  const [first, second] = [enter("ann"), enter("ann")];
  expect(codeOf(() => enter("ann"))).toBe("caller_busy");
  const bobs = enter("bob");
  expect(codeOf(() => enter("bob"))).toBe("process_busy");
  // A refusal takes no place, and who gives one back twice gives back one.
  first();
  first();
  const third = enter("ann");
  expect(codeOf(() => enter("ann"))).toBe("caller_busy");
  expect(codeOf(() => enter("bob"))).toBe("process_busy");
  for (const leave of [second, third, bobs]) leave();
  enter("cy");
  enter("cy");
  expect(codeOf(() => enter("bob"))).toBe("done");
});
