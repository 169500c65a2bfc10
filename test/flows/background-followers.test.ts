import { afterEach, beforeEach, expect, test } from "vitest";
import { type BackgroundStage, client, createBackgroundStage, tools } from "../helpers/background.ts";
import { call, type TestWorld } from "../helpers/world.ts";

let stage: BackgroundStage;

beforeEach(async () => {
  stage = await createBackgroundStage();
});
afterEach(() => stage.stop());

const body = (text: string) => ({
  background: true as const,
  tools,
  input: [call("work", "work", { text }, text)],
});

/** A response whose tool runs until `finish`. */
async function running(a: TestWorld) {
  const { promise, resolve: finish } = Promise.withResolvers<void>();
  stage.during = () => promise;
  const { id } = await client(a.url).responses.create(body("x"));
  await expect.poll(() => stage.runs.size).toBe(1);
  return { id, finish };
}

/** So many who follow it, each of whom has seen that its call has begun; `ends`: the last event of each. */
async function follow(a: TestWorld, id: string, many: number) {
  const openai = client(a.url);
  const streams = await Promise.all(
    Array.from({ length: many }, () => openai.responses.retrieve(id, { stream: true })),
  );
  const begun = streams.map(() => Promise.withResolvers<void>());
  const ends = streams.map(async (stream, at) => {
    let last = "";
    for await (const { type } of stream) {
      last = type;
      if (type === "response.mcp_call_arguments.done") begun[at]?.resolve();
    }
    return last;
  });
  await Promise.all(begun.map(({ promise }) => promise));
  return { ends, leave: (at: number) => streams[at]?.controller.abort() };
}

test("forty who follow one that is silent look together, and none reads the response anew", async () => {
  const a = await stage.replica();
  const { id, finish } = await running(a);
  const { ends } = await follow(a, id, 40);
  const { background } = a.world.store;
  const { get, state, batches } = background;
  const read = { response: 0, state: 0, batches: 0 };
  background.get = (...args) => (read.response++, get(...args));
  background.state = (...args) => (read.state++, state(...args));
  background.batches = (...args) => (read.batches++, batches(...args));
  await expect.poll(() => read.state, { timeout: 10_000 }).toBeGreaterThan(1);
  expect(read.state).toBeLessThan(5);
  expect(read).toMatchObject({ response: 0, batches: 0 });
  finish();
  expect(new Set(await Promise.all(ends))).toEqual(new Set(["response.completed"]));
}, 30_000);

test("those at another replica see it go on, and one who leaves takes nothing from the others", async () => {
  const a = await stage.replica();
  const b = await stage.replica();
  const { id, finish } = await running(a);
  const { ends, leave } = await follow(b, id, 3);
  leave(0);
  finish();
  expect((await Promise.allSettled(ends)).slice(1)).toEqual([
    { status: "fulfilled", value: "response.completed" },
    { status: "fulfilled", value: "response.completed" },
  ]);
}, 30_000);

test("a caller follows so many and no more, begins nothing then, and has the place of one that left", async () => {
  const a = await stage.replica();
  const { id, finish } = await running(a);
  const { ends, leave } = await follow(a, id, 128);
  const openai = client(a.url);
  const refused = { status: 429, code: "too_many_followers" };
  await expect(openai.responses.retrieve(id, { stream: true })).rejects.toMatchObject(refused);
  const another = { ...body("y"), stream: true as const };
  await expect(openai.responses.create(another)).rejects.toMatchObject(refused);
  expect(stage.runs.has("y")).toBe(false);
  // Another caller has places of its own, and whoever asks without a stream needs none.
  await expect(a.runtime().then((it) => it.responses.retrieve(id, { stream: true }))).rejects.toMatchObject({
    status: 404,
  });
  expect((await openai.responses.retrieve(id)).status).toBe("in_progress");
  leave(0);
  const again = async () => (await follow(a, id, 1)).ends;
  await expect.poll(() => again().then(() => "follows", String), { timeout: 10_000 }).toBe("follows");
  finish();
  await Promise.allSettled(ends);
  let last = "";
  for await (const { type } of await openai.responses.create(another)) last = type;
  expect(last).toBe("response.completed");
}, 60_000);

test("whoever is refused, or finds nothing, keeps no place", async () => {
  const a = await stage.replica();
  const openai = client(a.url);
  const unknown = `resp_${"0".repeat(50)}`;
  const misses = Array.from({ length: 130 }, () =>
    openai.responses.retrieve(unknown, { stream: true }).catch(({ status }) => status),
  );
  await Promise.all(misses);
  await expect(openai.responses.retrieve(unknown, { stream: true })).rejects.toMatchObject({ status: 404 });
}, 30_000);
