import { spawn } from "node:child_process";
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Clock } from "../../src/core/ports.ts";
import { MAX_SESSIONS, SESSION_IDLE_MS } from "../../src/upstream/mcp-limits.ts";
import { createSessions } from "../../src/upstream/mcp-sessions.ts";
import {
  answerJson,
  answerResult,
  INITIALIZED,
  say,
  startEverything,
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

async function useClock(clock: Clock): Promise<void> {
  await upstream.close();
  upstream = createTestUpstream({ clock });
}

type Answer = (request: SeenRequest, response: ServerResponse) => void;
type Sessionful = RawServer & { alive: Set<string>; became: (method: string) => Promise<SeenRequest> };

/** A 2025-11-25 server with sessions, by hand. `onCall` answers what is not the session's own business. */
async function sessionful(
  onCall: Answer = (request, response) => answerResult(request, response, say("ok")),
  options: { sessionIds?: "given" | "none"; forgetsWith?: number } = {},
): Promise<Sessionful> {
  const alive = new Set<string>();
  const waiting: { method: string; resolve: (request: SeenRequest) => void }[] = [];
  let made = 0;
  const server = await startRawServer((request, response) => {
    const method = request.body?.method ?? request.method;
    for (const each of waiting) if (each.method === method) each.resolve(request);
    const refuse = (status: number) => {
      const error = { code: -32000, message: "Bad Request: No valid session ID provided" };
      answerJson(response, { jsonrpc: "2.0", error, id: null }, status);
    };
    if (method === "server/discover") return refuse(400);
    if (method === "initialize") {
      const id = `session-${++made}`;
      alive.add(id);
      if (options.sessionIds !== "none") response.setHeader("mcp-session-id", id);
      return answerResult(request, response, INITIALIZED);
    }
    const session = request.headers.get("mcp-session-id");
    if (options.sessionIds !== "none" && !alive.has(session ?? "")) return refuse(options.forgetsWith ?? 404);
    if (method === "DELETE") {
      alive.delete(session ?? "");
      return void response.writeHead(200).end();
    }
    if (method.startsWith("notifications/")) return void response.writeHead(202).end();
    onCall(request, response);
  });
  stops.push(server.stop);
  const became = (method: string) =>
    new Promise<SeenRequest>((resolve) => {
      const seen = server.requests.find((each) => (each.body?.method ?? each.method) === method);
      if (seen) resolve(seen);
      else waiting.push({ method, resolve });
    });
  return { ...server, alive, became };
}

const call = (url: string, partition = "ada", name = "any") =>
  upstream.callTool(accessTo(url, { partition }), callOf(name), within(10_000));
const methods = (server: RawServer) => server.requests.map(({ method, body }) => body?.method ?? method);
const sessionsOf = (requests: SeenRequest[]) => requests.map(({ headers }) => headers.get("mcp-session-id"));

/** An answer as a stream of these messages. */
function stream(response: ServerResponse, ...messages: unknown[]): void {
  if (!response.headersSent) response.writeHead(200, { "content-type": "text/event-stream" });
  for (const message of messages) response.write(`event: message\ndata: ${JSON.stringify(message)}\n\n`);
}
const reply = (request: SeenRequest, result: unknown) => ({ jsonrpc: "2.0", id: request.body?.id, result });

describe("the official sample server", () => {
  test("lists and calls", async () => {
    const server = await startEverything();
    stops.push(server.stop);
    const access = accessTo(server.url);
    const listed = await upstream.listTools(access, within(10_000));
    expect(listed.ok && listed.tools.map(({ name }) => name)).toEqual(
      expect.arrayContaining(["echo", "get-sum", "get-tiny-image", "get-structured-content"]),
    );
    const asked = (name: string, args = {}) => upstream.callTool(access, callOf(name, args), within(10_000));
    expect(await asked("echo", { message: "hé" })).toMatchObject({ ok: true, result: say("Echo: hé") });
    const image = await asked("get-tiny-image");
    expect(image.ok && image.result.content).toContainEqual(expect.objectContaining({ type: "image" }));
    const links = await asked("get-resource-links", { count: 2 });
    expect(links.ok && links.result.content).toContainEqual(
      expect.objectContaining({ type: "resource_link" }),
    );
    const reference = await asked("get-resource-reference", { resourceType: "Text", resourceId: 1 });
    expect(reference.ok && reference.result.content).toContainEqual(
      expect.objectContaining({ type: "resource" }),
    );
    expect(await asked("get-structured-content", { location: "Chicago" })).toMatchObject({
      ok: true,
      result: { structuredContent: { temperature: expect.any(Number) } },
    });
    expect(await asked("get-sum", { a: "x" })).toMatchObject({ ok: true, result: { isError: true } });
    expect(await asked("trigger-long-running-operation", { duration: 0.2, steps: 2 })).toMatchObject({
      ok: true,
    });
  });

  test("serves users side by side, and loses its sessions when we stop", async () => {
    const server = await startEverything();
    stops.push(server.stop);
    const users = Array.from({ length: 8 }, (_, n) => `user-${n}`);
    const outcomes = await Promise.all(
      users.map((user) =>
        upstream.callTool(
          accessTo(server.url, { partition: user }),
          callOf("echo", { message: user }),
          within(10_000),
        ),
      ),
    );
    expect(outcomes).toMatchObject(users.map((user) => ({ ok: true, result: say(`Echo: ${user}`) })));
    await upstream.close();
  });
});

describe("sessions", () => {
  test("begin once, also for callers that come together", async () => {
    const server = await sessionful();
    const outcomes = await Promise.all(Array.from({ length: 10 }, () => call(server.url)));
    expect(outcomes.every(({ ok }) => ok)).toBe(true);
    expect(server.seen("initialize")).toHaveLength(1);
    expect(new Set(sessionsOf(server.seen("tools/call")))).toEqual(new Set(["session-1"]));
    await call(server.url);
    expect(server.seen("initialize")).toHaveLength(1);
  });

  test("are never shared by two users", async () => {
    const server = await sessionful();
    const users = Array.from({ length: 10 }, (_, n) => `user-${n}`);
    await Promise.all([...users, ...users].map((user) => call(server.url, user, user)));
    const owner = new Map<string | null, unknown>();
    for (const { headers, body } of server.seen("tools/call")) {
      const session = headers.get("mcp-session-id");
      expect(owner.get(session) ?? body?.params?.name).toBe(body?.params?.name);
      owner.set(session, body?.params?.name);
    }
    expect(owner.size).toBe(10);
  });

  test("are never shared by two users of one connection either, but what its server speaks is", async () => {
    const server = await sessionful();
    const headers = { authorization: "Bearer of-the-connection" };
    const callAs = (user: string) => {
      const access = accessTo(server.url, { partition: "conn_1:1", session: `conn_1:1:${user}`, headers });
      return upstream.callTool(access, callOf(user), within(10_000));
    };
    const whoseSessions = () =>
      server
        .seen("tools/call")
        .map(({ headers: sent, body }) => [body?.params?.["name"], sent.get("mcp-session-id")]);
    await callAs("ada");
    await callAs("bob");
    await Promise.all([callAs("ada"), callAs("bob")]);
    expect(server.seen("initialize")).toHaveLength(2);
    expect(server.seen("server/discover")).toHaveLength(1);
    const [adas, bobs] = [
      ["ada", "session-1"],
      ["bob", "session-2"],
    ];
    expect(whoseSessions()).toEqual(expect.arrayContaining([adas, bobs]));
    expect(new Set(whoseSessions().map(String)).size).toBe(2);
    // What the server forgets of one is begun anew for that one only.
    server.alive.delete("session-1");
    await callAs("ada");
    await callAs("bob");
    expect(whoseSessions().slice(-2)).toEqual([["ada", "session-3"], bobs]);
    expect(server.seen("initialize")).toHaveLength(3);
  });

  test("begin apart for two users of one connection who come at the same moment", async () => {
    const server = await sessionful();
    const users = ["ada", "bob", "cy"];
    await Promise.all(
      [...users, ...users].map((user) => {
        const access = accessTo(server.url, { partition: "conn_1:1", session: `conn_1:1:${user}` });
        return upstream.callTool(access, callOf(user), within(10_000));
      }),
    );
    const pairs = server
      .seen("tools/call")
      .map(({ headers, body }) => `${String(body?.params?.["name"])} ${headers.get("mcp-session-id")}`);
    expect(new Set(pairs).size).toBe(3);
    expect(new Set(sessionsOf(server.seen("tools/call"))).size).toBe(3);
  });

  test("carry the session id and the revision in every request, and the credential, too", async () => {
    const server = await sessionful();
    const access = accessTo(server.url, { headers: { authorization: "Bearer a" } });
    await upstream.callTool(access, callOf("any"), within(5_000));
    await upstream.close();
    for (const { headers, method, body } of server.requests) {
      expect(headers.get("authorization")).toBe("Bearer a");
      if (body?.method === "server/discover") continue;
      expect(headers.get("mcp-method")).toBeNull();
      if (body?.method === "initialize") continue;
      expect([method, headers.get("mcp-session-id")]).toEqual([method, "session-1"]);
      expect(headers.get("mcp-protocol-version")).toBe("2025-11-25");
    }
    expect(methods(server).at(-1)).toBe("DELETE");
  });

  test.each([404, 400])(
    "that the server forgot (HTTP %d) begin again, and the call runs once",
    async (forgetsWith) => {
      const server = await sessionful(undefined, { forgetsWith });
      await call(server.url);
      server.alive.clear();
      expect(await call(server.url)).toMatchObject({ ok: true });
      expect(sessionsOf(server.seen("tools/call"))).toEqual(["session-1", "session-1", "session-2"]);
      expect(server.seen("server/discover")).toHaveLength(1);
    },
  );

  test.each([
    [
      "names the request",
      (id: unknown) => ({ jsonrpc: "2.0", id, error: { code: -32000, message: "No session" } }),
    ],
    ["has no words of JSON-RPC", () => "no such session"],
  ])("that the server forgot begin again with the next call, where the refusal %s", async (_what, words) => {
    // It might have run: only the next call is on the safe side.
    const server = await sessionful((request, response) => {
      if (request.headers.get("mcp-session-id") !== "session-1")
        return answerResult(request, response, say("ok"));
      answerJson(response, words(request.body?.id), 400);
    });
    expect(await call(server.url)).toMatchObject({ ok: false });
    expect(server.seen("tools/call")).toHaveLength(1);
    expect(await call(server.url)).toMatchObject({ ok: true });
  });

  test("that the server forgot begin again once for all who notice together", async () => {
    const server = await sessionful();
    await call(server.url);
    server.alive.clear();
    const outcomes = await Promise.all(Array.from({ length: 6 }, () => call(server.url)));
    expect(outcomes.every(({ ok }) => ok)).toBe(true);
    expect(server.seen("initialize")).toHaveLength(2);
  });

  test("are not tried for ever: a server that forgets each one at once fails", async () => {
    const server = await sessionful();
    server.alive.add = () => server.alive;
    expect(await call(server.url)).toMatchObject({ ok: false, failure: { kind: "http", status: 404 } });
    expect(server.seen("tools/call").length).toBeLessThanOrEqual(2);
    expect(server.seen("initialize").length).toBeLessThanOrEqual(2);
  });

  test("of servers without session ids cost one initialize, too", async () => {
    const server = await sessionful(undefined, { sessionIds: "none" });
    for (let n = 0; n < 3; n++) expect(await call(server.url)).toMatchObject({ ok: true });
    expect(server.seen("initialize")).toHaveLength(1);
    await upstream.close();
    expect(methods(server)).not.toContain("DELETE");
  });

  test("open no standing stream", async () => {
    const server = await sessionful();
    await call(server.url);
    expect(server.requests.filter(({ method }) => method === "GET")).toEqual([]);
  });

  test("not used for a while are ended", async () => {
    const clock = createManualClock();
    await useClock(clock);
    const server = await sessionful();
    await call(server.url, "ada");
    clock.advance(SESSION_IDLE_MS - 1);
    await call(server.url, "bob");
    expect([...server.alive]).toEqual(["session-1", "session-2"]);
    clock.advance(1);
    expect((await server.became("DELETE")).headers.get("mcp-session-id")).toBe("session-1");
    expect(await call(server.url, "bob")).toMatchObject({ ok: true });
    expect(await call(server.url, "ada")).toMatchObject({ ok: true });
    expect(sessionsOf(server.seen("tools/call"))).toEqual([
      "session-1",
      "session-2",
      "session-2",
      "session-3",
    ]);
  });

  test("in use are not ended for being old", async () => {
    const clock = createManualClock();
    await useClock(clock);
    const held = Promise.withResolvers<() => void>();
    const server = await sessionful((request, response) =>
      held.resolve(() => answerResult(request, response, say("late"))),
    );
    const pending = upstream.callTool(accessTo(server.url), callOf("any"), within(10 * SESSION_IDLE_MS));
    const answer = await held.promise;
    clock.advance(SESSION_IDLE_MS * 2);
    answer();
    expect(await pending).toMatchObject({ ok: true, result: say("late") });
    expect(methods(server)).not.toContain("DELETE");
  });

  test("are bounded in number: the longest unused one is ended, not one in use", () => {
    const ended: (string | null)[] = [];
    const pool = createSessions({
      clock: createManualClock(),
      end: async (_access, { session }) => void ended.push(session),
    });
    const put = (n: number) =>
      pool.put(accessTo("http://localhost/mcp", { partition: `user-${n}` }), {
        era: "legacy",
        version: "2025-11-25",
        session: `session-${n}`,
      });
    for (let n = 0; n < MAX_SESSIONS; n++) put(n);
    const first = pool.take(accessTo("http://localhost/mcp", { partition: "user-0" }));
    pool.take(accessTo("http://localhost/mcp", { partition: "user-1" }))?.release();
    expect(ended).toEqual([]);
    put(MAX_SESSIONS);
    put(MAX_SESSIONS + 1);
    expect(ended).toEqual(["session-2", "session-3"]);
    pool.close();
    expect(ended).toHaveLength(MAX_SESSIONS + 1);
    first?.release();
    expect(ended.at(-1)).toBe("session-0");
  });

  test("are ended when the broker stops, without waiting for a server that does not answer", async () => {
    const silent = await startRawServer((request, response) => {
      if (request.method === "DELETE") return;
      if (request.body?.method === "server/discover") return void response.writeHead(404).end();
      response.setHeader("mcp-session-id", "s");
      if (request.body?.id === undefined) return void response.writeHead(202).end();
      answerResult(request, response, request.body.method === "initialize" ? INITIALIZED : say("ok"));
    });
    stops.push(silent.stop);
    const server = await sessionful();
    await call(silent.url);
    await Promise.all(["ada", "bob", "cy"].map((user) => call(server.url, user)));
    const began = Date.now();
    await upstream.close();
    expect(Date.now() - began).toBeLessThan(4_000);
    expect(server.alive.size).toBe(0);
    expect(silent.requests.at(-1)?.method).toBe("DELETE");
    expect(await silent.connections()).toBe(0);
    expect(await server.connections()).toBe(0);
  });

  test("that failed while they began are ended, too", async () => {
    const server = await startRawServer((request, response) => {
      if (request.method === "DELETE") return void response.writeHead(200).end();
      if (request.body?.method !== "initialize") return void response.writeHead(404).end();
      response.setHeader("mcp-session-id", "half-open");
      answerResult(request, response, INITIALIZED);
    });
    stops.push(server.stop);
    expect(await call(server.url)).toMatchObject({ ok: false, sent: false });
    await upstream.close();
    expect(server.requests.at(-1)).toMatchObject({ method: "DELETE" });
    expect(server.requests.at(-1)?.headers.get("mcp-session-id")).toBe("half-open");
  });
});

describe("a call on a session", () => {
  test("that is given up is called off at the server", async () => {
    const server = await sessionful(() => {});
    const caller = new AbortController();
    const pending = upstream.callTool(accessTo(server.url), callOf("any"), within(60_000, caller.signal));
    const asked = await server.became("tools/call");
    caller.abort();
    expect(await pending).toMatchObject({ ok: false, failure: { kind: "cancelled" }, sent: true });
    const cancelled = await server.became("notifications/cancelled");
    expect(cancelled.body?.params).toMatchObject({ requestId: asked.body?.id });
    expect(cancelled.headers.get("mcp-session-id")).toBe("session-1");
  });

  test("that is too late is called off at the server", async () => {
    const server = await sessionful((request, response) => {
      stream(response, {
        jsonrpc: "2.0",
        method: "notifications/message",
        params: { level: "info", data: "…" },
      });
    });
    const outcome = await upstream.callTool(accessTo(server.url), callOf("any"), within(300));
    expect(outcome).toMatchObject({ ok: false, failure: { kind: "timeout" }, sent: true });
    await server.became("notifications/cancelled");
  });

  test("declines what the server asks for in between, and goes on", async () => {
    const asks = ["elicitation/create", "sampling/createMessage", "roots/list", "ping"];
    const replies: unknown[] = [];
    let finish = () => {};
    const server = await sessionful((request, response) => {
      if (request.body?.method === undefined) {
        replies.push(request.body);
        response.writeHead(202).end();
        if (replies.length === asks.length) finish();
        return;
      }
      finish = () => {
        stream(response, reply(request, say("went on without")));
        response.end();
      };
      stream(
        response,
        ...asks.map((method, id) => ({ jsonrpc: "2.0", id: `ask-${id}`, method, params: {} })),
      );
    });
    expect(await call(server.url)).toMatchObject({ ok: true, result: say("went on without") });
    const declined = { error: { code: -32601, message: expect.stringContaining("no requests of servers") } };
    expect(replies).toEqual(
      expect.arrayContaining([
        { jsonrpc: "2.0", id: "ask-0", ...declined },
        { jsonrpc: "2.0", id: "ask-1", ...declined },
        { jsonrpc: "2.0", id: "ask-2", ...declined },
        { jsonrpc: "2.0", id: "ask-3", result: {} },
      ]),
    );
  });

  test("takes up a stream that the server ended early, after the wait that it asks for", async () => {
    const resumed: { lastEventId: string | null; after: number }[] = [];
    let broke = 0;
    let asked: SeenRequest | null = null;
    const server = await sessionful((request, response) => {
      if (request.method === "GET") {
        resumed.push({ lastEventId: request.headers.get("last-event-id"), after: Date.now() - broke });
        response.writeHead(200, { "content-type": "text/event-stream" });
        if (resumed.length === 2 && asked) stream(response, reply(asked, say("after all")));
        else response.write("id: e2\nretry: 150\ndata:\n\n");
      } else {
        asked = request;
        response
          .writeHead(200, { "content-type": "text/event-stream" })
          .write("id: e1\nretry: 300\ndata:\n\n");
      }
      broke = Date.now();
      response.end();
    });
    expect(await call(server.url)).toMatchObject({ ok: true, result: say("after all") });
    expect(resumed.map(({ lastEventId }) => lastEventId)).toEqual(["e1", "e2"]);
    expect(resumed[0]?.after).toBeGreaterThanOrEqual(290);
    expect(resumed[1]?.after).toBeGreaterThanOrEqual(140);
    expect(server.seen("tools/call")).toHaveLength(1);
  });

  test.each(["JSON", "a stream"])(
    "understands a batch in %s, as revision 2025-03-26 has it",
    async (form) => {
      const server = await sessionful((request, response) => {
        const batch = [{ jsonrpc: "2.0", method: "notifications/progress" }, reply(request, say("last"))];
        if (form === "JSON") return answerJson(response, batch);
        stream(response, batch);
        response.end();
      });
      expect(await call(server.url)).toMatchObject({ ok: true, result: say("last") });
    },
  );

  test("fails as broken off where the stream ends for good", async () => {
    const server = await sessionful((_request, response) => {
      stream(response, { jsonrpc: "2.0", method: "notifications/progress", params: {} });
      response.end();
    });
    expect(await call(server.url)).toMatchObject({
      ok: false,
      failure: { kind: "unreachable", reason: "closed" },
      sent: true,
    });
  });

  test("tells a tool's own words of needing a link from a failure of ours", async () => {
    const server = await sessionful((request, response) => {
      const error = { code: -32042, message: "Please sign in", data: { elicitations: [] } };
      answerJson(response, { jsonrpc: "2.0", id: request.body?.id, error });
    });
    expect(await call(server.url)).toMatchObject({
      failure: {
        kind: "protocol",
        code: -32042,
        message:
          "Please sign in The server wants the user to open a link first, which this broker does not pass on.",
      },
    });
  });
});

test("a process that has closed its upstream ends by itself", async () => {
  const server = await sessionful();
  const at = (path: string) => JSON.stringify(pathToFileURL(join(import.meta.dirname, "../..", path)).href);
  const program = `
    import { accessTo, callOf, createTestUpstream, within } from ${at("test/helpers/mcp-upstream.ts")};
    const upstream = createTestUpstream();
    const calls = ["ada", "bob"].map((partition) =>
      upstream.callTool(accessTo(${JSON.stringify(server.url)}, { partition }), callOf("any"), within(600_000)));
    console.log((await Promise.all(calls)).map(({ ok }) => ok).join());
    await upstream.close();`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const said: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => said.push(chunk));
  const [code] = await once(child, "exit", { signal: AbortSignal.timeout(20_000) });
  expect([code, Buffer.concat(said).toString()]).toEqual([0, "true,true\n"]);
  expect(server.alive.size).toBe(0);
});

