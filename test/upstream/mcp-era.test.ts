import type { ServerResponse } from "node:http";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LEGACY_ERA_MS } from "../../src/upstream/mcp-limits.ts";
import {
  answerJson,
  answerResult,
  DISCOVERED,
  INITIALIZED,
  say,
  startModernServer,
  startRawServer,
  type RawServer,
  type SeenRequest,
} from "../helpers/mcp-servers.ts";
import {
  accessTo,
  callOf,
  createManualClock,
  createTestUpstream,
  within,
  type TestUpstream,
} from "../helpers/mcp-upstream.ts";

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

/** A server that can become another one while it stands at the same URL. */
async function changeable(first: Answer): Promise<RawServer & { become: (next: Answer) => void }> {
  let now = first;
  const server = await startRawServer((request, response) => now(request, response));
  stops.push(server.stop);
  return { ...server, become: (next) => (now = next) };
}

/** 2026-07-28, without state. */
const modern: Answer = (request, response) => {
  if (request.headers.get("mcp-protocol-version") !== "2026-07-28") return wrongVersion(request, response);
  if (request.body?.method === "server/discover") return answerResult(request, response, DISCOVERED);
  answerResult(request, response, { resultType: "complete", ...say("modern") });
};

/** 2025-11-25, without session ids; refuses what it does not know as such servers do. */
const legacy: Answer = (request, response) => {
  const { method } = request.body ?? {};
  if (request.headers.has("mcp-method")) {
    const error = { code: -32000, message: "Bad Request: Unsupported protocol version" };
    return answerJson(response, { jsonrpc: "2.0", id: null, error }, 400);
  }
  if (method === "initialize") return answerResult(request, response, INITIALIZED);
  if (method?.startsWith("notifications/")) return void response.writeHead(202).end();
  answerResult(request, response, say("legacy"));
};

const wrongVersion: Answer = (request, response) => {
  const requested = request.headers.get("mcp-protocol-version") ?? "2025-11-25";
  const error = { code: -32022, message: "Unsupported", data: { supported: ["2026-07-28"], requested } };
  answerJson(response, { jsonrpc: "2.0", id: request.body?.id, error }, 400);
};

const call = (url: string, partition = "p") =>
  upstream.callTool(accessTo(url, { partition }), callOf("any"), within(5_000));
const methods = (server: RawServer) => server.requests.map(({ body }) => body?.method);

test("a server's era is found out once, for all users", async () => {
  const server = await changeable(modern);
  for (const user of ["ada", "bob", "cy"]) expect(await call(server.url, user)).toMatchObject({ ok: true });
  expect(methods(server)).toEqual(["server/discover", "tools/call", "tools/call", "tools/call"]);
  expect(upstream.logged.filter(({ event }) => event === "upstream_era")).toHaveLength(1);
});

test("an older server is asked once what it is, then only for a session per user", async () => {
  const server = await changeable(legacy);
  for (const user of ["ada", "bob", "ada"]) expect(await call(server.url, user)).toMatchObject({ ok: true });
  const session = ["initialize", "notifications/initialized", "tools/call"];
  expect(methods(server)).toEqual(["server/discover", ...session, ...session, "tools/call"]);
});

test("two URLs of one host are two servers", async () => {
  const server = await changeable((request, response) =>
    (request.path.endsWith("/old") ? legacy : modern)(request, response),
  );
  expect(await call(`${server.url}/new`)).toMatchObject({ ok: true, result: say("modern") });
  expect(await call(`${server.url}/old`)).toMatchObject({ ok: true, result: say("legacy") });
});

test("a server that went back to an older revision is found out by its refusal", async () => {
  const server = await changeable(modern);
  await call(server.url);
  server.become(legacy);
  expect(await call(server.url)).toMatchObject({ ok: true, result: say("legacy") });
  expect(await call(server.url)).toMatchObject({ ok: true, result: say("legacy") });
  expect(methods(server).slice(2)).toEqual([
    "tools/call",
    "server/discover",
    "initialize",
    "notifications/initialized",
    "tools/call",
    "tools/call",
  ]);
});

