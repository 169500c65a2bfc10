import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type OpenAI from "openai";
import type { Response, ResponseOutputItem, ResponseStreamEvent } from "openai/resources/responses/responses";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { ResponseId } from "../../src/core/ids.ts";
import type { Clock } from "../../src/core/ports.ts";
import { type ModernServer, say, schemaOf, startModernServer } from "../helpers/mcp-servers.ts";
import { lastText, type Script, type ScriptedModel, startModel } from "../helpers/model.ts";
import { startBroker } from "../helpers/process.ts";
import {
  ADMIN_KEY,
  type Body,
  call,
  clientOf,
  createWorld,
  itemsOf,
  type TestWorld,
} from "../helpers/world.ts";

let folder: string;
let server: ModernServer;
let model: ScriptedModel;
/** How often the tool ran, by what it was told. */
let runs: Map<string, number>;
let during: (text: string) => Promise<void> | void;
let script: Exclude<Script, unknown[]>;
let ending: (() => Promise<unknown>)[];

beforeAll(async () => {
  const work = {
    name: "work",
    inputSchema: schemaOf({ text: { type: "string" } }, ["text"]),
    run: async ({ text }: Record<string, unknown>) => {
      const name = String(text);
      runs.set(name, (runs.get(name) ?? 0) + 1);
      await during(name);
      return say(`worked ${name}`);
    },
  };
  [server, model] = await Promise.all([
    startModernServer({ tools: [work] }),
    startModel((request) => script(request)),
  ]);
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "consentry-background-"));
  runs = new Map();
  during = () => {};
  ending = [];
});
afterEach(async () => {
  await Promise.all(ending.map((end) => end()));
  await rm(folder, { recursive: true, force: true });
});
afterAll(() => Promise.all([server.stop(), model.close()]));

const env = () => ({
  CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
  CONSENTRY_KEYRING: `k1:${Buffer.alloc(32, 7).toString("base64")}`,
});
const client = (url: string) => clientOf(url, ADMIN_KEY, { project: "default" });
const tools = [{ type: "mcp" as const, server_label: "work", require_approval: "never" as const }];

/** A replica in this process. */
async function replica(clock?: Clock): Promise<TestWorld> {
  const world = await createWorld({ env: env(), model, ...(clock && { clock }) });
  ending.push(() => world.stop());
  await world.connect("work", { target: server.url });
  return world;
}

/** A replica of its own process. */
async function processReplica() {
  const broker = await startBroker({
    ...env(),
    CONSENTRY_ADMIN_KEY: ADMIN_KEY,
    CONSENTRY_MODEL_BASE_URL: model.baseUrl,
    CONSENTRY_MODEL_API_KEY: "model-key",
  });
  ending.push(() => broker.kill9());
  const put = await fetch(`${broker.url}/api/projects/default/connections/work`, {
    method: "PUT",
    headers: { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json" },
    body: JSON.stringify({ properties: { authType: "None", target: server.url, timeoutMs: 5_000 } }),
  });
  expect(put.status).toBeLessThan(300);
  return broker;
}

/** By its clock every lease of now has ended. */
const ahead: Clock = {
  now: () => Date.now() + 60_000,
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
    }),
};

