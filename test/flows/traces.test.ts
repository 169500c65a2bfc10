// Traces from outside: the broker's spans at a real collector, and what servers and models are told.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startAuthServer } from "../helpers/auth-server.ts";
import { type Collector, startCollector } from "../helpers/collector.ts";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import { type ScriptedModel, startModel } from "../helpers/model.ts";
import { allow, linkOf, person } from "../helpers/people.ts";
import { startProtectedServer } from "../helpers/protected-server.ts";
import { ADMIN_KEY, call, createWorld, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let collector: Collector;
let server: ModernServer;
let model: ScriptedModel;
let stops: (() => Promise<void>)[];

const IDS = { trace: "4bf92f3577b34da6a3ce929d0e0e4736", span: "00f067aa0ba902b7" };
const traceparent = `00-${IDS.trace}-${IDS.span}-01`;

beforeEach(async () => {
  stops = [];
  server = await startModernServer();
  model = await startModel(() => ({ text: "done" }));
  stops.push(server.stop, model.close);
});
afterEach(async () => {
  for (const stop of stops.toReversed()) await stop();
});

const begin = async (env: Record<string, string> = {}, away: Parameters<typeof startCollector>[0] = {}) => {
  collector = await startCollector(away);
  world = await createWorld({ model, env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, ...env } });
  await world.connect("notes", { target: server.url });
  stops.push(collector.stop);
};
const tools = [{ type: "mcp", server_label: "notes", require_approval: "never" }];
const post = (body: object, headers: Record<string, string> = {}) =>
  fetch(`${world.url}/v1/responses`, {
    method: "POST",
    headers: { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json", ...headers },
    body: JSON.stringify({ tools, ...body }),
  }).then((answer) => answer.text());
const echo = (text = "x") => ({ input: [call("notes", "echo", { text })] });
const spansOf = (traceId: string) => collector.spans().filter((span) => span.traceId === traceId);
const idIn = (parent: string | null | undefined) => parent?.split("-")[2];

describe.each([true, false])("a call with a trace, stream: %s", (stream) => {
  test("is a span of it with spans in it, and the server hears of the last of them", async () => {
    await begin();
    await post({ ...echo(), stream }, { traceparent, tracestate: "a=1" });
    await world.stop();
    const spans = spansOf(IDS.trace);
    const request = spans.find(({ parentSpanId }) => parentSpanId === IDS.span);
    expect(request).toMatchObject({
      name: "POST /v1/responses",
      kind: 2,
      failed: false,
      attributes: {
        "http.request.method": "POST",
        "http.route": "/v1/responses",
        "http.response.status_code": 200,
      },
    });
    const toolCall = spans.find(({ name }) => name === "tool call");
    expect(toolCall).toMatchObject({
      parentSpanId: request?.spanId,
      attributes: { "consentry.project": "default", "consentry.connection": "notes" },
    });
    const asked = spans.find(({ name }) => name === "tools/call");
    expect(asked).toMatchObject({
      kind: 3,
      parentSpanId: toolCall?.spanId,
      attributes: { "mcp.method.name": "tools/call" },
    });
    const seen = server.seen("tools/call").at(-1);
    expect(seen?.headers.get("traceparent")).toBe(`00-${IDS.trace}-${asked?.spanId}-01`);
    expect(seen?.headers.get("tracestate")).toBe("a=1");
    expect(seen?.body?.params?.["_meta"]).toMatchObject({ tracestate: "a=1" });
  });
});

test("a request without a trace begins one, and a model is part of it", async () => {
  const attributes = "service.name=another,service.version=of%20ours,k8s.pod.name=broker-0";
  await begin({ OTEL_SERVICE_NAME: "our broker", OTEL_RESOURCE_ATTRIBUTES: attributes });
  await post({ model: "m", input: "hello" });
  await world.stop();
  const asked = collector.spans().find(({ name }) => name === "model");
  const request = collector.spans().find(({ spanId }) => spanId === asked?.parentSpanId);
  expect(request).toMatchObject({ name: "POST /v1/responses", parentSpanId: undefined });
  expect(idIn(String(model.requests.at(-1)?.headers["traceparent"]))).toBe(asked?.spanId);
  expect(collector.resource()).toMatchObject({
    "service.name": "our broker",
    "service.version": "of ours",
    "k8s.pod.name": "broker-0",
  });
});

test("the span of a streamed answer ends with the stream: what happens meanwhile is within it", async () => {
  await begin();
  await post({ ...echo(), stream: true }, { traceparent });
  await world.stop();
  const spans = spansOf(IDS.trace);
  const request = spans.find(({ name }) => name === "POST /v1/responses");
  const within = spans.filter((span) => span !== request);
  expect(within.map(({ name }) => name)).toEqual(expect.arrayContaining(["tool call", "tools/call"]));
  for (const span of within) expect(span.endedAt <= (request?.endedAt ?? 0n)).toBe(true);
});

test("probes are no spans", async () => {
  await begin();
  for (const path of ["/healthz", "/readyz", "//healthz"])
    await fetch(`${world.url}${path}`, { headers: { traceparent } });
  await world.stop();
  expect(spansOf(IDS.trace)).toEqual([]);
});

test("a failed call is a failed span, with a word of ours for it", async () => {
  await begin();
  await post({ input: [call("notes", "fail", {})] });
  await world.stop();
  const failed = collector.spans().filter(({ name }) => name === "tool call");
  expect(failed).toMatchObject([{ failed: true, attributes: { "error.type": "execution" } }]);
});

test("a refresh is a span of the call that needed it; the authorization server hears of no trace", async () => {
  const authServer = await startAuthServer();
  const own = await startProtectedServer({ authServer });
  stops.push(authServer.stop, own.stop);
  await begin();
  await world.connect("mine", {
    authType: "OAuth2",
    target: own.url,
    credentials: {},
    requireApproval: "never",
  });
  const ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
  const mine = { type: "mcp" as const, server_label: "mine", require_approval: "never" as const };
  const ask = () => ann.responses.create({ tools: [mine], input: [call("mine", "whoami", {})] });
  await allow(person(authServer, "ann"), linkOf(await ask()));
  world.advance(2 * 60 * 60_000);
  await ask();
  await world.stop();
  const refreshes = collector.spans().filter(({ name }) => name === "refresh");
  expect(refreshes).toMatchObject([{ failed: false, attributes: { "consentry.connection": "mine" } }]);
  const [refresh] = refreshes;
  expect(collector.spans().some(({ spanId }) => spanId === refresh?.parentSpanId)).toBe(true);
});

test("no user, argument, answer, key, address or word of a caller's is in a span", async () => {
  await begin();
  const made = await world.rest("POST", "/api/projects/default/keys", {
    name: "canary-key",
    roles: ["runtime"],
    rights: ["act_for_users"],
  });
  const headers = {
    authorization: `Bearer ${String(made.body["key"])}`,
    "x-ms-user-identity": "canary-user",
    "x-request-id": "canary-request",
    "user-agent": "canary-agent",
    baggage: "canary=1",
  };
  await post(echo("canary-argument"), headers);
  await post({ input: [call("notes", "canary-tool", { canary: 1 }, "canary-id")] }, headers);
  await post({ model: "canary-model", input: "canary-words" }, headers);
  await fetch(`${world.url}/canary-path?canary=1`, { headers, method: "PATCH" });
  await world.stop();
  expect(collector.spans().length).toBeGreaterThan(5);
  const said = collector.requests.map(({ body }) => body).join("\n");
  expect(said).not.toContain("canary");
  expect(said).not.toContain("csk_");
  expect(said).not.toContain("127.0.0.1");
});

describe("a caller who does not want a trace kept", () => {
  test("is believed, and the server is told so", async () => {
    await begin();
    await post(echo(), { traceparent: `00-${IDS.trace}-${IDS.span}-00` });
    await world.stop();
    expect(spansOf(IDS.trace)).toEqual([]);
    expect(server.seen("tools/call").at(-1)?.headers.get("traceparent")).toMatch(
      new RegExp(`^00-${IDS.trace}-[0-9a-f]{16}-00$`),
    );
  });

  test("is not, where the operator wants all", async () => {
    await begin({ OTEL_TRACES_SAMPLER: "always_on" });
    await post(echo(), { traceparent: `00-${IDS.trace}-${IDS.span}-00` });
    await world.stop();
    expect(spansOf(IDS.trace).length).toBeGreaterThan(2);
  });
});

describe("a collector that is no use holds nothing up, and that is said once", () => {
  const nowhere = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1" };
  test.each([
    ["fails", { status: 500 }, {}, "500"],
    ["turns the spans away", { status: 403 }, {}, "403"],
    ["hangs", { hangs: true }, {}, "stopping"],
    ["is not there", {}, nowhere, "stopping"],
  ])("because it %s", async (_, away, env, why) => {
    await begin(env, away);
    for (let at = 0; at < 10; at++)
      expect(JSON.parse(await post(echo()))).toMatchObject({ status: "completed" });
    const begun = performance.now();
    await world.stop();
    expect(performance.now() - begun).toBeLessThan(4_000);
    expect(world.logs.at(-1)?.event).toBe("stopped");
    const said = world.logs.filter(({ event }) => event === "traces_not_sent");
    expect(said).toMatchObject([{ fields: { why } }]);
  });
});
