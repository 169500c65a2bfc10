import type { ResponseOutputItem, ResponseStreamEvent } from "openai/resources/responses/responses";
import { afterEach, beforeEach, expect, test } from "vitest";
import { BrokerError } from "../../src/core/errors.ts";
import type { ResponseId } from "../../src/core/ids.ts";
import {
  ahead,
  type BackgroundStage,
  client,
  createBackgroundStage,
  followed,
  metricOf,
  polled,
  scenarios,
  tools,
} from "../helpers/background.ts";
import { lastText } from "../helpers/model.ts";
import { ADMIN_KEY, call, clientOf, itemsOf } from "../helpers/world.ts";

let stage: BackgroundStage;

beforeEach(async () => {
  stage = await createBackgroundStage();
});
afterEach(() => stage.stop());

test.each(Object.keys(scenarios))(
  "dead at any of its writes (%s): another ends it, and no tool runs twice",
  async (kind) => {
    stage.script = (request) => {
      const name = /case-[\w-]+/.exec(JSON.stringify(request.messages))?.[0] ?? "";
      return /worked|may have run/.test(lastText(request))
        ? { text: ["It ", "has ", `worked ${name}.`] }
        : { text: "Wait. ", calls: [{ name: "work__work", arguments: { text: name } }] };
    };
    const a = await stage.replica();
    const b = await stage.replica();
    const deaths = new Map<string, { at: number; how: "before" | "after" }>();
    const waiting: { at: number; how: "before" | "after" }[] = [];
    const { background } = a.world.store;
    const { begin, append, renew, finish } = background;
    const dead = new Set<string>();
    // Until the end of the test, which the dead must not hold up.
    const over = Promise.withResolvers<null>();
    const never = () => over.promise;
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
    background.finish = (hold) =>
      deaths.get(hold.id)?.at === Infinity ? never().then(() => false) : finish(hold);
    const names = new Map<string, string>();
    for (const how of ["before", "after"] as const) {
      for (const at of [0, 1, 2, 3, 4, 5, 6, 7, Infinity]) {
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
      const ran = stage.runs.get(name) ?? 0;
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
    over.resolve(null);
    // An approved call has a row of its own, which knows its end; of others it depends on the moment.
    expect(outcomes).toContain("completed");
    expect(kind === "approved" && outcomes.has("failed")).toBe(false);
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
    const a = await stage.processReplica();
    const { pid } = a;
    stage.during = () => {
      process.kill(pid, "SIGKILL");
      return new Promise(() => {});
    };
    const body = await scenarios[kind]?.(client(a.url), "x");
    const { id } = await client(a.url).responses.create({ ...body, background: true });
    await a.exited;
    stage.during = () => {};
    const b = await stage.replica(ahead);
    const response = await polled(b.url, id);
    expect(response.status).toBe("completed");
    const [made] = itemsOf(response, "mcp_call");
    expect(made).toMatchObject({ id: "c1", status: "failed", output: null });
    expect(JSON.stringify(made?.error)).toContain("may have run");
    await followed(b.url, id);
    expect(stage.runs.get("x")).toBe(1);
  },
  60_000,
);

test("killed while the model speaks: it is asked anew, and readers see both, one after the other", async () => {
  const a = await stage.processReplica();
  const spoken = Promise.withResolvers<void>();
  stage.script = () => ({
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
  stage.script = () => ({ text: "Whole." });
  const b = await stage.replica(ahead);
  const response = await polled(b.url, id);
  expect(response.status).toBe("completed");
  expect(itemsOf(response, "message")).toMatchObject([
    { status: "incomplete", content: [{ text: "Half" }] },
    { status: "completed", content: [{ text: "Whole." }] },
  ]);
  // The half is no part of what the model is asked.
  expect(JSON.stringify(stage.model.requests.at(-1)?.body.messages)).not.toContain("Half");
  const { events } = await followed(b.url, id);
  expect(events.slice(0, seen.length)).toMatchObject(seen);
}, 60_000);

test("a process that only stood still wakes up and does nothing more: no call, no second answer", async () => {
  const a = await stage.replica();
  const b = await stage.replica();
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
  await expect.poll(async () => await metricOf(a, "consentry_background_running")).toBe("0");
  expect([...stage.runs]).toEqual([
    ["storing", 1],
    ["noting", 1],
  ]);
  expect(await client(a.url).responses.retrieve(noting.id)).toMatchObject({ output: answers[0]?.output });
  expect(await client(a.url).responses.retrieve(storing.id)).toMatchObject({ output: answers[1]?.output });
  const { data } = await client(a.url).conversations.items.list(conversation);
  expect(data).toHaveLength(2);
  expect(new Set(data.map(({ id }) => id))).toEqual(new Set(["noting", "storing"]));
}, 60_000);

test("a database that is away for a moment costs nothing but the moment", async () => {
  const a = await stage.replica();
  const { background } = a.world.store;
  const { append } = background;
  let refusals = 2;
  background.append = async (batch) => {
    if (batch.seq > 0 && refusals-- > 0)
      throw new BrokerError("unavailable", { what: "database", passing: true });
    return append(batch);
  };
  const { id } = await client(a.url).responses.create({
    background: true,
    tools,
    input: [call("work", "work", { text: "x" }, "c1")],
  });
  expect(itemsOf(await polled(a.url, id), "mcp_call")).toMatchObject([{ output: "worked x" }]);
  expect(stage.runs.get("x")).toBe(1);
  await followed(a.url, id);
}, 60_000);

test("what kills one process after the other does not go round for ever", async () => {
  const a = await stage.replica();
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
  expect(stage.runs.size).toBe(0);
}, 60_000);

test("whoever lost the right to it, or the server, meanwhile: it ends as failed and says why", async () => {
  const a = await stage.processReplica();
  const hang = () => ({
    frames: (async function* () {
      await new Promise(() => {});
      yield "";
    })(),
  });
  stage.script = hang;
  const asAdmin = (method: string, path: string, body?: unknown) =>
    fetch(`${a.url}/api/projects/default/${path}`, {
      method,
      headers: { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json" },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
  const made = await asAdmin("POST", "keys", { name: "r", roles: ["runtime"], rights: ["act_for_users"] });
  const { key, id: keyId } = (await made.json()) as { key: string; id: string };
  await asAdmin("PUT", "connections/gone", { properties: { authType: "None", target: stage.server.url } });
  const runtime = (user?: string) =>
    clientOf(a.url, key, { project: "default", ...(user !== undefined && { user }) });
  const body = { model: "m", background: true, input: "go" };
  const before = stage.model.requests.length;
  const blocked = await runtime("ann").responses.create(body);
  const ended = await runtime().responses.create(body);
  const deleted = await client(a.url).responses.create({
    ...body,
    tools: [{ type: "mcp", server_label: "gone" }],
  });
  await expect.poll(() => stage.model.requests.length, { timeout: 10_000 }).toBe(before + 3);
  await a.kill9();
  const b = await stage.replica();
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
  expect(stage.model.requests.length).toBe(before + 3);
}, 60_000);
