// In workerd: what a request has begun, when it is answered and another request waits for the same.
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { TestHarness } from "wrangler";

let harness: TestHarness;
let url: URL;

beforeAll(async () => {
  const { createTestHarness } = await import("wrangler");
  const config = {
    name: "life",
    main: join(import.meta.dirname, "../helpers/life-worker.ts"),
    compatibility_date: "2026-10-01",
    compatibility_flags: ["nodejs_als"],
    send_metrics: false,
  };
  harness = createTestHarness({ workers: [{ config }] });
  ({ url } = await harness.listen());
}, 120_000);
afterAll(() => harness.close());

const ask = async (path: string) => (await fetch(new URL(path, url))).text();

test.each(["/kept", "/kept-on"])("%s: it goes on, and comes to its end for both", async (path) => {
  await ask(path);
  expect(await ask("/wait")).toBe("done");
});

// This is why the door does it at all. Should it fail one day, the runtime has become kinder.
test("what nobody keeps is ended with its request, without a word to who waits", async () => {
  await ask("/forgotten");
  expect(await ask("/wait")).toBe("never");
});

test("whoever waits for what was ended so has it anew", async () => {
  await ask("/begun");
  expect(await Promise.all(Array.from({ length: 5 }, () => ask("/joined")))).toEqual(Array(5).fill("anew"));
});