test("so is one whose refusal names the request", async () => {
  const server = await changeable(modern);
  await call(server.url);
  server.become((request, response) => {
    if (!request.headers.has("mcp-method") || request.body?.method === "server/discover")
      return legacy(request, response);
    const error = { code: -32000, message: "Bad Request: No valid session ID provided" };
    answerJson(response, { jsonrpc: "2.0", id: request.body?.id, error }, 400);
  });
  expect(await call(server.url)).toMatchObject({ ok: true, result: say("legacy") });
});

test("a server that gave up the older revisions is found out by its refusal", async () => {
  const server = await changeable(legacy);
  await call(server.url, "ada");
  server.become(modern);
  expect(await call(server.url, "ada")).toMatchObject({ ok: true, result: say("modern") });
  expect(await call(server.url, "bob")).toMatchObject({ ok: true, result: say("modern") });
});

test("a user new to such a server does not stumble over what was known", async () => {
  const server = await changeable(legacy);
  await call(server.url, "ada");
  server.become(modern);
  expect(await call(server.url, "bob")).toMatchObject({ ok: true, result: say("modern") });
});

test("a 401 to a new user of an older server is just that", async () => {
  const server = await changeable(legacy);
  await call(server.url, "ada");
  server.become((_request, response) => void response.writeHead(401).end());
  server.requests.length = 0;
  expect(await call(server.url, "bob")).toMatchObject({ ok: false, failure: { kind: "http", status: 401 } });
  expect(methods(server)).toEqual(["initialize"]);
});

test("an older server that learned the new revision is noticed within a day", async () => {
  const clock = createManualClock();
  await upstream.close();
  upstream = createTestUpstream({ clock });
  const server = await changeable(legacy);
  await call(server.url);
  server.become((request, response) =>
    (request.headers.has("mcp-method") ? modern : legacy)(request, response),
  );
  expect(await call(server.url)).toMatchObject({ result: say("legacy") });
  expect(LEGACY_ERA_MS).toBeLessThanOrEqual(24 * 60 * 60 * 1000);
  clock.advance(LEGACY_ERA_MS);
  expect(await call(server.url)).toMatchObject({ result: say("modern") });
});

test("a refusal that changes nothing costs one question, not a second call", async () => {
  const server = await changeable((request, response) => {
    if (request.body?.method === "server/discover") return modern(request, response);
    response.writeHead(400).end("no");
  });
  expect(await call(server.url)).toMatchObject({
    ok: false,
    failure: { kind: "http", status: 400 },
    sent: true,
  });
  expect(methods(server)).toEqual(["server/discover", "tools/call", "server/discover"]);
});

test.each([401, 403, 500, 503])(
  "HTTP %d to the first question says nothing about the era",
  async (status) => {
    const server = await changeable((_request, response) => void response.writeHead(status).end());
    expect(await call(server.url)).toMatchObject({
      ok: false,
      failure: { kind: "http", status },
      sent: false,
    });
    expect(methods(server)).toEqual(["server/discover"]);
    server.become(modern);
    expect(await call(server.url)).toMatchObject({ ok: true });
  },
);

test("a server that wants the revision said otherwise is asked once more", async () => {
  let asked = 0;
  const server = await changeable((request, response) => {
    if (request.body?.method === "server/discover" && asked++ === 0) return wrongVersion(request, response);
    modern(request, response);
  });
  expect(await call(server.url)).toMatchObject({ ok: true });
  expect(methods(server)).toEqual(["server/discover", "server/discover", "tools/call"]);
});

test("a server of no revision that we know is a failure", async () => {
  const server = await changeable((request, response) => {
    if (request.body?.method !== "initialize") return void response.writeHead(404).end();
    answerResult(request, response, { ...INITIALIZED, protocolVersion: "2031-01-01" });
  });
  expect(await call(server.url)).toMatchObject({ ok: false, failure: { kind: "not_mcp" }, sent: false });
});

test("a server that is not there, or no MCP server, is not remembered", async () => {
  const gone = await startModernServer();
  await gone.stop();
  expect(await call(gone.url)).toMatchObject({
    ok: false,
    failure: { kind: "unreachable", reason: "connect" },
    sent: false,
  });
  const server = await changeable((_request, response) => void response.writeHead(404).end("nothing here"));
  expect(await call(server.url)).toMatchObject({
    ok: false,
    failure: { kind: "http", status: 404 },
    sent: false,
  });
  server.become(modern);
  expect(await call(server.url)).toMatchObject({ ok: true });
});
