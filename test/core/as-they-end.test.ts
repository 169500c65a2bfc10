import { expect, test } from "vitest";
import { asTheyEnd, asTheyGo } from "../../src/core/as-they-end.ts";
import { measureComputing } from "../helpers/computing.ts";

const collect = async <T>(found: AsyncGenerator<T>): Promise<T[]> => {
  const values: T[] = [];
  for await (const value of found) values.push(value);
  return values;
};

test("results come in the order in which tasks end, and no more run at once than may", async () => {
  let running = 0;
  let most = 0;
  const task = (name: string, turns: number) => async () => {
    most = Math.max(most, ++running);
    for (let turn = 0; turn < turns; turn++) await Promise.resolve();
    running--;
    return name;
  };
  const found = await collect(asTheyEnd([task("slow", 50), task("quick", 1), task("next", 1)], 2));
  expect(found).toEqual(["quick", "next", "slow"]);
  expect(most).toBe(2);
});

test("a fault is thrown in its turn, and what had not begun does not begin", async () => {
  let begun = 0;
  const tasks = Array.from({ length: 10 }, () => async () => {
    begun++;
    throw new Error("fault");
  });
  await expect(collect(asTheyEnd(tasks, 1))).rejects.toThrow("fault");
  expect(begun).toBeLessThan(10);
});

test("ten thousand tasks are no burden", async () => {
  const tasks = Array.from({ length: 10_000 }, (_, at) => async () => at);
  const computedMs = measureComputing();
  expect(await collect(asTheyEnd(tasks, 32))).toHaveLength(10_000);
  expect(computedMs()).toBeLessThan(2_000);
});

test("what a task says is heard while it runs, the newest of it by whoever reads slowly, and nothing after its end", async () => {
  const first = Promise.withResolvers<string>();
  const late: ((news: number) => void)[] = [];
  const talker = (tell: (news: number) => void) => {
    late.push(tell);
    tell(1);
    tell(2);
    return first.promise;
  };
  const going = asTheyGo<string, number>([talker, async () => "quick"], 2);
  expect((await going.next()).value).toEqual({ of: 0, news: 2 });
  expect((await going.next()).value).toEqual({ end: "quick" });
  const next = going.next();
  late[0]?.(3);
  expect((await next).value).toEqual({ of: 0, news: 3 });
  late[0]?.(4);
  first.resolve("over");
  await first.promise;
  await Promise.resolve();
  late[0]?.(5);
  expect((await going.next()).value).toEqual({ end: "over" });
  expect(await going.next()).toEqual({ done: true, value: undefined });
});
