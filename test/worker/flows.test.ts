// The broker as a Worker, in workerd with D1, from outside: an unmodified client, real servers, people with browsers.
import type OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { headingOf } from "../../demo/browser.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import { type ScriptedModel, type ScriptedTurn, startModel } from "../helpers/model.ts";
import { allow, audited, consentsOf, linkOf, person } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { createWorkerWorld, type WorkerWorld } from "../helpers/worker.ts";
import { call, itemsOf, MODES, respond, streamed } from "../helpers/world.ts";

let world: WorkerWorld;
let keyed: ModernServer;
let authServer: TestAuthServer;
let guarded: ProtectedServer;
let model: ScriptedModel;
let client: OpenAI;
let script: ScriptedTurn[] = [];

beforeAll(async () => {
  [keyed, authServer, model] = await Promise.all([
    startModernServer({ header: { name: "x-key", value: "the-secret-key" } }),
    startAuthServer(),
    startModel(() => script.shift() ?? { text: "done" }),
  ]);
  guarded = await startProtectedServer({ authServer });
  world = await createWorkerWorld({ model });
  await world.connect("keyed", {
    authType: "CustomKeys",
    target: keyed.url,
    credentials: { keys: { "x-key": "the-secret-key" } },
  });
  await world.connect("notes", { authType: "OAuth2", target: guarded.url, credentials: {} });
  client = await world.runtime({ user: "ann", rights: ["act_for_users"] });
}, 120_000);
afterAll(async () => {
  await world.stop();
  await Promise.all([keyed.stop(), guarded.stop(), authServer.stop(), model.close()]);
});

const mcp = (label: string, approval: "never" | "always" = "never") => ({
  type: "mcp" as const,
  server_label: label,
  require_approval: approval,
});
const outputOf = (response: Parameters<typeof itemsOf>[0]) =>
  itemsOf(response, "mcp_call").map(({ output }) => output);

test("it is ready", async () => {
  const answer = await fetch(`${world.url}/readyz`);
  expect([answer.status, await answer.json()]).toEqual([200, { status: "ready" }]);
});

describe.each(MODES)("%s", (mode) => {
  test("a call with the connection's key", async () => {
    const body = { tools: [mcp("keyed")], input: [call("keyed", "echo", { text: "hello" })] };
    expect(outputOf(await respond(client, body, mode))).toEqual(["hello"]);
  });

  test("a model's turn with tools", async () => {
    script = [{ calls: [{ name: "keyed__echo", arguments: { text: "hi" } }] }, { text: "It said hi." }];
    const done = await respond(client, { model: "m", input: "say hi", tools: [mcp("keyed")] }, mode);
    expect(done.output.map(({ type }) => type)).toEqual(["mcp_list_tools", "mcp_call", "message"]);
    expect(done.output_text).toBe("It said hi.");
  });

  test("a call is held, approved and run as it was stored", async () => {
    const held = await respond(
      client,
      { tools: [mcp("keyed", "always")], input: [call("keyed", "echo", { text: "held" })] },
      mode,
    );
    const [request] = itemsOf(held, "mcp_approval_request");
    const approval = {
      type: "mcp_approval_response" as const,
      approval_request_id: request?.id ?? "",
      approve: true,
    };
    const done = await respond(client, { previous_response_id: held.id, input: [approval] }, mode);
    expect(outputOf(done)).toEqual(["held"]);
  });

  test("a call asks for consent, and afterwards runs as the person", async () => {
    const user = `ann-${mode.replace(" ", "-")}`;
    const runtime = await world.runtime({ user, rights: ["act_for_users"] });
    const body = { tools: [mcp("notes")], input: [call("notes", "whoami", {})] };
    const asked = await respond(runtime, body, mode);
    expect(consentsOf(asked)).toHaveLength(1);
    const page = await allow(person(authServer, `${user}@provider`), linkOf(asked));
    expect(headingOf(page)).toContain("Connected");
    expect(outputOf(await respond(runtime, body, mode))).toEqual([`${user}@provider`]);
  });
});

test("events come as they happen", async () => {
  script = [{ text: "word by word" }];
  const { events } = await streamed(client, { model: "m", input: "speak" });
  expect(events[0]?.type).toBe("response.created");
  expect(events.at(-1)?.type).toBe("response.completed");
});

test("calls at once share what they find out, and none waits for another that has gone", async () => {
  await world.connect("fresh", {
    authType: "CustomKeys",
    target: keyed.url,
    credentials: { keys: { "x-key": "the-secret-key" } },
  });
  const ask = (n: number) =>
    client.responses.create({ tools: [mcp("fresh")], input: [call("fresh", "echo", { text: `${n}` })] });
  const gone = new AbortController();
  const left = client.responses
    .create(
      { tools: [mcp("fresh")], input: [call("fresh", "echo", { text: "left" })] },
      { signal: gone.signal },
    )
    .catch(() => null);
  const asked = Array.from({ length: 10 }, (_, n) => ask(n));
  gone.abort();
  expect((await Promise.all(asked)).map((response) => outputOf(response)[0])).toEqual(
    asked.map((_, n) => `${n}`),
  );
  await left;
});

test("a grant that is taken back counts no more with the next call", async () => {
  const runtime = await world.runtime({ user: "bob", rights: ["act_for_users"] });
  const body = { tools: [mcp("notes")], input: [call("notes", "whoami", {})] };
  await allow(person(authServer, "bob@provider"), linkOf(await respond(runtime, body)));
  expect(outputOf(await respond(runtime, body))).toEqual(["bob@provider"]);
  const taken = await world.rest("DELETE", "/api/projects/default/connections/notes/grants/app:bob");
  expect(taken.status).toBeLessThan(300);
  const again = await respond(runtime, body);
  expect([outputOf(again), consentsOf(again).length]).toEqual([[], 1]);
});

test("a request with an Idempotency-Key is made once", async () => {
  const before = keyed.seen("tools/call").length;
  const ask = () =>
    client.responses.create(
      { tools: [mcp("keyed")], input: [call("keyed", "echo", { text: "once" })] },
      { headers: { "idempotency-key": "one" } },
    );
  const answers = await Promise.all([ask(), ask(), ask()]);
  expect(new Set(answers.map(({ id }) => id)).size).toBe(1);
  expect(keyed.seen("tools/call").length - before).toBe(1);
});

test("the record of a plain call is in the audit", async () => {
  await client.responses.create({
    tools: [mcp("keyed")],
    input: [call("keyed", "echo", { text: "audited" })],
  });
  await expect.poll(async () => (await audited(world, "tool_called")).length).toBeGreaterThan(0);
});

test("the cron sweeps, and nothing fails", async () => {
  await world.cron();
  expect(world.logs().filter(({ event }) => event === "sweep_failed")).toEqual([]);
});

test("no secret is in the log, and nothing went wrong in it", async () => {
  const logs = world.logs();
  const text = JSON.stringify(logs);
  for (const secret of ["the-secret-key", "model-key", "csk_"]) expect(text).not.toContain(secret);
  expect(logs.filter(({ level }) => level === "error" || level === "runtime")).toEqual([]);
});
