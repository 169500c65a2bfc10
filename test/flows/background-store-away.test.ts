import { afterEach, beforeEach, expect, test } from "vitest";
import { BrokerError } from "../../src/core/errors.ts";
import {
  type BackgroundStage,
  client,
  createBackgroundStage,
  followed,
  polled,
  tools,
} from "../helpers/background.ts";
import { call, itemsOf } from "../helpers/world.ts";

let stage: BackgroundStage;

beforeEach(async () => {
  stage = await createBackgroundStage();
});
afterEach(() => stage.stop());

const isAway = () => new BrokerError("unavailable", { what: "database", passing: true });
const explicit = (...names: string[]) => ({
  background: true,
  tools,
  input: names.map((text) => call("work", "work", { text }, text)),
});
const outputs = async (url: string, id: string) =>
  itemsOf(await polled(url, id), "mcp_call").map(({ output }) => output);

test("away when a tool has answered: its answer is kept, and the call beside it goes on", async () => {
  const a = await stage.replica();
  const { background } = a.world.store;
  const { append } = background;
  const refused = Promise.withResolvers<void>();
  let refusals = 0;
  background.append = async (batch) => {
    if (refusals === 0) return append(batch);
    if (--refusals === 0) refused.resolve();
    throw isAway();
  };
  stage.during = (text) => {
    if (text === "slow") return refused.promise;
    refusals = 2;
  };
  const { id } = await client(a.url).responses.create(explicit("slow", "fast"));
  expect(await outputs(a.url, id)).toEqual(["worked slow", "worked fast"]);
  expect([...stage.runs.values()]).toEqual([1, 1]);
  await followed(a.url, id);
}, 60_000);

test("away for most of the lease, and there again: nothing is lost", async () => {
  const a = await stage.replica();
  const { background } = a.world.store;
  const { append } = background;
  let refusals = 0;
  background.append = async (batch) => {
    if (refusals === 0) return append(batch);
    refusals--;
    // The lease is thirty seconds, and was kept a moment ago.
    if (refusals === 0) a.advance(20_000);
    throw isAway();
  };
  stage.during = () => {
    refusals = 1;
  };
  const { id } = await client(a.url).responses.create(explicit("x"));
  expect(await outputs(a.url, id)).toEqual(["worked x"]);
  expect(a.logs.some(({ event }) => event === "background_taken_up")).toBe(false);
}, 60_000);

test("what was kept and not answered is not written twice, and is no reason to stop", async () => {
  const a = await stage.replica();
  const { background } = a.world.store;
  const { append } = background;
  const lost = new Set<number>();
  background.append = async (batch) => {
    const answer = await append(batch);
    if (lost.has(batch.seq)) return answer;
    lost.add(batch.seq);
    throw isAway();
  };
  stage.script = (request) =>
    JSON.stringify(request.messages).includes("worked")
      ? { text: ["It ", "worked."] }
      : { calls: [{ name: "work__work", arguments: { text: "x" } }] };
  const body = { model: "m", tools, background: true, input: "go" };
  const { id } = await client(a.url).responses.create(body);
  const response = await polled(a.url, id);
  expect(response).toMatchObject({ status: "completed", output_text: "It worked." });
  expect(stage.runs.get("x")).toBe(1);
  const { response: streamed } = await followed(a.url, id);
  expect(streamed.output.map((item) => item.id)).toEqual(response.output.map((item) => item.id));
  expect(a.logs.some(({ event }) => event === "background_taken_up")).toBe(false);
}, 60_000);

test("a batch that failed, and whose work is another's by then, is not written", async () => {
  const a = await stage.replica();
  const b = await stage.replica();
  const { background } = a.world.store;
  const { append, renew } = background;
  const isOther = Promise.withResolvers<void>();
  const failed = Promise.withResolvers<void>();
  let isFirst = true;
  background.append = async (batch) => {
    if (batch.seq === 0) return append(batch);
    if (isFirst) {
      isFirst = false;
      failed.resolve();
      throw isAway();
    }
    await isOther.promise;
    return append(batch);
  };
  background.renew = async (hold) => (await isOther.promise, renew(hold));
  const { id } = await client(a.url).responses.create(explicit("x"));
  await failed.promise;
  b.advance(60_000);
  expect(await outputs(b.url, id)).toEqual(["worked x"]);
  isOther.resolve();
  await followed(b.url, id);
  expect(stage.runs.get("x")).toBe(1);
}, 60_000);
