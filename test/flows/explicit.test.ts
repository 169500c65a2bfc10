import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type EverythingServer,
  type ModernServer,
  startEverything,
  startModernServer,
} from "../helpers/mcp-servers.ts";
import { call, createWorld, itemsOf, MODES, respond, streamed, type TestWorld } from "../helpers/world.ts";
import type OpenAI from "openai";

let world: TestWorld;
let modern: ModernServer;
let everything: EverythingServer;
let client: OpenAI;

beforeAll(async () => {
  [world, modern, everything] = await Promise.all([
    createWorld(),
    startModernServer({ header: { name: "x-api-key", value: "the key" } }),
    startEverything(),
  ]);
  await world.connect("notes", {
    target: modern.url,
    authType: "CustomKeys",
    credentials: { keys: { "x-api-key": "the key" } },
  });
  await world.connect("everything", { target: everything.url });
  client = await world.runtime();
});
afterAll(async () => {
  await world.stop();
  await Promise.all([modern.stop(), everything.stop()]);
});

const never = (label: string) => ({
  type: "mcp" as const,
  server_label: label,
  require_approval: "never" as const,
});

describe.each(MODES)("explicit calls, %s", (mode) => {
  test("a tool of a stateless server on 2026-07-28 is called with the connection's key", async () => {
    const response = await respond(
      client,
      { tools: [never("notes")], input: [call("notes", "echo", { text: "hello" })] },
      mode,
    );
    expect(response.status).toBe("completed");
    expect(response.model).toBe("none");
    expect(response.output).toEqual([
      {
        type: "mcp_call",
        id: "call_echo",
        status: "completed",
        approval_request_id: null,
        server_label: "notes",
        name: "echo",
        arguments: '{"text":"hello"}',
        output: "hello",
        error: null,
      },
    ]);
    expect(response.usage?.total_tokens).toBe(0);
  });

  test("a tool of a sessionful v1 server is called", async () => {
    const input = [call("everything", "echo", { message: "hello" })];
    const response = await respond(client, { tools: [never("everything")], input }, mode);
    expect(itemsOf(response, "mcp_call")[0]?.output).toBe("Echo: hello");
  });

  test("several calls run at once and are answered in the order in which they were given", async () => {
    const input = [
      call("everything", "get-sum", { a: 1, b: 2 }, "c1"),
      call("notes", "add", { a: 3, b: 4 }, "c2"),
      call("notes", "fail", {}, "c3"),
      call("notes", "read_note", {}, "c4"),
    ];
    const response = await respond(client, { tools: [never("notes"), never("everything")], input }, mode);
    const calls = itemsOf(response, "mcp_call");
    expect(calls.map(({ id, status }) => [id, status])).toEqual([
      ["c1", "completed"],
      ["c2", "completed"],
      ["c3", "failed"],
      ["c4", "completed"],
    ]);
    expect(calls[1]?.output).toBe("7");
    expect(calls[2]?.error).toEqual({
      type: "mcp_tool_execution_error",
      content: [{ type: "text", text: "the printer is on fire" }],
    });
  });

  test("without calls and without a model, tools are listed and nothing else", async () => {
    const response = await respond(client, { tools: [never("notes")] }, mode);
    const [list, ...rest] = response.output;
    expect(rest).toEqual([]);
    expect(list).toMatchObject({ type: "mcp_list_tools", server_label: "notes" });
    const tools = itemsOf(response, "mcp_list_tools")[0]?.tools ?? [];
    expect(tools.find(({ name }) => name === "read_note")?.annotations).toEqual({
      readOnlyHint: true,
      read_only: true,
    });
    expect(tools.find(({ name }) => name === "echo")).toMatchObject({ annotations: { read_only: false } });
    expect(list && "error" in list).toBe(false);
  });

  test("a tool that is unknown or not allowed is a failed item, and both look the same", async () => {
    const before = modern.seen("tools/call").length;
    const allowed = { ...never("notes"), allowed_tools: ["echo"] };
    const input = [call("notes", "nope", {}, "c1"), call("notes", "add", { a: 1, b: 2 }, "c2")];
    const response = await respond(client, { tools: [allowed], input }, mode);
    const errors = itemsOf(response, "mcp_call").map(({ error }) => error);
    expect(errors).toEqual([
      { type: "mcp_protocol_error", code: -32602, message: "Unknown tool: nope" },
      { type: "mcp_protocol_error", code: -32602, message: "Unknown tool: add" },
    ]);
    expect(modern.seen("tools/call").length).toBe(before);
  });

  test("a server that is down fails its own calls, the others go on", async () => {
    await world.connect("down", { target: "http://127.0.0.1:1/mcp" });
    const input = [call("down", "echo", {}, "c1"), call("notes", "echo", { text: "up" }, "c2")];
    const response = await respond(client, { tools: [never("down"), never("notes")], input }, mode);
    const [down, up] = itemsOf(response, "mcp_call");
    expect(down).toMatchObject({ status: "failed", output: null, error: { type: "http_error", code: 502 } });
    expect(up?.output).toBe("up");
    const listed = await respond(client, { tools: [never("down"), never("notes")] }, mode);
    const [bad, good] = itemsOf(listed, "mcp_list_tools");
    expect(bad?.tools).toEqual([]);
    expect(bad?.error).toMatch(/127\.0\.0\.1/);
    expect(good?.tools.length).toBeGreaterThan(3);
  });

  test("every kind of content reaches the caller", async () => {
    const response = await respond(
      client,
      { tools: [never("notes")], input: [call("notes", "everything", {})] },
      mode,
    );
    const output = JSON.parse(itemsOf(response, "mcp_call")[0]?.output ?? "");
    const kinds = output.content.map(({ type }: { type: string }) => type);
    expect(kinds).toEqual(["text", "image", "audio", "resource", "resource", "resource_link"]);
    expect(output.content[0].text).toContain("words\u0000");
  });
});

