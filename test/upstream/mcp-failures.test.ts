import { createServer } from "node:net";
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import type { UpstreamFailure } from "../../src/core/ports.ts";
import { answerResult, DISCOVERED, startRawServer, type SeenRequest } from "../helpers/mcp-servers.ts";
import { accessTo, callOf, createTestUpstream, within, type TestUpstream } from "../helpers/mcp-upstream.ts";

let upstream: TestUpstream;
let stops: (() => Promise<void>)[];
const unhandled: unknown[] = [];
const note = (reason: unknown) => unhandled.push(reason);
process.on("unhandledRejection", note);
process.on("uncaughtException", note);

beforeEach(() => {
  upstream = createTestUpstream();
  stops = [() => upstream.close()];
});
afterEach(async () => {
  for (const stop of stops) await stop();
});
afterAll(() => {
  process.off("unhandledRejection", note);
  process.off("uncaughtException", note);
});

type Answer = (response: ServerResponse, request: SeenRequest) => void;
type Kind = UpstreamFailure["kind"];

const json =
  (body: unknown): Answer =>
  (response) =>
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
const raw =
  (body: string | Buffer, type = "application/json", more: Record<string, string> = {}): Answer =>
  (response) =>
    response.writeHead(200, { "content-type": type, ...more }).end(body);
const sse = (...data: string[]) => raw(data.map((each) => `data: ${each}\n\n`).join(""), "text/event-stream");
const cut =
  (body: string, type: string): Answer =>
  (response) => {
    response.writeHead(200, { "content-type": type }).write(body);
    setTimeout(() => response.destroy(), 20);
  };
const own =
  (rest: (id: unknown) => unknown): Answer =>
  (response, { body }) =>
    json(rest(body?.id))(response, { body } as SeenRequest);

/** What a server may answer instead of what it should, and what that is called. */
const odd: [string, Kind, Answer][] = [
  ["a web page", "not_mcp", raw("<!doctype html><p>hello SECRETBODY", "text/html")],
  ["nothing, without a type", "not_mcp", (response) => response.writeHead(200).end()],
  ["nothing, said to be JSON", "not_mcp", raw("")],
  ["202", "not_mcp", (response) => response.writeHead(202).end()],
  ["204", "not_mcp", (response) => response.writeHead(204).end()],
  ["broken JSON", "not_mcp", raw('{"jsonrpc":"2.0","id":1,"resu SECRETBODY')],
  ["JSON that is not an object", "not_mcp", raw('"SECRETBODY"')],
  ["an empty batch", "not_mcp", raw("[]")],
  ["a batch of rubbish", "not_mcp", raw('[1,null,"SECRETBODY"]')],
  ["JSON-RPC 1.0", "not_mcp", own((id) => ({ jsonrpc: "1.0", id, result: {} }))],
  [
    "the answer to another request",
    "not_mcp",
    json({ jsonrpc: "2.0", id: 987_654_321, result: { content: [] } }),
  ],
  ["an id of another type", "not_mcp", own((id) => ({ jsonrpc: "2.0", id: `${String(id)}.0`, result: {} }))],
  ["a result for no request", "not_mcp", json({ jsonrpc: "2.0", id: null, result: {} })],
  ["a result of null", "not_mcp", own((id) => ({ jsonrpc: "2.0", id, result: null }))],
  ["neither result nor error", "not_mcp", own((id) => ({ jsonrpc: "2.0", id }))],
  [
    "an error without a code",
    "not_mcp",
    own((id) => ({ jsonrpc: "2.0", id, error: { message: "SECRETBODY" } })),
  ],
  ["an event stream of rubbish", "not_mcp", sse("SECRETBODY")],
  [
    "an event stream with the answer to another request",
    "not_mcp",
    sse('{"jsonrpc":"2.0","id":-5,"result":{}}'),
  ],
  ["an event stream that is empty", "unreachable", sse()],
  ["an event stream that ends too early", "unreachable", sse('{"jsonrpc":"2.0","method":"notifications/x"}')],
  ["an event stream that breaks off", "unreachable", cut("data: {", "text/event-stream")],
  ["JSON that breaks off", "unreachable", cut('{"jsonrpc"', "application/json")],
  ["a closed connection", "unreachable", (response) => response.destroy()],
  [
    "less than it promises",
    "unreachable",
    (response) => {
      response.writeHead(200, { "content-type": "application/json", "content-length": "500" }).write("{}");
      setTimeout(() => response.destroy(), 20);
    },
  ],
  ["damaged compression", "unreachable", raw("not gzip", "application/json", { "content-encoding": "gzip" })],
  ["a coding nobody asked for", "unreachable", raw("{}", "application/json", { "content-encoding": "zstd" })],
  ["silence", "timeout", () => {}],
  [
    "a head and silence",
    "timeout",
    (response) => response.writeHead(200, { "content-type": "application/json" }).write(" "),
  ],
  [
    "an event stream of silence",
    "timeout",
    (response) => response.writeHead(200, { "content-type": "text/event-stream" }).write(":\n\n"),
  ],
  ["a page of HTTP 500", "http", (response) => response.writeHead(500).end("SECRETBODY")],
  ["HTTP 418 without words", "http", (response) => response.writeHead(418).end()],
  ["a redirect to nowhere", "refused", (response) => response.writeHead(307).end()],
  ["a redirect to rubbish", "refused", (response) => response.writeHead(308, { location: "http://[" }).end()],
  [
    "a redirect that makes it another request",
    "refused",
    (response) => response.writeHead(303, { location: "/mcp" }).end(),
  ],
  ["a circle of redirects", "refused", (response) => response.writeHead(307, { location: "/mcp" }).end()],
];

