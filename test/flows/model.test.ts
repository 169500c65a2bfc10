import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type OpenAI from "openai";
import {
  type EverythingServer,
  type ModernServer,
  startEverything,
  startModernServer,
} from "../helpers/mcp-servers.ts";
import {
  type ChatRequest,
  lastText,
  type Script,
  type ScriptedModel,
  type ScriptedTurn,
  startModel,
} from "../helpers/model.ts";
import { createWorld, itemsOf, MODES, respond, streamed, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let notes: ModernServer;
let everything: EverythingServer;
let model: ScriptedModel;
let client: OpenAI;
let script: ScriptedTurn[] | ((request: ChatRequest) => ScriptedTurn);

beforeAll(async () => {
  const play: Script = (request) =>
    (typeof script === "function" ? script(request) : script.shift()) ?? {
      status: 500,
      body: { error: { message: "no more turns" } },
    };
  [notes, everything, model] = await Promise.all([startModernServer(), startEverything(), startModel(play)]);
  world = await createWorld({ model });
  await world.connect("notes", { target: notes.url });
  await world.connect("everything", { target: everything.url });
  client = await world.runtime();
});
beforeEach(() => {
  model.requests.length = 0;
});
afterAll(async () => {
  await world.stop();
  await Promise.all([notes.stop(), everything.stop(), model.close()]);
});

const never = (label: string) => ({
  type: "mcp" as const,
  server_label: label,
  require_approval: "never" as const,
});
const names = (at: number) => (model.requests[at]?.body.tools ?? []).map((tool) => tool.function.name);

test("what a model says in one response is bounded over all its rounds", async () => {
  // Each round is within its own limit, and calls a tool that there is not, so that another one follows.
  script = () => ({ text: "x".repeat(3_000_000), calls: [{ name: "nope", arguments: {} }] });
  const asked = client.responses.create(
    { model: "m", tools: [never("notes")], input: "go on" },
    { maxRetries: 0 },
  );
  const outcome = await asked.then(({ error }) => error?.message, String);
  expect(outcome).toContain("said more than one response may hold");
  expect(model.requests).toHaveLength(6);
});

describe.each(MODES)("with a model, %s", (mode) => {
  test("it lists, calls, reads the result and answers; text streams through", async () => {
    script = [
      { text: "Let me look. ", calls: [{ name: "notes__read_note", arguments: { id: "7" } }] },
      { text: "You need milk." },
    ];
    const response = await respond(
      client,
      { model: "m", input: "what do I need?", tools: [never("notes")] },
      mode,
    );
    expect(response.status).toBe("completed");
    expect(response.output.map(({ type }) => type)).toEqual([
      "mcp_list_tools",
      "message",
      "mcp_call",
      "message",
    ]);
    expect(itemsOf(response, "mcp_call")[0]).toMatchObject({
      name: "read_note",
      output: "note 7: buy milk",
      server_label: "notes",
    });
    expect(response.output_text).toBe("Let me look. You need milk.");
    expect(response.usage?.total_tokens).toBe(30);
    expect(lastText(model.requests[1]?.body as ChatRequest)).toContain("buy milk");
  });

  test("tools of two servers and the client's own do not collide", async () => {
    script = [
      {
        calls: [
          { name: "notes__echo", arguments: { text: "a" } },
          { name: "everything__echo", arguments: { message: "b" } },
          { name: "echo", arguments: { c: 1 }, id: "call_own" },
        ],
      },
    ];
    const own = { type: "function" as const, name: "echo", parameters: { type: "object" }, strict: null };
    const response = await respond(
      client,
      { model: "m", input: "go", tools: [never("notes"), never("everything"), own] },
      mode,
    );
    expect(new Set(itemsOf(response, "mcp_call").map(({ output }) => output))).toEqual(
      new Set(["Echo: b", "a"]),
    );
    expect(itemsOf(response, "function_call")).toMatchObject([
      { call_id: "call_own", name: "echo", arguments: '{"c":1}', status: "completed" },
    ]);

    script = [{ text: "done" }];
    const next = await respond(
      client,
      {
        model: "m",
        previous_response_id: response.id,
        input: [{ type: "function_call_output", call_id: "call_own", output: "C!" }],
      },
      mode,
    );
    expect(next.output_text).toBe("done");
    const roles = model.requests.at(-1)?.body.messages.map(({ role }) => role);
    expect(roles).toEqual(["user", "assistant", "tool", "tool", "tool"]);
    // The lists are in the conversation: they are not said again.
    expect(itemsOf(next, "mcp_list_tools")).toEqual([]);
  });

  test("a failing tool and arguments that are no JSON are failed items, and the model goes on", async () => {
    script = [
      {
        calls: [
          { name: "notes__fail", arguments: {} },
          { name: "notes__echo", arguments: "{oops" },
          { name: "notes__throw", arguments: {} },
        ],
      },
      { text: "sorry" },
    ];
    const response = await respond(client, { model: "m", input: "go", tools: [never("notes")] }, mode);
    const calls = itemsOf(response, "mcp_call");
    expect(calls.map(({ status }) => status)).toEqual(["failed", "failed", "failed"]);
    expect(calls[1]?.error).toMatchObject({ type: "mcp_protocol_error", code: -32602 });
    expect(response.output_text).toBe("sorry");
    expect(JSON.stringify(model.requests[1]?.body.messages)).toContain("the printer is on fire");
  });

  test("a server that is down is shown as failed, and the model works with the others", async () => {
    await world.connect("down", { target: "http://127.0.0.1:1/mcp" });
    script = [{ text: "ok" }];
    const response = await respond(
      client,
      { model: "m", input: "go", tools: [never("down"), never("notes")] },
      mode,
    );
    const [down, up] = itemsOf(response, "mcp_list_tools");
    expect(down?.error).toBeTruthy();
    expect(up?.error).toBeUndefined();
    expect(names(0).every((name) => name.startsWith("notes__"))).toBe(true);
  });

  test("allowed_tools hides tools and holds on the call", async () => {
    script = [{ calls: [{ name: "notes__delete_note", arguments: { id: "1" } }] }, { text: "I could not." }];
    const before = notes.seen("tools/call").length;
    const tools = [{ ...never("notes"), allowed_tools: { read_only: true } }];
    const response = await respond(client, { model: "m", input: "delete", tools }, mode);
    expect(names(0)).toEqual(["notes__read_note"]);
    expect(notes.seen("tools/call").length).toBe(before);
    expect(itemsOf(response, "mcp_call")).toEqual([]);
    expect(response.output_text).toBe("I could not.");
  });

  test("max_tool_calls: what comes after the limit is ignored and the model answers without tools", async () => {
    const one = { name: "notes__echo", arguments: { text: "x" } };
    script = [{ calls: [one] }, { calls: [one, one] }, { text: "enough" }];
    const response = await respond(
      client,
      { model: "m", input: "go", tools: [never("notes")], max_tool_calls: 2 },
      mode,
    );
    expect(itemsOf(response, "mcp_call")).toHaveLength(2);
    expect(model.requests[2]?.body.tools ?? []).toEqual([]);
    expect(response.output_text).toBe("enough");
  });

  test("a cut-off answer is incomplete, a refusal is said", async () => {
    script = [{ text: "half a", finish: "length" }];
    const cut = await respond(client, { model: "m", input: "go" }, mode);
    expect([cut.status, cut.incomplete_details]).toEqual(["incomplete", { reason: "max_output_tokens" }]);
    script = [{ refusal: "I will not." }];
    const refused = await respond(client, { model: "m", input: "go" }, mode);
    expect(itemsOf(refused, "message")[0]?.content).toMatchObject([
      { type: "refusal", refusal: "I will not." },
    ]);
  });

  test("a conversation goes on by previous_response_id; model and tools are recovered, instructions are not", async () => {
    script = [{ text: "hello Ann" }];
    const first = await respond(
      client,
      { model: "m", input: "I am Ann", instructions: "be kind", tools: [never("notes")] },
      mode,
    );
    script = [{ text: "Ann" }];
    const second = await respond(client, { previous_response_id: first.id, input: "who am I?" }, mode);
    expect(second.output_text).toBe("Ann");
    expect(second.model).toBe("m");
    const last = model.requests.at(-1)?.body;
    expect(last?.messages.map(({ role }) => role)).toEqual(["user", "assistant", "user"]);
    expect(last?.tools?.length).toBeGreaterThan(3);
    expect(second.instructions).toBeNull();
  });

  test("replayed history is read, never run", async () => {
    script = [{ text: "as before" }];
    const before = notes.seen("tools/call").length;
    const list = { type: "mcp_list_tools" as const, id: "mcpl_x", server_label: "notes", tools: [] };
    const old = {
      type: "mcp_call" as const,
      id: "mcp_old",
      server_label: "notes",
      name: "delete_note",
      arguments: '{"id":"1"}',
      status: "completed" as const,
      output: "deleted 1",
    };
    const response = await respond(
      client,
      {
        model: "m",
        store: false,
        input: [{ role: "user", content: "delete" }, list, old, { role: "user", content: "and?" }],
        tools: [never("notes")],
      },
      mode,
    );
    expect(notes.seen("tools/call").length).toBe(before);
    expect(response.output_text).toBe("as before");
    expect(JSON.stringify(model.requests[0]?.body.messages)).toContain("deleted 1");
  });
});

describe("tool_choice", () => {
  const tools = [
    never("notes"),
    never("everything"),
    { type: "function" as const, name: "own", parameters: {}, strict: null },
  ];
  test.each([
    ["required", "required", null],
    ["none", "none", null],
    [{ type: "function", name: "own" }, { type: "function", function: { name: "own" } }, null],
    [
      { type: "mcp", server_label: "notes", name: "echo" },
      { type: "function", function: { name: "notes__echo" } },
      null,
    ],
    [{ type: "mcp", server_label: "notes" }, "required", "notes__"],
    [
      { type: "allowed_tools", mode: "required", tools: [{ type: "mcp", server_label: "notes" }] },
      "required",
      "notes__",
    ],
    [{ type: "allowed_tools", mode: "auto", tools: [{ type: "function", name: "own" }] }, "auto", "own"],
  ])("%j reaches the model, in the first round only", async (choice, sent, prefix) => {
    script = [{ calls: [{ name: "notes__echo", arguments: { text: "x" } }] }, { text: "done" }];
    await client.responses.create({ model: "m", input: "go", tools, tool_choice: choice as never });
    const [first, second] = model.requests;
    expect(first?.body["tool_choice"] ?? "auto").toEqual(sent);
    expect(names(0).filter((name) => !name.startsWith(prefix ?? ""))).toEqual([]);
    // With "none" there is none; otherwise nothing is forced any more.
    expect(second?.body["tool_choice"] ?? "auto").toBe(choice === "none" ? "none" : "auto");
  });
});

describe("a model that fails", () => {
  test("before anything was done, its status is the answer", async () => {
    script = [{ status: 429, body: { error: { message: "slow down" } } }];
    await expect(client.responses.create({ model: "m", input: "x" })).rejects.toMatchObject({ status: 429 });
    script = [{ status: 401, body: { error: { message: "bad key sk-123" } } }];
    await expect(client.responses.create({ model: "m", input: "x" })).rejects.toMatchObject({ status: 502 });
    script = [{ status: 400, body: { error: { message: "no such model" } } }];
    await expect(client.responses.create({ model: "m", input: "x" })).rejects.toMatchObject({ status: 400 });
  });

  test("after a tool ran, the response says what was done and that it failed", async () => {
    script = [{ calls: [{ name: "notes__echo", arguments: { text: "done" } }] }, { status: 500, body: {} }];
    const response = await client.responses.create({ model: "m", input: "x", tools: [never("notes")] });
    expect(response.status).toBe("failed");
    expect(itemsOf(response, "mcp_call")[0]?.output).toBe("done");
    expect(await client.responses.retrieve(response.id)).toMatchObject({ status: "failed" });
  });

  test("in a stream, response.created comes first, then the error", async () => {
    script = [{ status: 500, body: {} }];
    const stream = await client.responses.create({ model: "m", input: "x", stream: true });
    const seen: string[] = [];
    const read = async () => {
      for await (const event of stream) seen.push(event.type);
    };
    await expect(read()).rejects.toThrow();
    expect(seen).toEqual(["response.created", "response.in_progress"]);
  });
});

test("a caller that leaves cancels the call that is under way", async () => {
  script = [{ calls: [{ name: "notes__slow", arguments: {} }] }];
  const left = new AbortController();
  const asked = client.responses.create(
    { model: "m", input: "x", tools: [never("notes")], stream: true },
    { signal: left.signal },
  );
  const stream = await asked;
  const reading = (async () => {
    for await (const _ of stream);
  })().catch(() => {});
  await notes.slow.started;
  left.abort();
  await expect(notes.slow.cancelled).resolves.toBeUndefined();
  await reading;
});

test("no stream says more than the events that clients know", async () => {
  script = [{ text: "a", calls: [{ name: "notes__echo", arguments: { text: "x" } }] }, { text: "b" }];
  const { events } = await streamed(client, { model: "m", input: "go", tools: [never("notes")] });
  expect(events.slice(0, 6).map(({ type }) => type)).toEqual([
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.mcp_list_tools.in_progress",
    "response.mcp_list_tools.completed",
    "response.output_item.done",
  ]);
  const deltas = events.filter(({ type }) => type === "response.output_text.delta");
  expect(deltas.length).toBeGreaterThanOrEqual(2);
});