test("events come in the order of the contract", async () => {
  const { events } = await streamed(client, {
    tools: [never("notes")],
    input: [call("notes", "echo", { text: "x" })],
  });
  expect(events.map(({ type }) => type)).toEqual([
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.mcp_call.in_progress",
    "response.mcp_call_arguments.delta",
    "response.mcp_call_arguments.done",
    "response.mcp_call.completed",
    "response.output_item.done",
    "response.completed",
  ]);
});

describe("a chain of explicit calls", () => {
  test("an id that was executed returns its stored result and is not run again", async () => {
    const first = await client.responses.create({
      tools: [never("notes")],
      input: [call("notes", "echo", { text: "1" }, "c1")],
    });
    const before = modern.seen("tools/call").length;
    const second = await client.responses.create({
      previous_response_id: first.id,
      input: [call("notes", "echo", { text: "other" }, "c1"), call("notes", "echo", { text: "2" }, "c2")],
    });
    expect(itemsOf(second, "mcp_call").map(({ output }) => output)).toEqual(["1", "2"]);
    expect(modern.seen("tools/call").length).toBe(before + 1);
    const again = await client.responses.create({
      tools: [never("notes")],
      input: [call("notes", "echo", { text: "3" }, "c1")],
    });
    expect(itemsOf(again, "mcp_call")[0]?.output).toBe("3");
  });

  test("a stored response is read, its input listed, and deleted", async () => {
    const made = await client.responses.create({
      tools: [never("notes")],
      input: [call("notes", "echo", { text: "1" }, "c1")],
      metadata: { a: "b" },
    });
    const read = await client.responses.retrieve(made.id);
    expect(read.output).toEqual(made.output);
    expect(read.metadata).toEqual({ a: "b" });
    const items = await client.responses.inputItems.list(made.id);
    expect(items.data).toMatchObject([{ type: "mcp_call", id: "c1", status: "calling" }]);
    await client.responses.delete(made.id);
    await expect(client.responses.retrieve(made.id)).rejects.toMatchObject({ status: 404 });
  });

  test("store:false keeps nothing", async () => {
    const made = await client.responses.create({
      store: false,
      tools: [never("notes")],
      input: [call("notes", "echo", { text: "1" })],
    });
    await expect(client.responses.retrieve(made.id)).rejects.toMatchObject({ status: 404 });
    const follow = client.responses.create({ previous_response_id: made.id, input: [] });
    await expect(follow).rejects.toMatchObject({ status: 400, code: "previous_response_not_found" });
  });

  test("two answers to one response are two threads", async () => {
    const first = await client.responses.create({
      tools: [never("notes")],
      input: [call("notes", "echo", { text: "1" }, "c1")],
    });
    const answer = (id: string) =>
      client.responses.create({
        previous_response_id: first.id,
        input: [call("notes", "echo", { text: id }, id)],
      });
    const made = await Promise.all(["a", "b", "c", "d"].map(answer));
    for (const [at, id] of ["a", "b", "c", "d"].entries()) {
      const items = await client.responses.inputItems.list(made[at]?.id ?? "", { order: "asc" });
      expect(items.data.map((item) => item.id)).toEqual(["c1", "c1", id]);
      const read = await client.responses.retrieve(made[at]?.id ?? "");
      expect(itemsOf(read, "mcp_call").map((item) => item.id)).toEqual([id]);
    }
  });
});