/** Short only where it is to be reached, so that a busy machine changes nothing. */
const limitFor = (kind: Kind) => within(kind === "timeout" ? 300 : 20_000);

async function serverThat(answer: Answer, { stateless }: { stateless: boolean }) {
  const server = await startRawServer((request, response) => {
    if (stateless && request.body?.method === "server/discover")
      return answerResult(request, response, DISCOVERED);
    answer(response, request);
  });
  stops.push(server.stop);
  return server;
}

describe("a call", () => {
  test.each(odd)("answered with %s is %s", async (_what, kind, answer) => {
    const { url } = await serverThat(answer, { stateless: true });
    const outcome = await upstream.callTool(accessTo(url), callOf("any"), limitFor(kind));
    expect(outcome).toMatchObject({ ok: false, failure: { kind }, sent: true });
    expect(JSON.stringify(outcome)).not.toContain("SECRETBODY");
  });
});

describe("a listing", () => {
  test.each(odd)("answered with %s is %s", async (_what, kind, answer) => {
    const { url } = await serverThat(answer, { stateless: true });
    const outcome = await upstream.listTools(accessTo(url), limitFor(kind));
    expect(outcome).toMatchObject({ ok: false, failure: { kind } });
    expect(JSON.stringify([outcome, upstream.logged])).not.toContain("SECRETBODY");
  });
});

describe("a first contact", () => {
  test.each(odd)("answered with %s fails as %s, and nothing was called", async (_what, kind, answer) => {
    const server = await serverThat(answer, { stateless: false });
    const outcome = await upstream.callTool(accessTo(server.url), callOf("any"), limitFor(kind));
    expect(outcome).toMatchObject({ ok: false, failure: { kind }, sent: false });
    expect(server.seen("tools/call")).toEqual([]);
    expect(JSON.stringify(outcome)).not.toContain("SECRETBODY");
  });
});

test.each([
  ["no list", "text"],
  ["strings in its list", ["text"]],
  ["null in its list", [null]],
  ["lists in its list", [[]]],
])("a result whose content has %s is not MCP", async (_what, content) => {
  const { url } = await serverThat(
    (response, request) => answerResult(request, response, { resultType: "complete", content }),
    {
      stateless: true,
    },
  );
  expect(await upstream.callTool(accessTo(url), callOf("any"), within(1_000))).toMatchObject({
    ok: false,
    failure: { kind: "not_mcp" },
  });
});

test("a kind of result from the future is not taken for a finished one", async () => {
  const { url } = await serverThat(
    (response, request) => answerResult(request, response, { resultType: "task", content: [] }),
    { stateless: true },
  );
  expect(await upstream.callTool(accessTo(url), callOf("any"), within(1_000))).toMatchObject({
    ok: false,
    failure: { kind: "not_mcp" },
  });
});

test("a server's error text is bounded, and nothing in it is hidden", async () => {
  const message = `one\ntwo\r\u0000\u001b[31m \u202e\u200b\ufeff\ud800 ${"x".repeat(100_000)}`;
  const { url } = await serverThat(
    own((id) => ({ jsonrpc: "2.0", id, error: { code: -32603, message } })),
    {
      stateless: true,
    },
  );
  const outcome = await upstream.callTool(accessTo(url), callOf("any"), within(2_000));
  if (outcome.ok) throw new Error("It should have failed.");
  expect(outcome.failure).toMatchObject({ kind: "protocol", code: -32603 });
  expect(outcome.failure.message).toMatch(
    /^one\\ntwo\\u000d\\u0000\\u001b\[31m \\u202e\\u200b\\ufeff\ufffd xxx/,
  );
  expect(outcome.failure.message.length).toBeLessThanOrEqual(2_001);
});

test("a session id that no header can carry is refused", async () => {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      const asked = chunk.toString();
      const body = asked.includes('"initialize"')
        ? JSON.stringify({
            jsonrpc: "2.0",
            id: 0,
            result: {
              protocolVersion: "2025-11-25",
              capabilities: {},
              serverInfo: { name: "x", version: "1" },
            },
          })
        : "{}";
      const status = asked.includes("server/discover") ? "404 Not Found" : "200 OK";
      socket.write(
        `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nMcp-Session-Id: a b\u00ff\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
        "latin1",
      );
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stops.push(async () => void server.close());
  const address = server.address();
  const port = typeof address === "object" ? address?.port : 0;
  const outcome = await upstream.callTool(
    accessTo(`http://127.0.0.1:${port}/mcp`),
    callOf("any"),
    within(2_000),
  );
  expect(outcome).toMatchObject({ ok: false, failure: { kind: "not_mcp" }, sent: false });
});

test("what is not HTTP is a broken connection", async () => {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", () => socket.end("SSH-2.0-OpenSSH_9.9\r\n"));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stops.push(async () => void server.close());
  const address = server.address();
  const port = typeof address === "object" ? address?.port : 0;
  const outcome = await upstream.listTools(accessTo(`http://127.0.0.1:${port}/mcp`), within(2_000));
  expect(outcome).toMatchObject({ ok: false, failure: { kind: "unreachable", reason: "closed" } });
});

test("a URL that egress refuses, or that is none, is refused", async () => {
  for (const url of ["http://example.com/mcp", "ftp://127.0.0.1/", "not a url", ""]) {
    expect(await upstream.callTool(accessTo(url), callOf("any"), within(1_000))).toMatchObject({
      ok: false,
      failure: { kind: "refused" },
      sent: false,
    });
  }
});

test("none of this left a rejection that nobody handles", async () => {
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(unhandled).toEqual([]);
});
