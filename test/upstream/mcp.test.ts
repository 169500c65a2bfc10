import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ToolDefinition } from "../../src/core/ports.ts";
import {
  answerJson,
  answerResult,
  DISCOVERED,
  everyBlock,
  say,
  schemaOf,
  startModernServer,
  startRawServer,
  type ModernServer,
  type RawServer,
} from "../helpers/mcp-servers.ts";
import { accessTo, callOf, createTestUpstream, within, type TestUpstream } from "../helpers/mcp-upstream.ts";

let upstream: TestUpstream;
let stops: (() => Promise<void>)[];

beforeEach(() => {
  upstream = createTestUpstream();
  stops = [() => upstream.close()];
});
afterEach(async () => {
  for (const stop of stops) await stop();
});

async function modern(options: Parameters<typeof startModernServer>[0] = {}): Promise<ModernServer> {
  const server = await startModernServer(options);
  stops.push(server.stop);
  return server;
}

/** A modern server whose answers to `tools/list` and `tools/call` are written by hand. */
async function rawModern(
  answers: Record<string, (params: Record<string, unknown>) => unknown>,
): Promise<RawServer> {
  const server = await startRawServer((request, response) => {
    const method = request.body?.method ?? "";
    if (method === "server/discover") return answerResult(request, response, DISCOVERED);
    return answerResult(request, response, answers[method]?.(request.body?.params ?? {}));
  });
  stops.push(server.stop);
  return server;
}

const complete = { resultType: "complete" };
const tool = (name: string, inputSchema: unknown = { type: "object" }) => ({ name, inputSchema });

describe("listing", () => {
  test("gives every page, in the server's order", async () => {
    const server = await modern({ pageSize: 3 });
    const outcome = await upstream.listTools(accessTo(server.url), within(5_000));
    expect(outcome.ok && outcome.tools.map(({ name }) => name)).toEqual(server.tools.map(({ name }) => name));
    expect(server.seen("tools/list")).toHaveLength(4);
  });

  test("gives a definition whole", async () => {
    const server = await modern();
    const outcome = await upstream.listTools(accessTo(server.url), within(5_000));
    const found = new Map(outcome.ok ? outcome.tools.map((each) => [each.name, each]) : []);
    expect(found.get("echo")).toEqual({
      name: "echo",
      title: "Echo",
      description: "Says what it was told.",
      inputSchema: { type: "object", properties: { text: { type: "string" } }, required: ["text"] },
      outputSchema: null,
      annotations: {},
    });
    expect(found.get("delete_note")?.annotations).toEqual({ readOnlyHint: false, destructiveHint: true });
    expect(found.get("measure")?.outputSchema).toMatchObject({ required: ["celsius"] });
  });

  test("shows a changed definition on the next listing", async () => {
    const server = await modern();
    await upstream.listTools(accessTo(server.url), within(5_000));
    server.tools.splice(0, 1, { ...standardEcho, description: "Sends what it was told to somebody else." });
    const outcome = await upstream.listTools(accessTo(server.url), within(5_000));
    expect(outcome.ok && outcome.tools[0]?.description).toBe("Sends what it was told to somebody else.");
  });

  test("says how long the server's list holds: the shortest of its pages, a day at most", async () => {
    const server = await modern({ listTtlMs: 90_000 });
    expect(await upstream.listTools(accessTo(server.url), within(5_000))).toMatchObject({ ttlMs: 90_000 });
    const paged = await rawModern({
      "tools/list": ({ cursor }) =>
        cursor
          ? { ...complete, tools: [tool("b")], ttlMs: 5_000, cacheScope: "public" }
          : { ...complete, tools: [tool("a")], ttlMs: 1e12, cacheScope: "public", nextCursor: "2" },
    });
    expect(await upstream.listTools(accessTo(paged.url), within(5_000))).toMatchObject({ ttlMs: 5_000 });
    const long = await rawModern({ "tools/list": () => ({ ...complete, tools: [tool("a")], ttlMs: 1e12 }) });
    expect(await upstream.listTools(accessTo(long.url), within(5_000))).toMatchObject({ ttlMs: 86_400_000 });
    const silent = await rawModern({ "tools/list": () => ({ ...complete, tools: [tool("a")] }) });
    expect(await upstream.listTools(accessTo(silent.url), within(5_000))).toMatchObject({ ttlMs: null });
  });

  test("drops a tool that cannot be used, alone, and logs why", async () => {
    const header = (wish: unknown, type = "string") => ({ region: { type, "x-mcp-header": wish } });
    const server = await rawModern({
      "tools/list": () => ({
        ...complete,
        tools: [
          tool("good", schemaOf(header("Region"), [])),
          tool("with space", {}),
          tool("naïve-日本"),
          tool(""),
          tool("x".repeat(129)),
          tool("line\nbreak"),
          tool("bidi\u202etxt"),
          tool("crlf\r\nX-Evil: 1"),
          tool("no-schema", null),
          null,
          tool("not-a-token", schemaOf(header("a b"), [])),
          tool("empty", schemaOf(header(""), [])),
          tool("number", schemaOf(header("N", "number"), [])),
          tool("twice", schemaOf({ ...header("R"), other: { type: "string", "x-mcp-header": "r" } }, [])),
          tool("hidden", {
            type: "object",
            properties: { list: { type: "array", items: header("R").region } },
          }),
          tool("root", { type: "object", "x-mcp-header": "R" }),
          tool("good", { type: "object", title: "another by the same name" }),
        ],
      }),
    });
    const outcome = await upstream.listTools(accessTo(server.url), within(5_000));
    expect(outcome.ok && outcome.tools.map(({ name }) => name)).toEqual(["good", "with space", "naïve-日本"]);
    expect(outcome.ok && outcome.tools[0]?.inputSchema).toHaveProperty("properties");
    const dropped = upstream.logged.filter(({ event }) => event === "tools_dropped");
    expect(dropped).toMatchObject([{ fields: { count: 14, tools: { length: 10 } } }]);
    expect(JSON.stringify(dropped)).not.toMatch(/Evil|\\u202e|\\n/);
  });

  test.each([
    [
      "a circle of cursors",
      ({ cursor }: Params) => ({ tools: [tool("a")], nextCursor: cursor === "1" ? "2" : "1" }),
    ],
    ["pages without end", ({ cursor }: Params) => ({ tools: [], nextCursor: `${Number(cursor ?? 0) + 1}` })],
    ["too many tools", () => ({ tools: Array.from({ length: 2_001 }, (_, n) => tool(`t${n}`)) })],
    ["no list", () => ({ tools: "many" })],
    ["only unusable tools", () => ({ tools: [{ name: 7 }, "x"] })],
  ])("fails, and is not empty, for %s", async (_what, answer) => {
    const server = await rawModern({ "tools/list": (params) => ({ ...complete, ...answer(params) }) });
    const outcome = await upstream.listTools(accessTo(server.url), within(5_000));
    expect(outcome).toMatchObject({
      ok: false,
      failure: { kind: expect.stringMatching(/not_mcp|too_large/) },
    });
    expect(server.requests.length).toBeLessThanOrEqual(51);
  });

  test("may be empty, and end with an empty cursor", async () => {
    const server = await rawModern({ "tools/list": () => ({ ...complete, tools: [], nextCursor: "" }) });
    expect(await upstream.listTools(accessTo(server.url), within(5_000))).toEqual({
      ok: true,
      tools: [],
      ttlMs: null,
    });
  });
});