test("who gives up waiting for a session does not take it from the others", async () => {
  const opened = Promise.withResolvers<() => void>();
  const server = await startRawServer((request, response) => {
    const { method, id } = request.body ?? {};
    if (method === "server/discover") return void response.writeHead(404).end();
    if (method === "initialize") return opened.resolve(() => answerResult(request, response, INITIALIZED));
    if (id === undefined) return void response.writeHead(202).end();
    answerResult(request, response, say("ok"));
  });
  stops.push(server.stop);
  const impatient = new AbortController();
  const first = upstream.callTool(accessTo(server.url), callOf("any"), within(10_000, impatient.signal));
  const second = upstream.callTool(accessTo(server.url), callOf("any"), within(10_000));
  const answer = await opened.promise;
  impatient.abort();
  expect(await first).toMatchObject({ ok: false, failure: { kind: "cancelled" }, sent: false });
  answer();
  expect(await second).toMatchObject({ ok: true, result: say("ok") });
  expect(server.seen("initialize")).toHaveLength(1);
});

test("a session that nobody waits for any more is not begun", async () => {
  const reached = Promise.withResolvers<void>();
  const left = Promise.withResolvers<void>();
  const server = await startRawServer((_request, response) => {
    response.on("close", () => left.resolve());
    reached.resolve();
  });
  stops.push(server.stop);
  const caller = new AbortController();
  const pending = upstream.callTool(accessTo(server.url), callOf("any"), within(60_000, caller.signal));
  await reached.promise;
  caller.abort();
  expect(await pending).toMatchObject({ ok: false, failure: { kind: "cancelled" }, sent: false });
  await left.promise;
});
