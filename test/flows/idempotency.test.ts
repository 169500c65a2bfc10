import type OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type ModernServer, say, schemaOf, startModernServer } from "../helpers/mcp-servers.ts";
import { type ScriptedModel, type ScriptedTurn, startModel } from "../helpers/model.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let server: ModernServer;
let model: ScriptedModel;
let client: OpenAI;
let script: ScriptedTurn[];
/** What the tool `work` does before it answers. */
let during: () => Promise<void> | void;
let runs = 0;
let keys = 0;

beforeAll(async () => {
  const work = {
    name: "work",
    inputSchema: schemaOf({}, []),
    run: async () => {
      runs++;
      await during();
      return say(`worked ${runs}`);
    },
  };
  server = await startModernServer({ tools: [work] });
  model = await startModel(() => script.shift() ?? { status: 500, body: { error: { message: "down" } } });
  world = await createWorld({ model });
  await world.connect("work", { target: server.url });
  client = await world.runtime();
});
beforeEach(() => {
  runs = 0;
  keys++;
  during = () => {};
  script = [];
});
afterAll(async () => {
  await world.stop();
  await Promise.all([server.stop(), model.close()]);
});

const tools = [{ type: "mcp" as const, server_label: "work", require_approval: "never" as const }];
const body = (more = {}) => ({ tools, input: [call("work", "work", {}, "c1")], ...more });
const once = (more = {}, key = `key-${keys}`, by = client) =>
  by.responses.create(body(more), { headers: { "Idempotency-Key": key } });
const streamedOnce = async (more = {}, key = `key-${keys}`) => {
  const stream = client.responses.stream(body(more), { headers: { "Idempotency-Key": key } });
  const types: string[] = [];
  for await (const event of stream) types.push(event.type);
  return { response: await stream.finalResponse(), types };
};
const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => "done",
    ({ status, code }: { status: number; code: string }) => `${status} ${code}`,
  );
/** A tool that is at work until it is let go. */
function atWork() {
  const [begun, end] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  during = () => {
    begun.resolve();
    return end.promise;
  };
  return { begun: begun.promise, end: end.resolve };
}

test("the same request under the same key runs once, and is answered the same each time", async () => {
  const first = await once();
  expect(itemsOf(first, "mcp_call")[0]?.output).toBe("worked 1");
  expect(await once()).toEqual(first);
  // Fields in another order are the same request.
  const { input, ...rest } = body();
  const again = await client.responses.create(
    { input, ...rest },
    { headers: { "Idempotency-Key": `key-${keys}` } },
  );
  expect(again.id).toBe(first.id);
  expect(runs).toBe(1);
  await once({}, "another key");
  expect(runs).toBe(2);
});

test("a streamed one is streamed again, as the client wants it", async () => {
  script = [{ text: "Let me. ", calls: [{ name: "work__work", arguments: {} }] }, { text: "Done." }];
  const asked = { model: "m", input: "go" };
  const first = await streamedOnce(asked);
  const again = await streamedOnce(asked);
  expect(again.response).toEqual(first.response);
  expect(again.response.output_text).toBe("Let me. Done.");
  expect(new Set(again.types)).toEqual(new Set(first.types));
  expect(runs).toBe(1);
});

test("another request under the key is refused: another body, another agent's path; another caller's key is its own", async () => {
  await once();
  expect(await codeOf(once({ metadata: { a: "1" } }))).toBe("400 idempotency_key_reused");
  expect(await codeOf(once({ stream: true }))).toBe("400 idempotency_key_reused");
  const other = await world.runtime();
  await once({ metadata: { a: "1" } }, `key-${keys}`, other);
  expect(runs).toBe(2);
  const rights = ["act_for_users"];
  const named = await world.runtime({ rights });
  const [anns, bobs] = await Promise.all(
    ["ann", "bob"].map((user) => once({ safety_identifier: user }, `key-${keys}`, named)),
  );
  expect(anns?.id).not.toBe(bobs?.id);
});

test("those who repeat it while it runs wait for the answer", async () => {
  const { begun, end } = atWork();
  const first = once();
  await begun;
  const others = [once(), once(), once()];
  end();
  const answers = await Promise.all([first, ...others]);
  expect(new Set(answers.map(({ id }) => id)).size).toBe(1);
  expect(runs).toBe(1);
});

test("those who wait too long are told to ask again, and clients do so by themselves", async () => {
  const { begun, end } = atWork();
  const first = once();
  await begun;
  const waiting = fetch(`${world.url}/api/projects/default/openai/v1/responses`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${client.apiKey}`,
      "content-type": "application/json",
      "idempotency-key": `key-${keys}`,
    },
    body: JSON.stringify(body()),
  });
  await new Promise((resolve) => setTimeout(resolve, 300));
  world.advance(31_000);
  const told = await waiting;
  expect([told.status, told.headers.get("x-should-retry"), told.headers.get("retry-after")]).toEqual([
    409,
    "true",
    "5",
  ]);
  expect(await told.json()).toMatchObject({ error: { code: "idempotency_in_progress" } });
  end();
  expect((await once()).id).toBe((await first).id);
});

test("a caller that leaves comes back for the answer: the work went on without it", async () => {
  for (const stream of [false, true]) {
    runs = 0;
    const { begun, end } = atWork();
    const left = new AbortController();
    const key = `left-${stream}`;
    const gone = fetch(`${world.url}/api/projects/default/openai/v1/responses`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${client.apiKey}`,
        "content-type": "application/json",
        "idempotency-key": key,
      },
      body: JSON.stringify(body({ stream })),
      signal: left.signal,
    }).then((response) => response.text());
    await begun;
    left.abort();
    await gone.catch(() => {});
    end();
    const response = stream ? (await streamedOnce({ stream }, key)).response : await once({ stream }, key);
    expect(response.status).toBe("completed");
    expect(itemsOf(response, "mcp_call")[0]?.output).toBe("worked 1");
    expect(runs).toBe(1);
  }
});

