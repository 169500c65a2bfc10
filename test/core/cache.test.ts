import { expect, test } from "vitest";
import { createCache } from "../../src/core/cache.ts";

test("the one used longest ago leaves first, and each when its time is over", () => {
  let now = 0;
  const cache = createCache<number>({ max: 2, now: () => now });
  cache.set("a", 1, { ttlMs: 100 });
  cache.set("b", 2, { ttlMs: 10 });
  expect(cache.get("a")).toBe(1);
  cache.set("c", 3, { ttlMs: 100 });
  expect([cache.get("a"), cache.get("b"), cache.get("c")]).toEqual([1, undefined, 3]);
  now = 100;
  expect(cache.get("a")).toBeUndefined();
});

test("weights together stay within the bound, also when an entry is replaced or has ended", () => {
  let now = 0;
  const cache = createCache<string>({ max: 100, maxWeight: 10, now: () => now });
  cache.set("a", "a", { ttlMs: 10, weight: 6 });
  cache.set("a", "a", { ttlMs: 10, weight: 4 });
  cache.set("b", "b", { ttlMs: 10, weight: 6 });
  expect([cache.get("a"), cache.get("b")]).toEqual(["a", "b"]);
  cache.set("c", "c", { ttlMs: 10, weight: 1 });
  expect([cache.get("a"), cache.get("b"), cache.get("c")]).toEqual([undefined, "b", "c"]);
  cache.set("heavy", "heavy", { ttlMs: 10, weight: 11 });
  expect([cache.get("heavy"), cache.get("b")]).toEqual([undefined, "b"]);
  now = 20;
  expect(cache.get("b")).toBeUndefined();
  cache.set("d", "d", { ttlMs: 10, weight: 9 });
  expect(cache.get("d")).toBe("d");
});

test("what is read again and again stays, however much comes and goes meanwhile", () => {
  const cache = createCache<number>({ max: 10, now: () => 0 });
  cache.set("used", 1, { ttlMs: 100 });
  for (let n = 0; n < 1_000; n += 4) {
    for (const more of [0, 1, 2, 3]) cache.set(`other ${n + more}`, n, { ttlMs: 100 });
    expect(cache.get("used")).toBe(1);
  }
});