async function polled(url: string, id: string): Promise<Response> {
  for (;;) {
    const response = await client(url).responses.retrieve(id);
    if (response.status !== "queued" && response.status !== "in_progress") return response;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Reads it to its end by the client's own helper, which checks every event. */
async function followed(url: string, id: string) {
  const events: ResponseStreamEvent[] = [];
  const stream = client(url).responses.stream({ response_id: id });
  for await (const event of stream) events.push(event);
  expect(events.map(({ sequence_number: n }) => n)).toEqual(events.map((_, at) => at));
  return { events, response: await stream.finalResponse() };
}

/** What is asked for in the background, each with one call in it. */
const scenarios: Record<string, (openai: OpenAI, name: string) => Promise<Body> | Body> = {
  model: (_, name) => ({ model: "m", tools, input: `go ${name}` }),
  explicit: (_, name) => ({ tools, input: [call("work", "work", { text: name }, "c1")] }),
  approved: async (openai, name) => {
    const asked = await openai.responses.create({
      tools: [{ type: "mcp", server_label: "work" }],
      input: [call("work", "work", { text: name }, "c1")],
    });
    const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
    return {
      previous_response_id: asked.id,
      input: [{ type: "mcp_approval_response", approval_request_id: id, approve: true }],
    };
  },
};

test.each(Object.keys(scenarios))(
  "dead at any of its writes (%s): another ends it, and no tool runs twice",
  async (kind) => {
    script = (request) => {
      const name = /case-[\w-]+/.exec(JSON.stringify(request.messages))?.[0] ?? "";
      return /worked|may have run/.test(lastText(request))
        ? { text: ["It ", "has ", `worked ${name}.`] }
        : { text: "Wait. ", calls: [{ name: "work__work", arguments: { text: name } }] };
    };
    const a = await replica();
    const b = await replica();
    const deaths = new Map<string, { at: number; how: "before" | "after" }>();
    const waiting: { at: number; how: "before" | "after" }[] = [];
    const { background } = a.world.store;
    const { begin, append, renew, finish } = background;
    const dead = new Set<string>();
    const never = () => new Promise<never>(() => {});
    background.begin = async (work, ...rest) => {
      const death = waiting.shift();
      if (death) deaths.set(work.id, death);
      return begin(work, ...rest);
    };
    background.append = async (batch) => {
      const death = deaths.get(batch.id);
      if (dead.has(batch.id)) return never();
      if (death?.at !== batch.seq) return append(batch);
      dead.add(batch.id);
      if (death.how === "after") await append(batch);
      return never();
    };
    background.renew = (hold) => (dead.has(hold.id) ? never() : renew(hold));
    background.finish = (hold) => (deaths.get(hold.id)?.at === Infinity ? never() : finish(hold));
    const names = new Map<string, string>();
    for (const how of ["before", "after"] as const) {
      for (const at of [0, 1, 2, 3, 4, 5, 6, Infinity]) {
        const name = `case-${kind}-${how}-${at}`;
        const body = await scenarios[kind]?.(client(a.url), name);
        waiting.push({ at, how });
        const { id } = await client(a.url).responses.create({ ...body, background: true });
        names.set(id, name);
      }
    }
    // Until all have died or are over.
    const ids = [...names.keys()];
    const areLeft = async () => {
      const found = await Promise.all(ids.map((id) => client(a.url).responses.retrieve(id)));
      return found.every(({ id, status }) => dead.has(id) || status === "completed");
    };
    await expect.poll(areLeft, { timeout: 30_000 }).toBe(true);
    expect(dead.size).toBeGreaterThan(4);
    b.advance(60_000);
    const outcomes = new Set<string>();
    for (const [id, name] of names) {
      const response = await polled(b.url, id);
      const calls = itemsOf(response, "mcp_call");
      const streamed = await followed(b.url, id);
      const ran = runs.get(name) ?? 0;
      expect({
        name,
        status: response.status,
        calls: calls.length,
        isTold: calls.every((made) => tells(made, name, ran)),
        ranTwice: ran > 1,
        isStreamed: JSON.stringify(streamed.response.output.map((item) => item.id)),
      }).toEqual({
        name,
        status: "completed",
        calls: 1,
        isTold: true,
        ranTwice: false,
        isStreamed: JSON.stringify(response.output.map((item) => item.id)),
      });
      for (const { status } of calls) outcomes.add(status ?? "");
    }
    // Where nobody can know whether it ran, it says so; everywhere else it ran. An approved call has a row of its own.
    expect([...outcomes].toSorted()).toEqual(kind === "approved" ? ["completed"] : ["completed", "failed"]);
  },
  120_000,
);

/** Whether a call says what came of it. */
function tells(made: ResponseOutputItem.McpCall, name: string, ran: number): boolean {
  if (made.status === "completed") return made.output === `worked ${name}` && ran === 1;
  return JSON.stringify(made.error).includes("may have run");
}

test.each(["explicit", "approved"])(
  "killed while the tool runs (%s): another says that it may have run, and never runs it again",
  async (kind) => {
    const a = await processReplica();
    const { pid } = a;
    during = () => {
      process.kill(pid, "SIGKILL");
      return new Promise(() => {});
    };
    const body = await scenarios[kind]?.(client(a.url), "x");
    const { id } = await client(a.url).responses.create({ ...body, background: true });
    await a.exited;
    during = () => {};
    const b = await replica(ahead);
    const response = await polled(b.url, id);
    expect(response.status).toBe("completed");
    const [made] = itemsOf(response, "mcp_call");
    expect(made).toMatchObject({ id: "c1", status: "failed", output: null });
    expect(JSON.stringify(made?.error)).toContain("may have run");
    await followed(b.url, id);
    expect(runs.get("x")).toBe(1);
  },
  60_000,
);

test("killed while the model speaks: it is asked anew, and readers see both, one after the other", async () => {
  const a = await processReplica();
  const spoken = Promise.withResolvers<void>();
  script = () => ({
    frames: (async function* () {
      yield { id: "x", object: "chat.completion.chunk", choices: [{ index: 0, delta: { content: "Half" } }] };
      spoken.resolve();
      await new Promise(() => {});
    })(),
  });
  const stream = await client(a.url).responses.create({
    model: "m",
    background: true,
    stream: true,
    input: "go",
  });
  const seen: ResponseStreamEvent[] = [];
  let id = "";
  for await (const event of stream) {
    seen.push(event);
    if (event.type === "response.created") ({ id } = event.response);
    if (event.type === "response.output_text.delta") break;
  }
  await spoken.promise;
  await a.kill9();
  script = () => ({ text: "Whole." });
  const b = await replica(ahead);
  const response = await polled(b.url, id);
  expect(response.status).toBe("completed");
  expect(itemsOf(response, "message")).toMatchObject([
    { status: "incomplete", content: [{ text: "Half" }] },
    { status: "completed", content: [{ text: "Whole." }] },
  ]);
  // The half is no part of what the model is asked.
  expect(JSON.stringify(model.requests.at(-1)?.body.messages)).not.toContain("Half");
  const { events } = await followed(b.url, id);
  expect(events.slice(0, seen.length)).toMatchObject(seen);
}, 60_000);

test("asked to stop, it lets the call under way end, gives the rest back, and another goes on at once", async () => {
  const begun = Promise.withResolvers<void>();
  const finish = Promise.withResolvers<void>();
  during = () => {
    begun.resolve();
    return finish.promise;
  };
  script = (request) =>
    lastText(request).includes("worked")
      ? { text: "Done." }
      : { calls: [{ name: "work__work", arguments: { text: "x" } }] };
  const a = await replica();
  const b = await replica();
  const { id } = await client(a.url).responses.create({ model: "m", background: true, tools, input: "go" });
  await begun.promise;
  const asked = model.requests.length;
  const stopped = a.stop();
  await expect.poll(() => a.logs.some(({ event }) => event === "stopping")).toBe(true);
  finish.resolve();
  await stopped;
  const response = await polled(b.url, id);
  expect(response).toMatchObject({ status: "completed", output_text: "Done." });
  expect(itemsOf(response, "mcp_call")).toMatchObject([{ output: "worked x" }]);
  expect(runs.get("x")).toBe(1);
  expect(model.requests.length).toBe(asked + 1);
}, 60_000);

test("stopped while the model speaks, it is given back at once", async () => {
  const spoken = Promise.withResolvers<void>();
  script = () => ({
    frames: (async function* () {
      spoken.resolve();
      await new Promise(() => {});
      yield "";
    })(),
  });
  const a = await replica();
  const b = await replica();
  const { id } = await client(a.url).responses.create({ model: "m", background: true, input: "go" });
  await spoken.promise;
  script = () => ({ text: "Whole." });
  await a.stop();
  expect(await polled(b.url, id)).toMatchObject({ status: "completed", output_text: "Whole." });
}, 60_000);

test("what is more than one process makes waits, and another makes it", async () => {
  const finish = Promise.withResolvers<void>();
  during = (text) => (text === "last" || text === "other" ? undefined : finish.promise);
  const a = await replica();
  const send = (text: string) =>
    client(a.url).responses.create({
      background: true,
      tools,
      input: [call("work", "work", { text }, text)],
    });
  for (let at = 0; at < 16; at++) await send(`c${at}`);
  const last = await send("last");
  await expect.poll(() => runs.size).toBe(16);
  expect((await client(a.url).responses.retrieve(last.id)).status).toBe("queued");
  const scraped = await fetch(`${a.url}/metrics`, { headers: { authorization: `Bearer ${ADMIN_KEY}` } });
  const lines = (await scraped.text()).split("\n");
  expect(lines).toContain("consentry_background_running 16");
  expect(lines).toContain('consentry_background_responses_total{outcome="queued"} 17');
  for (let at = 17; at < 100; at++) await send("last");
  // A project's share is bounded; what is refused was not begun.
  await expect(send("too much")).rejects.toMatchObject({ status: 429, code: "too_many_background" });
  expect(runs.has("last")).toBe(false);
  // Another project does not stand behind this one.
  await a.rest("POST", "/api/projects", { name: "other" });
  await a.connect("work", { target: server.url }, "other");
  const other = clientOf(a.url, ADMIN_KEY, { project: "other" });
  const input = [call("work", "work", { text: "other" }, "c1")];
  const { id: own } = await other.responses.create({ background: true, tools, input });
  await expect.poll(async () => (await other.responses.retrieve(own)).status).not.toBe("queued");
  const b = await replica();
  expect((await polled(b.url, last.id)).status).toBe("completed");
  finish.resolve();
  await expect.poll(() => runs.get("last"), { timeout: 20_000 }).toBe(84);
  expect(runs.has("too much")).toBe(false);
}, 60_000);

test("stopped with more calls than run at once, those that had not begun are made by another, each once", async () => {
  const finish = Promise.withResolvers<void>();
  during = () => finish.promise;
  const a = await replica();
  const b = await replica();
  const names = Array.from({ length: 40 }, (_, at) => `n${at}`);
  const input = names.map((text) => call("work", "work", { text }, text));
  const { id } = await client(a.url).responses.create({ background: true, tools, input });
  await expect.poll(() => runs.size).toBe(32);
  const stopped = a.stop();
  await expect.poll(() => a.logs.some(({ event }) => event === "stopping")).toBe(true);
  finish.resolve();
  await stopped;
  const response = await polled(b.url, id);
  expect(itemsOf(response, "mcp_call").map(({ output }) => output)).toEqual(names.map((n) => `worked ${n}`));
  expect([...runs.values()]).toEqual(names.map(() => 1));
  await followed(b.url, id);
}, 60_000);

test("a process that only stood still wakes up and does nothing more: no call, no second answer", async () => {
  const a = await replica();
  const b = await replica();
  const { background, responses } = a.world.store;
  const { append, renew } = background;
  const save = responses.append;
  const { id: conversation } = await client(a.url).conversations.create();
  const body = (text: string) => ({
    background: true,
    conversation,
    tools,
    input: [call("work", "work", { text }, text)],
  });
  const asleep = new Set<string>();
  const awake = Promise.withResolvers<void>();
  const sleeper = Promise.withResolvers<void>();
  background.renew = (hold) => (asleep.has(hold.id) ? awake.promise.then(() => renew(hold)) : renew(hold));
  // One falls asleep when it notes its call, the other when it stores its response.
  let falls: "noting" | "storing" = "noting";
  background.append = async (batch) => {
    if (asleep.has(batch.id) || (falls === "noting" && batch.seq > 0)) {
      asleep.add(batch.id);
      await awake.promise;
    }
    return append(batch);
  };
  responses.append = async (stored, rows, audit) => {
    if (falls === "storing") {
      asleep.add(stored.response.id);
      sleeper.resolve();
      await awake.promise;
    }
    return save(stored, rows, audit);
  };
  const noting = await client(a.url).responses.create(body("noting"));
  await expect.poll(() => asleep.has(noting.id)).toBe(true);
  falls = "storing";
  const storing = await client(a.url).responses.create(body("storing"));
  await sleeper.promise;
  b.advance(60_000);
  const answers = [await polled(b.url, noting.id), await polled(b.url, storing.id)];
  expect(answers.map(({ status }) => status)).toEqual(["completed", "completed"]);
  expect(answers.map((one) => itemsOf(one, "mcp_call")[0]?.output)).toEqual([
    "worked noting",
    "worked storing",
  ]);
  awake.resolve();
  await expect.poll(async () => await fetchMetric(a, "consentry_background_running")).toBe("0");
  expect([...runs]).toEqual([
    ["storing", 1],
    ["noting", 1],
  ]);
  expect(await client(a.url).responses.retrieve(noting.id)).toMatchObject({ output: answers[0]?.output });
  expect(await client(a.url).responses.retrieve(storing.id)).toMatchObject({ output: answers[1]?.output });
  const { data } = await client(a.url).conversations.items.list(conversation);
  expect(data).toHaveLength(2);
  expect(new Set(data.map(({ id }) => id))).toEqual(new Set(["noting", "storing"]));
}, 60_000);

test("what kills one process after the other does not go round for ever", async () => {
  const a = await replica();
  const { background } = a.world.store;
  const { begin, claim } = background;
  const far = Date.now() + 50_000;
  background.begin = (work, ...rest) => begin({ ...work, run: null, leaseUntil: far }, ...rest);
  const { id } = await client(a.url).responses.create({
    background: true,
    tools,
    input: [call("work", "work", { text: "x" }, "c1")],
  });
  for (let died = 0; died < 5; died++) {
    const hold = { project: "default", id: id as ResponseId, run: `w_${died}` as const };
    expect(await claim({ ...hold, now: far, leaseUntil: far })).not.toBeNull();
  }
  a.advance(60_000);
  const response = await polled(a.url, id);
  expect(response).toMatchObject({ status: "failed" });
  expect(response.error?.message).toContain("broke off too often");
  expect(runs.size).toBe(0);
}, 60_000);

async function fetchMetric({ url }: TestWorld, name: string): Promise<string | undefined> {
  const scraped = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${ADMIN_KEY}` } });
  return new RegExp(`^${name} (.*)$`, "m").exec(await scraped.text())?.[1];
}

test("whoever lost the right to it, or the server, meanwhile: it ends as failed and says why", async () => {
  const a = await processReplica();
  const hang = () => ({
    frames: (async function* () {
      await new Promise(() => {});
      yield "";
    })(),
  });
  script = hang;
  const asAdmin = (method: string, path: string, body?: unknown) =>
    fetch(`${a.url}/api/projects/default/${path}`, {
      method,
      headers: { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json" },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
  const made = await asAdmin("POST", "keys", { name: "r", roles: ["runtime"], rights: ["act_for_users"] });
  const { key, id: keyId } = (await made.json()) as { key: string; id: string };
  await asAdmin("PUT", "connections/gone", { properties: { authType: "None", target: server.url } });
  const runtime = (user?: string) =>
    clientOf(a.url, key, { project: "default", ...(user !== undefined && { user }) });
  const body = { model: "m", background: true, input: "go" };
  const before = model.requests.length;
  const blocked = await runtime("ann").responses.create(body);
  const ended = await runtime().responses.create(body);
  const deleted = await client(a.url).responses.create({
    ...body,
    tools: [{ type: "mcp", server_label: "gone" }],
  });
  await expect.poll(() => model.requests.length, { timeout: 10_000 }).toBe(before + 3);
  await a.kill9();
  const b = await replica();
  await b.rest("DELETE", "/api/projects/default/users/app:ann");
  await b.rest("DELETE", `/api/projects/default/keys/${keyId}`);
  await b.rest("DELETE", "/api/projects/default/connections/gone");
  b.advance(60_000);
  const lost = await polled(b.url, deleted.id);
  expect(lost).toMatchObject({ status: "failed" });
  expect(lost.error?.message).toContain("gone");
  const reasons = () =>
    b.logs.flatMap(({ event, fields }) =>
      event === "turn_revoked" ? [[fields["responseId"], fields["why"]]] : [],
    );
  await expect
    .poll(() => new Map(reasons() as [string, string][]), { timeout: 15_000 })
    .toEqual(new Map([[ended.id, "the caller's key has ended"]]));
  await expect.poll(() => b.world.store.background.due(Infinity, 10), { timeout: 5_000 }).toEqual([]);
  const own = { user: "app:ann" as const, principal: "", inheritsUser: false };
  const kept = await b.world.store.responses.get("default", blocked.id, own);
  expect(kept?.response.status).toBe("cancelled");
  // None of them asked the model again.
  expect(model.requests.length).toBe(before + 3);
}, 60_000);