test("who hangs up at once cannot pile up work: beyond 128 under way the next is not begun, and others are not hindered", async () => {
  const { idempotency } = world.world.store;
  const renew = idempotency.renew;
  let started = 0;
  idempotency.renew = (attempt) => (started++, renew(attempt));
  const { end } = atWork();
  const left = new AbortController();
  const hasty = await world.runtime();
  const gone = Array.from({ length: 128 }, (_, n) =>
    hasty.responses.create(body(), { headers: { "Idempotency-Key": `hasty-${n}` }, signal: left.signal }),
  );
  await expect.poll(() => started, { timeout: 20_000 }).toBe(128);
  idempotency.renew = renew;
  left.abort();
  await Promise.allSettled(gone);
  const refused = await once({}, "one more", hasty).catch(
    (error: { status: number; code: string; headers: Headers }) => error,
  );
  expect(refused).toMatchObject({ status: 429, code: "idempotency_too_many" });
  expect("headers" in refused && refused.headers.get("retry-after")).toBe("5");
  const others = once({}, "one more");
  end();
  expect((await others).status).toBe("completed");
  // Those that were left are answered, and the one that was refused has its key and its place.
  expect((await once({}, "hasty-7", hasty)).status).toBe("completed");
  await Promise.all(Array.from({ length: 128 }, (_, n) => once({}, `hasty-${n}`, hasty)));
  expect((await once({}, "one more", hasty)).status).toBe("completed");
  expect(runs).toBe(130);
}, 60_000);

test("when the one that ran it is dead nobody knows what it did: that is said, and nothing runs again", async () => {
  const { begun, end } = atWork();
  const first = once({ store: false });
  await begun;
  // Its lease is over, as that of a process that died here.
  world.advance(61_000);
  expect(await codeOf(once({ store: false }))).toBe("409 idempotency_outcome_unknown");
  expect(runs).toBe(1);
  // It was only slow.
  end();
  expect((await once({ store: false })).id).toBe((await first).id);
  expect(runs).toBe(1);
});

test("a process that died after its response was stored has left the answer there", async () => {
  const { idempotency } = world.world.store;
  const key = `dies-${keys}`;
  const finish = idempotency.finish;
  idempotency.finish = () => Promise.reject(new Error("died here"));
  const lost = await once({}, key);
  idempotency.finish = finish;
  expect(world.logs.some(({ event }) => event === "idempotency_not_settled")).toBe(true);
  world.advance(61_000);
  expect(await once({}, key)).toEqual(lost);
  expect(runs).toBe(1);
});

test("store:false is answered again, too; the answer is kept sealed", async () => {
  const canary = { store: false, metadata: { said: "metadata" } };
  const first = await once(canary);
  expect(await once(canary)).toEqual(first);
  expect(runs).toBe(1);
  expect(await codeOf(client.responses.retrieve(first.id))).toBe("404 response_not_found");
  expect((await world.databaseBytes()).includes("worked 1")).toBe(false);
});

test("an answer for a user who is blocked by now is not given again to who names nobody", async () => {
  const runtime = await world.runtime({ rights: ["act_for_users"] });
  const path = "/api/projects/default/users/app:ida";
  script = [{ text: "first" }, { text: "ida's" }];
  const first = await runtime.responses.create({ model: "m", input: "hi", safety_identifier: "ida" });
  const again = () =>
    runtime.responses.create(
      { previous_response_id: first.id, input: "more", store: false },
      { headers: { "Idempotency-Key": `key-${keys}` }, maxRetries: 0 },
    );
  expect((await again()).output_text).toBe("ida's");
  expect((await again()).output_text).toBe("ida's");
  expect((await world.rest("DELETE", path)).status).toBeLessThan(300);
  expect(await codeOf(again())).toBe("403 user_blocked");
});

test("an answer that was deleted is not given again, and nothing runs again", async () => {
  const first = await once();
  await client.responses.delete(first.id);
  expect(await codeOf(once())).toBe("409 idempotency_answer_deleted");
  expect(runs).toBe(1);
});

test("what was refused, or failed before anything was done, frees its key", async () => {
  expect(await codeOf(once({ previous_response_id: "resp_none" }))).toBe("400 previous_response_not_found");
  expect(await codeOf(once({ model: "m", input: "x" }))).toMatch(/^502/);
  script = [{ text: "up again" }];
  expect((await once({ model: "m", input: "x" })).output_text).toBe("up again");
});

test("a key ends after a day", async () => {
  const first = await once();
  world.advance(24 * 60 * 60 * 1000 + 1);
  expect((await once()).id).not.toBe(first.id);
  expect(runs).toBe(2);
});

test("a key that is no plain text is 400", async () => {
  for (const key of ["", "caf\u00e9", "x".repeat(256)]) expect(await codeOf(once({}, key))).toBe("400 null");
});

test("a stop ends what goes on without its caller", async () => {
  const other = await createWorld();
  await other.connect("work", { target: server.url });
  const { begun } = atWork();
  const left = new AbortController();
  const gone = (await other.runtime()).responses.create(body(), {
    headers: { "Idempotency-Key": "stop" },
    signal: left.signal,
  });
  await begun;
  left.abort();
  expect(await codeOf(gone)).not.toBe("done");
  const begunAt = performance.now();
  await other.stop();
  expect(performance.now() - begunAt).toBeLessThan(4_000);
});
