import type { ServerResponse } from "node:http";
import { afterEach, describe, expect, test } from "vitest";
import type { JsonObject } from "../../src/core/json.ts";
import type { Answering, ServerRequest } from "../../src/upstream/mcp-answering.ts";
import { MAX_INPUT_ROUNDS } from "../../src/upstream/mcp-limits.ts";
import {
  answerJson,
  answerResult,
  DISCOVERED,
  INITIALIZED,
  type RawServer,
  say,
  type SeenRequest,
  startEverything,
  startRawServer,
} from "../helpers/mcp-servers.ts";
import {
  accessTo,
  callOf,
  createManualClock,
  createTestUpstream,
  type TestUpstream,
  within,
} from "../helpers/mcp-upstream.ts";

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

function upstreamWith(options: Parameters<typeof createTestUpstream>[0] = {}): TestUpstream {
  const upstream = createTestUpstream(options);
  stops.push(upstream.close);
  return upstream;
}

type Answer = (request: SeenRequest, response: ServerResponse) => void;

/** A stateless server of 2026-07-28, by hand. */
async function modern(answer: Answer): Promise<RawServer> {
  const server = await startRawServer((request, response) => {
    if (request.body?.method === "server/discover") return answerResult(request, response, DISCOVERED);
    answer(request, response);
  });
  stops.push(server.stop);
  return server;
}

/** A 2025-11-25 server with one session, by hand; GET is `answer`'s, too. */
async function sessionful(answer: Answer): Promise<RawServer> {
  const server = await startRawServer((request, response) => {
    const method = request.body?.method;
    if (method === "server/discover") {
      const error = { code: -32000, message: "Bad Request: No valid session ID provided" };
      return answerJson(response, { jsonrpc: "2.0", error, id: null }, 400);
    }
    if (method === "initialize") {
      response.setHeader("mcp-session-id", "session-1");
      return answerResult(request, response, INITIALIZED);
    }
    if (method?.startsWith("notifications/")) return void response.writeHead(202).end();
    if (request.method === "DELETE") return void response.writeHead(200).end();
    answer(request, response);
  });
  stops.push(server.stop);
  return server;
}

function stream(response: ServerResponse, ...messages: unknown[]): void {
  if (!response.headersSent) response.writeHead(200, { "content-type": "text/event-stream" });
  for (const message of messages) response.write(`event: message\ndata: ${JSON.stringify(message)}\n\n`);
  response.flushHeaders();
}

const ask = (method: string, params: JsonObject = {}) => ({ jsonrpc: "2.0", id: "ask-1", method, params });
const isReply = ({ method, body }: SeenRequest) => method === "POST" && body?.method === undefined;
const metaOf = (request: SeenRequest | undefined) => request?.body?.params?.["_meta"];

/** A client that can fill in forms; it notes what it was asked. */
function formFiller(content: JsonObject | null = { name: "Ada" }): Answering & { asked: ServerRequest[] } {
  const asked: ServerRequest[] = [];
  return {
    asked,
    capabilities: { elicitation: { form: {} } },
    answer: async (request) => {
      asked.push(request);
      return content && { action: "accept", content };
    },
  };
}

describe("a request that is not about tools", () => {
  test("is answered by the official sample server", async () => {
    const server = await startEverything();
    stops.push(server.stop);
    const upstream = upstreamWith();
    const access = accessTo(server.url);
    const asked = async (method: string, params: JsonObject = {}) => {
      const outcome = await upstream.request(access, { method, params }, within(10_000));
      return outcome.ok ? outcome.result : outcome;
    };
    expect(await asked("ping")).toEqual({});
    expect(await asked("prompts/list")).toMatchObject({
      prompts: expect.arrayContaining([expect.objectContaining({ name: "simple-prompt" })]),
    });
    expect(await asked("prompts/get", { name: "simple-prompt" })).toMatchObject({
      messages: [{ role: "user" }],
    });
    expect(await asked("resources/templates/list")).toMatchObject({ resourceTemplates: expect.any(Array) });
    expect(await asked("prompts/get", { name: "no-such" })).toMatchObject({
      ok: false,
      failure: { kind: "protocol", code: -32602 },
      sent: true,
    });
  });

  test("says by headers what it is about, and keeps its caller's metadata", async () => {
    const server = await modern((request, response) => answerResult(request, response, { contents: [] }));
    const params = { uri: "file:///täglich.txt", _meta: { progressToken: "p1" } };
    const outcome = await upstreamWith().request(
      accessTo(server.url),
      { method: "resources/read", params },
      within(10_000),
    );
    expect(outcome).toEqual({ ok: true, result: { contents: [] } });
    const [seen] = server.seen("resources/read");
    expect(seen?.headers.get("mcp-method")).toBe("resources/read");
    expect(seen?.headers.get("mcp-name")).toBe(`=?base64?${Buffer.from(params.uri).toString("base64")}?=`);
    expect(metaOf(seen)).toEqual({
      progressToken: "p1",
      "io.modelcontextprotocol/protocolVersion": "2026-07-28",
      "io.modelcontextprotocol/clientInfo": { name: "consentry-test", version: "0.0.1" },
      "io.modelcontextprotocol/clientCapabilities": {},
    });
  });

  test("has no name in its headers where the protocol gives it none", async () => {
    const server = await modern((request, response) =>
      answerResult(request, response, { completion: { values: [] } }),
    );
    const params = { ref: { type: "ref/prompt", name: "p" }, name: "not of the protocol" };
    await upstreamWith().request(
      accessTo(server.url),
      { method: "completion/complete", params },
      within(10_000),
    );
    expect(server.seen("completion/complete")[0]?.headers.has("mcp-name")).toBe(false);
  });

  test("is not taken for done when its result is of a kind from the future", async () => {
    const server = await modern((request, response) =>
      answerResult(request, response, { resultType: "deferred" }),
    );
    const outcome = await upstreamWith().request(
      accessTo(server.url),
      { method: "prompts/list", params: {} },
      within(10_000),
    );
    expect(outcome).toMatchObject({ ok: false, failure: { kind: "not_mcp" }, sent: true });
  });
});

