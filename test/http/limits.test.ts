import { expect, test } from "vitest";
import { createLimits } from "../../src/http/limits.ts";

function createTest(perCaller: number, perAddress = 0) {
  let at = 0;
  const limits = createLimits({ perCaller, perAddress }, () => at);
  return { limits, advance: (ms: number) => (at += ms) };
}

test("so many in a minute, then the seconds to wait, and afterwards as many again", async () => {
  const { limits, advance } = createTest(2);
  expect([await limits.caller("a"), await limits.caller("a"), await limits.caller("a")]).toEqual([
    null,
    null,
    60,
  ]);
  advance(59_001);
  expect(await limits.caller("a")).toBe(1);
  advance(999);
  expect([await limits.caller("a"), await limits.caller("b")]).toEqual([null, null]);
});

test("0 is no limit", async () => {
  const { limits } = createTest(0);
  for (let n = 0; n < 1_000; n++) expect(await limits.caller("a")).toBeNull();
});

test("ever new addresses cost no more memory, and a caller's counter is not among theirs", async () => {
  const { limits } = createTest(1, 1);
  await limits.caller("a");
  await limits.stranger("192.0.2.1");
  for (let n = 0; n < 100_001; n++) await limits.stranger(`10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`);
  expect(await limits.stranger("192.0.2.1")).toBeNull();
  expect(await limits.caller("a")).toBe(60);
});
