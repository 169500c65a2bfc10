import { afterEach, beforeEach, expect, test } from "vitest";
import type { ResponseId } from "../../src/core/ids.ts";
import { type BackgroundStage, client, createBackgroundStage, polled, tools } from "../helpers/background.ts";
import { itemsOf, type TestWorld } from "../helpers/world.ts";

let stage: BackgroundStage;
/** Until the end of the test, which the dead must not hold up. */
let over: PromiseWithResolvers<null>;

beforeEach(async () => {
  over = Promise.withResolvers();
  stage = await createBackgroundStage();
});
afterEach(() => {
  over.resolve(null);
  return stage.stop();
});

/** Of the forty calls of a model thirty-two have begun, and their process is dead. */
async function leftWithCalls(a: TestWorld): Promise<{ id: ResponseId; begun: Set<string> }> {
  await a.rest("POST", "/api/projects/default/agents/helper/versions", {
    definition: { kind: "prompt", model: "m", tools },
  });
  const calls = Array.from({ length: 40 }, (_, n) => ({ name: "work__work", arguments: { text: `n${n}` } }));
  stage.script = () => ({ calls });
  const answer = Promise.withResolvers<void>();
  stage.during = () => answer.promise;
  const body = { agent_reference: { type: "agent_reference", name: "helper" } };
  const made = await client(a.url).responses.create({ ...body, background: true, input: "go" });
  await expect.poll(() => stage.runs.size, { timeout: 15_000 }).toBe(32);
  const { background } = a.world.store;
  background.append = background.renew = () => over.promise;
  stage.during = () => {};
  answer.resolve();
  return { id: made.id as ResponseId, begun: new Set(stage.runs.keys()) };
}

/** What another says of it in the end, and whether it made anything of it. */
async function endedBy(b: TestWorld, { id, begun }: { id: string; begun: Set<string> }, why: string) {
  const asked = stage.model.requests.length;
  b.advance(60_000);
  const response = await polled(b.url, id);
  const errors = itemsOf(response, "mcp_call").map(({ error }) => JSON.stringify(error));
  const count = (...words: string[]) =>
    errors.filter((text) => words.every((word) => text.includes(word))).length;
  return {
    status: response.status,
    saysWhy: response.error?.message.includes(why),
    mayHaveRun: count("may have run"),
    notMade: count("was not made", why),
    made: [...stage.runs.keys()].filter((name) => !begun.has(name)),
    asked: stage.model.requests.length - asked,
  };
}

const refused = { status: "failed", saysWhy: true, mayHaveRun: 32, notMade: 8, made: [], asked: 0 };

test("of an agent that was disabled meanwhile, whoever goes on makes no call any more", async () => {
  const a = await stage.replica();
  const b = await stage.replica();
  const left = await leftWithCalls(a);
  await b.rest("POST", "/api/projects/default/agents/helper:disable");
  expect(await endedBy(b, left, "the agent helper was deleted or disabled")).toEqual(refused);
}, 60_000);

test("what broke off too often makes no call any more, it only ends", async () => {
  const a = await stage.replica();
  const b = await stage.replica();
  const left = await leftWithCalls(a);
  const { claim } = b.world.store.background;
  const far = Date.now() + 50_000;
  for (let died = 0; died < 4; died++) {
    const hold = { project: "default", id: left.id, run: `w_${died}` as const };
    expect(await claim({ ...hold, now: far, leaseUntil: far })).not.toBeNull();
  }
  expect(await endedBy(b, left, "it broke off too often")).toEqual(refused);
}, 60_000);