describe("a server of the older revisions that asks back", () => {
  test("is told at the handshake what it may ask, and is answered", async () => {
    const replies: unknown[] = [];
    let finish = () => {};
    const server = await sessionful((request, response) => {
      if (request.method === "GET") return void response.writeHead(405).end();
      if (isReply(request)) {
        replies.push(request.body);
        response.writeHead(202).end();
        return finish();
      }
      finish = () => {
        stream(response, { jsonrpc: "2.0", id: request.body?.id, result: say("hello") });
        response.end();
      };
      stream(response, ask("elicitation/create", { message: "Who?" }));
    });
    const answering = formFiller();
    const upstream = upstreamWith({ answering });
    const outcome = await upstream.callTool(accessTo(server.url), callOf("any"), within(10_000));
    expect(outcome).toMatchObject({ ok: true, result: say("hello") });
    expect(server.seen("initialize")[0]?.body?.params?.["capabilities"]).toEqual(answering.capabilities);
    expect(answering.asked).toEqual([{ method: "elicitation/create", params: { message: "Who?" } }]);
    expect(replies).toEqual([
      { jsonrpc: "2.0", id: "ask-1", result: { action: "accept", content: { name: "Ada" } } },
    ]);
  });

  test.each([
    ["what was not declared", "sampling/createMessage", -32601],
    ["what the client declines", "elicitation/create", -1],
  ])("is refused %s, and goes on", async (_, method, code) => {
    const replies: SeenRequest["body"][] = [];
    let finish = () => {};
    const server = await sessionful((request, response) => {
      if (request.method === "GET") return void response.writeHead(405).end();
      if (isReply(request)) {
        replies.push(request.body);
        response.writeHead(202).end();
        return finish();
      }
      finish = () => {
        stream(response, { jsonrpc: "2.0", id: request.body?.id, result: say("without") });
        response.end();
      };
      stream(response, ask(method));
    });
    const answering = formFiller(null);
    const upstream = upstreamWith({ answering });
    const outcome = await upstream.callTool(accessTo(server.url), callOf("any"), within(10_000));
    expect(outcome).toMatchObject({ ok: true, result: say("without") });
    expect(replies).toMatchObject([{ id: "ask-1", error: { code } }]);
    expect(answering.asked).toHaveLength(code === -1 ? 1 : 0);
  });

  test("may ask on the session's standing stream, which ends with the upstream", async () => {
    let standing: ServerResponse | null = null;
    let finish = () => {};
    const server = await sessionful((request, response) => {
      if (request.method === "GET") {
        standing = response;
        return stream(response);
      }
      if (isReply(request)) {
        response.writeHead(202).end();
        return finish();
      }
      finish = () => answerResult(request, response, say("heard"));
      if (standing) stream(standing, ask("elicitation/create"));
      else finish();
    });
    const answering = formFiller();
    const upstream = createTestUpstream({ answering });
    const call = () => upstream.callTool(accessTo(server.url), callOf("any"), within(10_000));
    expect(await call()).toMatchObject({ ok: true, result: say("heard") });
    expect(await call()).toMatchObject({ ok: true, result: say("heard") });
    expect(answering.asked).toHaveLength(2);
    expect(server.requests.filter(({ method }) => method === "GET")).toHaveLength(1);
    const ended = new Promise((resolve) => standing?.on("close", resolve));
    await upstream.close();
    await ended;
  });

  test("has no standing stream of a client that answers nothing", async () => {
    const server = await sessionful((request, response) => answerResult(request, response, say("ok")));
    await upstreamWith().callTool(accessTo(server.url), callOf("any"), within(10_000));
    expect(server.requests.map(({ method }) => method)).not.toContain("GET");
  });
});

