import type { ServerResponse } from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { UpstreamFailure } from "../../src/core/ports.ts";
import {
  answerJson,
  answerResult,
  DISCOVERED,
  startRawServer,
  type SeenRequest,
} from "../helpers/mcp-servers.ts";
import { accessTo, callOf, createTestUpstream, within, type TestUpstream } from "../helpers/mcp-upstream.ts";

// A16: a caller may use a connection's credential, never see it, also where its server repeats it in a complaint.

const TOKEN = "canary-5f0c93d1-token";
const KEY = "canary-key:+/(?.*)$&=";
const QUERY = "canary-query-8812";
const HEADERS = { Authorization: `Bearer ${TOKEN}`, "X-Api-Key": `  ${KEY} `, "X-Tenant": "acme" };

let upstream: TestUpstream;
let stops: (() => Promise<void>)[];

beforeEach(() => {
  upstream = createTestUpstream();
  stops = [() => upstream.close()];
});
afterEach(async () => {
  for (const stop of stops) await stop();
});

type Answer = (request: SeenRequest, response: ServerResponse) => void;

/** A modern server; from the first `tools/*` request on, or from the very first, `answer` speaks for it. */
async function serverThat(answer: Answer, from: "first request" | "first call" = "first call") {
  const server = await startRawServer((request, response) => {
    const greeting = request.body?.method === "server/discover";
    if (greeting && from === "first call") return answerResult(request, response, DISCOVERED);
    answer(request, response);
  });
  stops.push(server.stop);
  return accessTo(`${server.url}?tenant=acme&api_key=${QUERY}`, { headers: HEADERS });
}

const complaint =
  (message: string, { status = 200, named = true } = {}): Answer =>
  ({ body }, response) =>
    answerJson(
      response,
      { jsonrpc: "2.0", id: named ? body?.id : null, error: { code: -32603, message } },
      status,
    );

async function failureOf(answer: Answer, from?: "first request"): Promise<UpstreamFailure> {
  const access = await serverThat(answer, from);
  const called = await upstream.callTool(access, callOf("any"), within(20_000));
  const listed = await upstream.listTools(access, within(20_000));
  expect(JSON.stringify([called, listed, upstream.logged])).not.toContain("canary");
  if (called.ok || listed.ok) throw new Error("It should have failed.");
  expect(listed.failure).toEqual(called.failure);
  return called.failure;
}

describe("a failure never repeats what we were let in with", () => {
  test("nor a part of it, in the words of a JSON-RPC error", async () => {
    const words = `Bearer ${TOKEN} of acme is not good, nor is ${TOKEN}, ${KEY} or ${QUERY}`;
    expect(await failureOf(complaint(words))).toEqual({
      kind: "protocol",
      code: -32603,
      message: "[redacted] of acme is not good, nor is [redacted], [redacted] or [redacted]",
    });
  });

  test("in the words that come with an HTTP status", async () => {
    expect(await failureOf(complaint(`no ${TOKEN} here`, { status: 400, named: false }))).toEqual({
      kind: "http",
      status: 400,
      message: "The server answered with HTTP 400: no [redacted] here",
      challenge: null,
    });
  });

  test("in the challenge that comes with a 401 or 403", async () => {
    for (const status of [401, 403]) {
      const refused: Answer = (_, response) => {
        const words = `Bearer error="invalid_token", scope="read ${TOKEN}", resource_metadata="https://a.example/${KEY}"`;
        response.writeHead(status, { "www-authenticate": words }).end();
      };
      expect(await failureOf(refused)).toMatchObject({
        challenge: { error: "invalid_token", scope: null, resourceMetadata: null },
      });
    }
  });

  test("in the words that come with an HTTP status and name the request", async () => {
    expect(await failureOf(complaint(`no ${KEY} here`, { status: 404 }))).toMatchObject({
      message: "no [redacted] here",
    });
  });

  test("at the first contact", async () => {
    const { message } = await failureOf(complaint(`no ${TOKEN} here`), "first request");
    expect(message).toContain("no [redacted] here");
  });

  test("as a media type", async () => {
    const answer: Answer = (_request, response) =>
      response.writeHead(200, { "content-type": `application/${TOKEN}` }).end();
    expect((await failureOf(answer)).message).toBe(
      "The server answered with application/[redacted], which is not MCP.",
    );
  });

  test.each([1_950, 1_985, 1_990, 1_999])("where its text is cut, at %d", async (at) => {
    const { message } = await failureOf(complaint(`${"x".repeat(at)}${TOKEN}${"y".repeat(50_000)}`));
    expect(message).toMatch(/^x{1900}/);
  });

  test("said a thousand times over", async () => {
    const { message } = await failureOf(complaint(`${TOKEN} `.repeat(1_000)));
    expect(message).toMatch(/^\[redacted\] \[redacted\] /);
    expect(message.length).toBeLessThanOrEqual(2_001);
  });

  test("in the log, as the name of a tool that cannot be used", async () => {
    const access = await serverThat((request, response) =>
      answerResult(request, response, {
        resultType: "complete",
        tools: [{ name: TOKEN }, { name: "b", inputSchema: {} }],
      }),
    );
    expect(await upstream.listTools(access, within(20_000))).toMatchObject({ ok: true });
    expect(upstream.logged).toContainEqual(expect.objectContaining({ event: "tools_dropped" }));
    expect(JSON.stringify(upstream.logged)).not.toContain("canary");
  });
});

test("values too short to be a secret leave a server's words as they are", async () => {
  const server = await startRawServer((request, response) =>
    request.body?.method === "server/discover"
      ? answerResult(request, response, DISCOVERED)
      : complaint("no acme, no Bearer, no a1b2c3d")(request, response),
  );
  stops.push(server.stop);
  const access = accessTo(server.url, { headers: { "x-tenant": "acme", authorization: "Bearer a1b2c3d" } });
  expect(await upstream.callTool(access, callOf("any"), within(20_000))).toMatchObject({
    failure: { message: "no acme, no Bearer, no a1b2c3d" },
  });
});

test("a result is the server's data, and passes as it came", async () => {
  const said = { content: [{ type: "text", text: `you are ${TOKEN}` }], structuredContent: { key: KEY } };
  const access = await serverThat((request, response) =>
    answerResult(request, response, { resultType: "complete", ...said, isError: true }),
  );
  expect(await upstream.callTool(access, callOf("whoami"), within(20_000))).toEqual({
    ok: true,
    result: { ...said, isError: true },
  });
});
