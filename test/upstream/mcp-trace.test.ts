import { afterEach, expect, test } from "vitest";
import {
  answerJson,
  answerResult,
  DISCOVERED,
  INITIALIZED,
  type RawServer,
  say,
  type SeenRequest,
  startRawServer,
} from "../helpers/mcp-servers.ts";
import { accessTo, callOf, createTestUpstream, within } from "../helpers/mcp-upstream.ts";

const trace = { traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", tracestate: "a=1" };

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

const upstreamAndServer = async (era: "modern" | "legacy") => {
  const server: RawServer = await startRawServer((request, response) => {
    const method = request.body?.method;
    if (method === "server/discover" && era === "modern") return answerResult(request, response, DISCOVERED);
    if (method === "initialize") return answerResult(request, response, INITIALIZED);
    if (method === "tools/list")
      return answerResult(request, response, { tools: [], resultType: "complete" });
    if (method === "tools/call")
      return answerResult(request, response, { ...say("done"), resultType: "complete" });
    if (request.method !== "POST") return void response.writeHead(405).end();
    if (method === "notifications/initialized") return void response.writeHead(202).end();
    answerJson(
      response,
      { jsonrpc: "2.0", id: request.body?.id, error: { code: -32601, message: "no" } },
      404,
    );
  });
  const upstream = createTestUpstream();
  stops.push(server.stop, upstream.close);
  return { server, upstream };
};
const told = ({ headers, body }: SeenRequest) => ({
  headers: [headers.get("traceparent"), headers.get("tracestate")],
  meta: body?.params?.["_meta"],
});

test.each(["modern", "legacy"] as const)(
  "a server of the %s era is told the trace of a call in headers and in _meta",
  async (era) => {
    const { server, upstream } = await upstreamAndServer(era);
    const called = await upstream.callTool(accessTo(server.url), callOf("echo"), {
      ...within(5_000),
      trace,
    });
    expect(called.ok).toBe(true);
    await upstream.listTools(accessTo(server.url), { ...within(5_000), trace });
    for (const method of ["tools/call", "tools/list"]) {
      const [seen] = server.seen(method);
      expect(seen && told(seen)).toEqual({
        headers: [trace.traceparent, trace.tracestate],
        meta: expect.objectContaining(trace),
      });
    }
  },
);

test.each(["modern", "legacy"] as const)(
  "without a trace a server of the %s era is told of none",
  async (era) => {
    const { server, upstream } = await upstreamAndServer(era);
    await upstream.callTool(accessTo(server.url), callOf("echo"), within(5_000));
    const [seen] = server.seen("tools/call");
    expect(seen && told(seen)).toMatchObject({ headers: [null, null] });
    expect(JSON.stringify(seen?.body)).not.toContain("trace");
  },
);

test("the finding out of a revision belongs to no caller's trace", async () => {
  const { server, upstream } = await upstreamAndServer("legacy");
  await upstream.callTool(accessTo(server.url), callOf("echo"), { ...within(5_000), trace });
  const others = server.requests.filter(({ body }) => body?.method !== "tools/call");
  expect(others.length).toBeGreaterThan(1);
  expect(others.map(({ headers }) => headers.get("traceparent"))).toEqual(others.map(() => null));
});

test("a connection's own header forges no trace", async () => {
  const { server, upstream } = await upstreamAndServer("modern");
  const access = accessTo(server.url, { headers: { traceparent: "canary", tracestate: "canary" } });
  await upstream.callTool(access, callOf("echo"), { ...within(5_000), trace });
  const [seen] = server.seen("tools/call");
  expect(seen && told(seen).headers).toEqual([trace.traceparent, trace.tracestate]);
});