describe("a stateless server that wants input first", () => {
  const inputRequests = { who: { method: "elicitation/create", params: { message: "Who?" } } };

  test("is given it with its state, byte for byte, in a request of its own", async () => {
    const state = '{"é":"\\u00e9", "n":1.0}';
    const server = await modern((request, response) => {
      const again = request.body?.params?.["inputResponses"] !== undefined;
      const wants = { resultType: "input_required", inputRequests, requestState: state };
      answerResult(request, response, again ? say("hello Ada") : wants);
    });
    const answering = formFiller();
    const upstream = upstreamWith({ answering });
    const outcome = await upstream.callTool(
      accessTo(server.url),
      callOf("greet", { loud: "yes" }),
      within(10_000),
    );
    expect(outcome).toMatchObject({ ok: true, result: say("hello Ada") });
    const [first, second] = server.seen("tools/call");
    expect(first?.body?.params).not.toHaveProperty("requestState");
    expect(second?.body?.params).toMatchObject({
      name: "greet",
      arguments: { loud: "yes" },
      inputResponses: { who: { action: "accept", content: { name: "Ada" } } },
      requestState: state,
    });
    expect(second?.body?.id).not.toBe(first?.body?.id);
    expect(metaOf(first)).toMatchObject({
      "io.modelcontextprotocol/clientCapabilities": answering.capabilities,
    });
  });

  test("gets no state back where it gave none, and none of another request", async () => {
    const server = await modern((request, response) => {
      const again = request.body?.params?.["inputResponses"] !== undefined;
      answerResult(request, response, again ? say("done") : { resultType: "input_required", inputRequests });
    });
    const upstream = upstreamWith({ answering: formFiller() });
    const access = accessTo(server.url);
    for (const method of ["prompts/get", "resources/read"]) {
      await upstream.request(access, { method, params: { name: "p", uri: "test://r" } }, within(10_000));
      const [first, second] = server.seen(method);
      expect(first?.body?.params).not.toHaveProperty("inputResponses");
      expect(second?.body?.params).toHaveProperty("inputResponses");
      expect(second?.body?.params).not.toHaveProperty("requestState");
    }
  });

  test("is told what it wants in vain where the client cannot give it", async () => {
    const wants = { resultType: "input_required", inputRequests };
    const server = await modern((request, response) => answerResult(request, response, wants));
    const access = accessTo(server.url);
    const mute = upstreamWith();
    expect(await mute.callTool(access, callOf("greet"), within(10_000))).toMatchObject({
      ok: false,
      failure: { kind: "protocol", code: -32021 },
    });
    const raw = await mute.request(access, { method: "prompts/get", params: { name: "p" } }, within(10_000));
    expect(raw).toEqual({ ok: true, result: wants });
    const declining = upstreamWith({ answering: formFiller(null) });
    expect(await declining.callTool(access, callOf("greet"), within(10_000))).toMatchObject({ ok: false });
    expect(server.seen("tools/call")).toHaveLength(2);
  });

  test("does not ask for ever", async () => {
    const server = await modern((request, response) =>
      answerResult(request, response, { resultType: "input_required", inputRequests }),
    );
    const upstream = upstreamWith({ answering: formFiller() });
    const outcome = await upstream.callTool(accessTo(server.url), callOf("greet"), within(10_000));
    expect(outcome).toMatchObject({ ok: false, failure: { kind: "not_mcp" }, sent: true });
    expect(server.seen("tools/call")).toHaveLength(MAX_INPUT_ROUNDS + 1);
  });

  test("that only wants to be asked later is asked later, without anybody's input", async () => {
    const clock = createManualClock();
    let told = () => {};
    const busy = new Promise<void>((resolve) => (told = resolve));
    const server = await modern((request, response) => {
      const again = request.body?.params?.["requestState"] === "later";
      const wants = { resultType: "input_required", requestState: "later" };
      answerResult(request, response, again ? say("now") : wants);
      if (!again) response.on("close", told);
    });
    const upstream = upstreamWith({ clock });
    const outcome = upstream.callTool(accessTo(server.url), callOf("busy"), within(60_000));
    await busy;
    while (server.seen("tools/call").length < 2) {
      await new Promise((resolve) => setImmediate(resolve));
      clock.advance(50);
    }
    expect(await outcome).toMatchObject({ ok: true, result: say("now") });
    expect(server.seen("tools/call")[1]?.body?.params).not.toHaveProperty("inputResponses");
  });

  test("waits for a person no longer than the call may take", async () => {
    const server = await modern((request, response) =>
      answerResult(request, response, { resultType: "input_required", inputRequests }),
    );
    const answering: Answering = {
      capabilities: { elicitation: {} },
      answer: (_, signal) =>
        new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(new Error("gone")))),
    };
    const upstream = upstreamWith({ answering });
    const outcome = await upstream.callTool(accessTo(server.url), callOf("greet"), within(300));
    expect(outcome).toMatchObject({ ok: false, failure: { kind: "timeout" }, sent: true });
  });

  test("is answered by the request's own answers where it has them", async () => {
    const server = await modern((request, response) => {
      const again = request.body?.params?.["inputResponses"] !== undefined;
      answerResult(
        request,
        response,
        again ? { messages: [] } : { resultType: "input_required", inputRequests },
      );
    });
    const answering = formFiller();
    const outcome = await upstreamWith().request(
      accessTo(server.url),
      { method: "prompts/get", params: { name: "p" }, answering },
      within(10_000),
    );
    expect(outcome).toEqual({ ok: true, result: { messages: [] } });
    expect(answering.asked).toHaveLength(1);
  });
});