describe("a request that is wrong", () => {
  const refused = async (body: Record<string, unknown>) => {
    const error = await client.responses.create(body).then(
      () => null,
      (reason: { status: number; param: string; message: string }) => reason,
    );
    return error && { status: error.status, param: error.param };
  };
  test.each([
    [{ tools: [never("nope")], input: [] }, "tools[0].server_label"],
    [{ tools: [never("notes"), never("notes")] }, "tools[1].server_label"],
    [{ tools: [{ ...never("notes"), project_connection_id: "nope" }] }, "tools[0].project_connection_id"],
    [{ tools: [never("notes")], input: [call("other", "echo", {})] }, "input"],
    [
      { tools: [never("notes")], input: [call("notes", "echo", {}, "c"), call("notes", "add", {}, "c")] },
      "input[1].id",
    ],
    [
      { tools: [never("notes")], input: [{ ...call("notes", "echo", {}), arguments: "{" }] },
      "input[0].arguments",
    ],
    [
      { tools: [never("notes")], input: [{ ...call("notes", "echo", {}), arguments: 5 }] },
      "input[0].arguments",
    ],
    [{ tools: [{ type: "web_search" }] }, "tools[0].type"],
    [{ tools: [{ ...never("notes"), require_approval: "sometimes" }] }, "tools[0].require_approval"],
    [{ tools: [{ ...never("notes"), allowed_tools: 5 }] }, "tools[0].allowed_tools"],
    [{ tools: [{ ...never("notes"), headers: { Host: "x" } }] }, "tools[0].headers.Host"],
    [{ input: "hello" }, "model"],
    [{ tools: [never("notes")], input: [{ type: "message" }] }, "input[0].role"],
    [{ tools: [never("notes")], temperature: "hot" }, "temperature"],
    [{ tools: [never("notes")], tool_choice: "maybe" }, "tool_choice"],
    [{ tools: [never("notes")], previous_response_id: "resp_nope" }, "previous_response_id"],
    [{ tools: [never("notes")], conversation: "conv_1" }, "conversation"],
    [{ model: "gpt", tools: [never("notes")], input: [call("notes", "echo", {})] }, "input"],
    [
      {
        tools: [never("notes")],
        max_tool_calls: 1,
        input: [call("notes", "echo", {}, "a"), call("notes", "echo", {}, "b")],
      },
      "max_tool_calls",
    ],
  ])("%j names %s", async (body, param) => {
    expect(await refused(body)).toEqual({ status: 400, param });
  });

  test("several faults are named at once", async () => {
    const error = await client.responses
      .create({ tools: [{ type: "mcp", server_label: 5 }], temperature: "hot", input: [5] } as never)
      .catch((reason: Error) => reason.message);
    expect(error).toContain("temperature");
    expect(error).toContain("tools[0].server_label");
    expect(error).toContain("input[0]");
  });

  test("unknown fields are ignored", async () => {
    const response = await client.responses.create({
      tools: [never("notes")],
      text: {},
      nonsense: 1,
    } as never);
    expect(response.output).toHaveLength(1);
  });
});
