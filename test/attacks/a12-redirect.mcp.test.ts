import type { ServerResponse } from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  answerResult,
  DISCOVERED,
  INITIALIZED,
  say,
  startRawServer,
  type RawServer,
  type SeenRequest,
} from "../helpers/mcp-servers.ts";
import { accessTo, callOf, createTestUpstream, within, type TestUpstream } from "../helpers/mcp-upstream.ts";

// A12, for MCP: whatever a server answers, neither credential nor session id nor arguments reach another origin.

let upstream: TestUpstream;
let elsewhere: RawServer;
let stops: (() => Promise<void>)[];

beforeEach(async () => {
  upstream = createTestUpstream();
  elsewhere = await startRawServer((request, response) => answerResult(request, response, say("gotcha")));
  stops = [() => upstream.close(), elsewhere.stop];
});
afterEach(async () => {
  for (const stop of stops) await stop();
});

type Step =
  | "server/discover"
  | "initialize"
  | "notifications/initialized"
  | "tools/list"
  | "tools/call"
  | "GET"
  | "DELETE";

/** A server that redirects at one step, and is well-behaved at the others. */
async function redirecting(at: Step, redirect: (response: ServerResponse, request: SeenRequest) => void) {
  const modern = at === "server/discover";
  const server = await startRawServer((request, response) => {
    const step = request.body?.method ?? request.method;
    if (step === at) return redirect(response, request);
    if (step === "server/discover") return void response.writeHead(404).end();
    if (step === "initialize") response.setHeader("mcp-session-id", "s3ssion");
    if (request.body?.id === undefined) return void response.writeHead(202).end();
    if (step === "initialize") return answerResult(request, response, INITIALIZED);
    if (at === "GET" && step === "tools/call") {
      // Breaks off, so that the stream is to be taken up again with a GET.
      return void response
        .writeHead(200, { "content-type": "text/event-stream" })
        .end("id: 1\nretry: 100\ndata:\n\n");
    }
    answerResult(request, response, modern ? DISCOVERED : { tools: [], ...say("ok") });
  });
  stops.push(server.stop);
  return server;
}

const secret = { headers: { authorization: "Bearer s3cret" } };

const refused = { ok: false, failure: { kind: "refused" } };
const ok = { ok: true };
const steps: [Step, { listed: object; called: object }][] = [
  ["server/discover", { listed: refused, called: { ...refused, sent: false } }],
  ["initialize", { listed: refused, called: { ...refused, sent: false } }],
  ["notifications/initialized", { listed: refused, called: { ...refused, sent: false } }],
  ["tools/list", { listed: refused, called: ok }],
  ["tools/call", { listed: ok, called: { ...refused, sent: true } }],
  ["GET", { listed: ok, called: { ...refused, sent: true } }],
  ["DELETE", { listed: ok, called: ok }],
];

describe.each([301, 302, 303, 307, 308])("HTTP %d to another origin", (status) => {
  test.each(steps)("at %s leads nowhere", async (at, expected) => {
    const server = await redirecting(at, (response) => {
      response.writeHead(status, { location: elsewhere.url }).end();
    });
    const access = accessTo(server.url, secret);
    const listed = await upstream.listTools(access, within(3_000));
    const called = await upstream.callTool(access, callOf("any", { text: "argum3nt" }), within(3_000));
    await upstream.close();
    expect({ listed, called }).toMatchObject(expected);
    expect(elsewhere.requests).toEqual([]);
  });
});

test.each([
  "http://169.254.169.254/latest",
  "https://127.0.0.1:1/",
  "file:///etc/passwd",
  "//evil.example/mcp",
])("a redirect to %s is refused without a look", async (location) => {
  const server = await redirecting("tools/call", (response) => {
    response.writeHead(307, { location }).end();
  });
  const began = Date.now();
  const called = await upstream.callTool(accessTo(server.url, secret), callOf("any"), within(10_000));
  expect(called).toMatchObject({ ok: false, failure: { kind: "refused" }, sent: true });
  expect(Date.now() - began).toBeLessThan(2_000);
});

test.each([307, 308])("HTTP %d within the origin is followed, with the same request", async (status) => {
  const server = await redirecting("tools/call", (response, request) => {
    if (request.path === "/mcp/") return answerResult(request, response, say("moved"));
    response.writeHead(status, { location: "/mcp/" }).end();
  });
  const access = accessTo(server.url, secret);
  expect(await upstream.callTool(access, callOf("any"), within(3_000))).toMatchObject({
    ok: true,
    result: say("moved"),
  });
  const [first, second] = server.seen("tools/call");
  expect(second?.body).toEqual(first?.body);
  expect(second?.headers.get("mcp-session-id")).toBe("s3ssion");
  expect(second?.headers.get("authorization")).toBe("Bearer s3cret");
});