describe("calling", () => {
  test("costs one POST once the era is known", async () => {
    const server = await modern();
    await upstream.listTools(accessTo(server.url), within(5_000));
    const before = server.requests.length;
    for (let n = 0; n < 3; n++)
      await upstream.callTool(accessTo(server.url), callOf("add", { a: n, b: 1 }), within(5_000));
    expect(server.requests.slice(before).map(({ method, body }) => [method, body?.method])).toEqual(
      Array(3).fill(["POST", "tools/call"]),
    );
  });

  test("says in every request what the revision asks for, and nothing of a caller", async () => {
    const server = await modern();
    const access = accessTo(server.url, { headers: { Authorization: "Bearer t0ken", "X-Team": "blue" } });
    await upstream.callTool(access, callOf("add", { a: 1, b: 2 }), within(5_000));
    const [call] = server.seen("tools/call");
    expect(Object.fromEntries(call?.headers ?? [])).toEqual({
      accept: "application/json, text/event-stream",
      "accept-encoding": expect.any(String),
      authorization: "Bearer t0ken",
      connection: "keep-alive",
      "content-length": expect.any(String),
      "content-type": "application/json",
      host: new URL(server.url).host,
      "mcp-method": "tools/call",
      "mcp-name": "add",
      "mcp-protocol-version": "2026-07-28",
      "user-agent": "consentry",
      "x-team": "blue",
    });
    expect(call?.body).toEqual({
      jsonrpc: "2.0",
      id: expect.any(Number),
      method: "tools/call",
      params: {
        name: "add",
        arguments: { a: 1, b: 2 },
        _meta: {
          "io.modelcontextprotocol/protocolVersion": "2026-07-28",
          "io.modelcontextprotocol/clientInfo": { name: "consentry-test", version: "0.0.1" },
          "io.modelcontextprotocol/clientCapabilities": {},
        },
      },
    });
    expect(server.requests.every(({ headers }) => headers.get("authorization") === "Bearer t0ken")).toBe(
      true,
    );
  });

  test("passes content on as it came", async () => {
    const content = [
      ...everyBlock(),
      { type: "hologram", beam: { deep: [1, null, "\u0000"] }, _meta: { "x/y": 1 } },
    ];
    const server = await rawModern({
      "tools/call": () => ({ ...complete, content, structuredContent: [1, { a: null }], isError: true }),
    });
    expect(await upstream.callTool(accessTo(server.url), callOf("any"), within(5_000))).toEqual({
      ok: true,
      result: { content, structuredContent: [1, { a: null }], isError: true },
    });
  });

  test.each([
    ["everything", { content: everyBlock().map((block) => expect.objectContaining(block)), isError: false }],
    ["measure", { structuredContent: { celsius: 21.5 } }],
    ["fail", { ...say("the printer is on fire"), isError: true }],
    ["throw", { ...say("a fault inside the tool"), isError: true }],
  ])("gives the result of %s", async (name, result) => {
    const server = await modern();
    const outcome = await upstream.callTool(accessTo(server.url), callOf(name), within(5_000));
    expect(outcome).toMatchObject({ ok: true, result });
  });

  test.each(["sse", "json"] as const)("understands an answer as %s", async (responses) => {
    const server = await modern({ responses });
    const outcome = await upstream.callTool(
      accessTo(server.url),
      callOf("echo", { text: "hé" }),
      within(5_000),
    );
    expect(outcome).toMatchObject({ ok: true, result: say("hé") });
  });

  test("keeps the connection, also after answers that came as a stream", async () => {
    const ports = new Set<number | undefined>();
    const server = await startRawServer((request, response, { socket }) => {
      ports.add(socket.remotePort);
      if (request.body?.method === "server/discover") return answerResult(request, response, DISCOVERED);
      const answer = { jsonrpc: "2.0", id: request.body?.id, result: { ...complete, content: [] } };
      response
        .writeHead(200, { "content-type": "text/event-stream" })
        .write(`data: ${JSON.stringify(answer)}\n\n`);
      setImmediate(() => response.end());
    });
    stops.push(server.stop);
    for (let n = 0; n < 5; n++) {
      const outcome = await upstream.callTool(accessTo(server.url), callOf("any"), within(5_000));
      expect(outcome).toMatchObject({ ok: true });
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    // The pool may open a second one where a request follows within the same tick.
    expect(ports.size).toBeLessThanOrEqual(2);
  });

  test("gives a JSON-RPC error its code and words", async () => {
    const server = await modern();
    expect(await upstream.callTool(accessTo(server.url), callOf("nope"), within(5_000))).toEqual({
      ok: false,
      failure: { kind: "protocol", code: -32602, message: "Tool nope not found" },
      sent: true,
    });
  });

  test.each([401, 403, 429, 500, 503])("gives HTTP %d as it is", async (status) => {
    const server = await startRawServer((request, response) => {
      if (request.body?.method === "server/discover") return answerResult(request, response, DISCOVERED);
      const error = { code: -32000, message: "secret words" };
      answerJson(response, { jsonrpc: "2.0", id: request.body?.id, error }, status);
    });
    stops.push(server.stop);
    expect(await upstream.callTool(accessTo(server.url), callOf("echo"), within(5_000))).toEqual({
      ok: false,
      failure: { kind: "http", status, message: `The server answered with HTTP ${status}.`, challenge: null },
      sent: true,
    });
  });

  test("gives the 401 of a server that wants a credential from the first word on", async () => {
    const server = await modern({ header: { name: "x-api-key", value: "right" } });
    const refused = { ok: false, failure: { kind: "http", status: 401 } };
    const wrong = accessTo(server.url, { headers: { "X-Api-Key": "wrong" } });
    expect(await upstream.listTools(wrong, within(5_000))).toMatchObject(refused);
    expect(await upstream.callTool(wrong, callOf("echo"), within(5_000))).toMatchObject({
      ...refused,
      sent: false,
    });
    const right = accessTo(server.url, { headers: { "X-Api-Key": "right" } });
    expect(await upstream.listTools(right, within(5_000))).toMatchObject({ ok: true });
    expect(await upstream.callTool(wrong, callOf("echo"), within(5_000))).toMatchObject({
      ...refused,
      sent: true,
    });
  });

  test("declines input that a tool asks for, and says so", async () => {
    const server = await rawModern({
      "tools/call": () => ({
        resultType: "input_required",
        inputRequests: {
          a: { method: "elicitation/create", params: { message: "password?" } },
          b: { method: "evil" },
        },
        requestState: "s",
      }),
    });
    expect(await upstream.callTool(accessTo(server.url), callOf("any"), within(5_000))).toEqual({
      ok: false,
      failure: {
        kind: "protocol",
        code: -32021,
        message:
          "The tool asks for more input before it can finish (elicitation/create); calls through this broker cannot give it.",
      },
      sent: true,
    });
    expect(server.seen("tools/call")).toHaveLength(1);
  });
});

describe("arguments mirrored in headers", () => {
  async function definitionOf(server: ModernServer, name: string): Promise<ToolDefinition | null> {
    const outcome = await upstream.listTools(accessTo(server.url), within(5_000));
    return (outcome.ok && outcome.tools.find((each) => each.name === name)) || null;
  }

  test("are sent along when the definition is at hand", async () => {
    const server = await modern();
    const definition = await definitionOf(server, "region");
    const call = { name: "region", arguments: { region: " wést\r\nX-Evil: 1" }, definition };
    const outcome = await upstream.callTool(accessTo(server.url), call, within(5_000));
    expect(outcome).toMatchObject({ ok: true, result: say("in  wést\r\nX-Evil: 1") });
    const [seen, ...more] = server.seen("tools/call");
    expect(more).toEqual([]);
    expect(seen?.headers.get("mcp-param-region")).toMatch(/^=\?base64\?[A-Za-z0-9+/=]+\?=$/);
    expect(seen?.headers.get("x-evil")).toBeNull();
  });

  test("are found out when the server misses them, and the call runs once", async () => {
    const ran: unknown[] = [];
    const server = await modern();
    const region = server.tools.find(({ name }) => name === "region");
    if (region) region.run = ({ region: where }) => (ran.push(where), say("ok"));
    const outcome = await upstream.callTool(
      accessTo(server.url),
      callOf("region", { region: "north" }),
      within(5_000),
    );
    expect(outcome).toMatchObject({ ok: true, result: say("ok") });
    expect(ran).toEqual(["north"]);
    expect(server.seen("tools/call").map(({ headers }) => headers.get("mcp-param-region"))).toEqual([
      null,
      "north",
    ]);
  });
});

describe("giving up", () => {
  test("ends a call at its time limit, and tells the server by closing the stream", async () => {
    const server = await modern();
    const outcome = await upstream.callTool(accessTo(server.url), callOf("slow"), within(300));
    expect(outcome).toMatchObject({ ok: false, failure: { kind: "timeout" }, sent: true });
    await server.slow.cancelled;
    expect(server.seen("notifications/cancelled")).toEqual([]);
  });

  test("ends a call at once when its caller leaves", async () => {
    const server = await modern();
    const caller = new AbortController();
    const call = upstream.callTool(accessTo(server.url), callOf("slow"), within(60_000, caller.signal));
    await server.slow.started;
    caller.abort();
    expect(await call).toMatchObject({ ok: false, failure: { kind: "cancelled" }, sent: true });
    await server.slow.cancelled;
  });

  test("sends nothing for a caller who has left already", async () => {
    const server = await modern();
    const left = within(5_000, AbortSignal.abort());
    expect(await upstream.callTool(accessTo(server.url), callOf("echo"), left)).toMatchObject({
      failure: { kind: "cancelled" },
      sent: false,
    });
    expect(server.requests).toEqual([]);
  });

  test("is not put off by progress", async () => {
    const server = await startRawServer((request, response) => {
      if (request.body?.method === "server/discover") return answerResult(request, response, DISCOVERED);
      response.writeHead(200, { "content-type": "text/event-stream" });
      const progress = {
        jsonrpc: "2.0",
        method: "notifications/progress",
        params: { progressToken: 1, progress: 1 },
      };
      const timer = setInterval(() => response.write(`data: ${JSON.stringify(progress)}\n\n`), 10);
      response.on("close", () => clearInterval(timer));
    });
    stops.push(server.stop);
    const began = Date.now();
    const outcome = await upstream.callTool(accessTo(server.url), callOf("any"), within(400));
    expect(outcome).toMatchObject({ failure: { kind: "timeout" }, sent: true });
    expect(Date.now() - began).toBeLessThan(2_000);
  });

  test("ends everything when the broker stops, and refuses what comes later", async () => {
    const server = await modern();
    const call = upstream.callTool(accessTo(server.url), callOf("slow"), within(60_000));
    await server.slow.started;
    await upstream.close();
    expect(await call).toMatchObject({ failure: { kind: "cancelled" } });
    const before = server.requests.length;
    expect(await upstream.listTools(accessTo(server.url), within(1_000))).toMatchObject({ ok: false });
    expect(server.requests).toHaveLength(before);
  });
});

type Params = Record<string, unknown>;
const standardEcho = { name: "echo", inputSchema: schemaOf({}, []), run: () => say("") };
