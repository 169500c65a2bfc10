import type { ServerResponse } from "node:http";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { UpstreamAccess } from "../../src/core/ports.ts";
import { createChanges } from "../../src/upstream/mcp-changes.ts";
import { MAX_CHANGES, SUBSCRIBED_MS } from "../../src/upstream/mcp-limits.ts";
import {
  answerResult,
  DISCOVERED,
  type RawServer,
  say,
  standardTools,
  startModernServer,
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
import { startSessionfulServer } from "../helpers/sessionful-server.ts";

let upstream: TestUpstream;
let stops: (() => Promise<void>)[];

beforeEach(() => {
  upstream = createTestUpstream();
  stops = [() => upstream.close()];
});
afterEach(async () => {
  for (const stop of stops) await stop();
});

const quiet = () => ({ content: [{ type: "text" as const, text: "ok" }] });
/** On a busy machine, too. */
const soon = (check: () => unknown) => vi.waitFor(check, { timeout: 10_000 });
const HOUR_MS = 3_600_000;
const list = (access: UpstreamAccess) => upstream.listTools(access, within(10_000));
const call = (access: UpstreamAccess, name: string) =>
  upstream.callTool(access, callOf(name), within(10_000));
const streamsAt = (server: Pick<RawServer, "seen">) => server.seen("subscriptions/listen");

describe("a server of the older revisions that says that its tools changed", () => {
  test("in the stream of a call is heard", async () => {
    const server = await startSessionfulServer({
      change: async ({ sendNotification }) => {
        await sendNotification({ method: "notifications/tools/list_changed" });
        return quiet();
      },
      quiet,
    });
    stops.push(server.stop);
    const access = accessTo(server.url);
    await call(access, "quiet");
    const before = upstream.changeOf(access);
    await call(access, "quiet");
    expect(upstream.changeOf(access)).toBe(before);
    await call(access, "change");
    expect(upstream.changeOf(access)).not.toBe(before);
    expect(upstream.changeOf(accessTo("http://localhost/other"))).toBe(before);
  });

  test("on the standing stream of its session is heard, where there is one", async () => {
    await upstream.close();
    upstream = createTestUpstream({ answering: { capabilities: { roots: {} }, answer: async () => null } });
    const server = await startSessionfulServer({ quiet });
    stops.push(server.stop);
    const access = accessTo(server.url);
    await call(access, "quiet");
    const before = upstream.changeOf(access);
    server.serverOf(server.sessions()[0] ?? "").sendToolListChanged();
    await soon(() => expect(upstream.changeOf(access)).not.toBe(before));
  });
});

describe("a stateless server of 2026-07-28 whose listing is kept for long", () => {
  test("is listened to, by one stream for all users, and heard", async () => {
    const server = await startModernServer({ listTtlMs: HOUR_MS });
    stops.push(server.stop);
    const [ada, bob] = ["ada", "bob"].map((partition) => accessTo(server.url, { partition }));
    if (!ada || !bob) throw new Error("two users");
    await list(ada);
    await list(bob);
    await soon(() => expect(streamsAt(server)).toHaveLength(1));
    const before = upstream.changeOf(ada);
    await soon(() => {
      server.changed();
      expect(upstream.changeOf(ada)).not.toBe(before);
    });
    expect(upstream.changeOf(bob)).toBe(upstream.changeOf(ada));
    await call(bob, "read_note");
    expect(streamsAt(server)).toHaveLength(1);
    await upstream.close();
  });

  test("is not listened to where a listing is made anew soon, or never was one", async () => {
    const server = await startModernServer({ listTtlMs: 1_000 });
    stops.push(server.stop);
    await call(accessTo(server.url), "read_note");
    await list(accessTo(server.url));
    await call(accessTo(server.url), "read_note");
    expect(streamsAt(server)).toEqual([]);
  });

  test("is listened to for minutes, and then again with the credential of who calls next", async () => {
    await upstream.close();
    const clock = createManualClock();
    upstream = createTestUpstream({ clock });
    const ended: (string | null)[] = [];
    const server = await subscribing((response, user) => {
      response.on("close", () => ended.push(user));
      granted(response, { toolsListChanged: true });
    });
    await list(accessTo(server.url, { headers: { "x-user": "ada" } }));
    await soon(() => expect(streamsAt(server)).toHaveLength(1));
    clock.advance(SUBSCRIBED_MS);
    await soon(() => expect(ended).toEqual(["ada"]));
    await call(accessTo(server.url, { headers: { "x-user": "bob" } }), "any");
    await soon(() => expect(streamsAt(server)).toHaveLength(2));
    expect(streamsAt(server)[1]?.headers.get("x-user")).toBe("bob");
    clock.advance(HOUR_MS);
    await soon(() => expect(ended).toEqual(["ada", "bob"]));
    await call(accessTo(server.url), "any");
    expect(streamsAt(server)).toHaveLength(2);
  });

  test("is not listened to any more with a credential that was taken back, but with the next one", async () => {
    const ended: (string | null)[] = [];
    const server = await subscribing((response, user) => {
      response.on("close", () => ended.push(user));
      granted(response, { toolsListChanged: true });
    });
    const accessOf = (owner: string) =>
      accessTo(server.url, {
        headers: { "x-user": owner },
        holder: { project: "default", connection: "conn_1", owner },
      });
    await list(accessOf("ada"));
    await soon(() => expect(streamsAt(server)).toHaveLength(1));
    await upstream.endSessions({ project: "default", owner: "bob" });
    await upstream.endSessions({ project: "other", owner: "ada" });
    expect(ended).toEqual([]);
    await upstream.endSessions({ project: "default", owner: "ada" });
    await soon(() => expect(ended).toEqual(["ada"]));
    await call(accessOf("bob"), "any");
    await soon(() => expect(streamsAt(server)).toHaveLength(2));
    expect(streamsAt(server)[1]?.headers.get("x-user")).toBe("bob");
  });

  test("is not listened to with a credential that is taken back while its listing is under way", async () => {
    const server = await subscribing((response) => granted(response, { toolsListChanged: true }));
    const access = accessTo(server.url, {
      holder: { project: "default", connection: "conn_1", owner: "ada" },
    });
    const listing = list(access);
    await upstream.endSessions({ project: "default", owner: "ada" });
    expect(await listing).toMatchObject({ ok: true });
    await call(access, "any");
    expect(streamsAt(server)).toEqual([]);
    await list(access);
    await soon(() => expect(streamsAt(server)).toHaveLength(1));
  });

  test.each([
    ["knows nothing of it", (response: ServerResponse) => void response.writeHead(404).end()],
    ["ends the stream at once", (response: ServerResponse) => void granted(response, {}).end()],
    [
      "grants something else",
      (response: ServerResponse) => void granted(response, { promptsListChanged: true }),
    ],
  ])("and that %s is asked once, not at every call", async (_what, answer) => {
    const server = await subscribing(answer);
    const access = accessTo(server.url);
    await list(access);
    await soon(() => expect(streamsAt(server)).toHaveLength(1));
    for (let n = 0; n < 3; n++) {
      await list(access);
      expect(await call(access, "any")).toMatchObject({ ok: true });
    }
    expect(streamsAt(server)).toHaveLength(1);
    await soon(async () => expect(await server.connections()).toBeLessThanOrEqual(2));
  });

  test("and that floods it is cut off", async () => {
    const cut = Promise.withResolvers<void>();
    const server = await subscribing((response) => {
      granted(response, { toolsListChanged: true });
      const flood = () => {
        const more = response.write(
          `data: ${JSON.stringify({ jsonrpc: "2.0", method: "notifications/tools/list_changed", params: { x: "x".repeat(1_000_000) } })}\n\n`,
        );
        if (response.destroyed) return;
        if (more) setImmediate(flood);
        else response.once("drain", flood);
      };
      response.on("close", () => cut.resolve());
      flood();
    });
    await list(accessTo(server.url));
    await cut.promise;
    expect(await call(accessTo(server.url), "any")).toMatchObject({ ok: true });
  });

  test("is let go when the upstream closes", async () => {
    const server = await startModernServer({ listTtlMs: HOUR_MS, tools: standardTools() });
    stops.push(server.stop);
    await list(accessTo(server.url));
    await soon(() => expect(streamsAt(server)).toHaveLength(1));
    await upstream.close();
  });
});

test("of many servers only so many are remembered, and what is forgotten counts as changed", () => {
  const changes = createChanges();
  changes.note("first");
  const [first, never] = [changes.of("first"), changes.of("never")];
  for (let n = 0; n < MAX_CHANGES; n++) changes.note(`url-${n}`);
  expect(changes.of("first")).toBe(first);
  expect(changes.of("never")).not.toBe(never);
  changes.note("first");
  expect(changes.of("first")).not.toBe(first);
});

/** A stateless server, by hand, whose listing holds for an hour; `answer` is what it says to who subscribes. */
async function subscribing(
  answer: (response: ServerResponse, user: string | null) => void,
): Promise<RawServer> {
  const server = await startRawServer((request, response) => {
    switch (request.body?.method) {
      case "server/discover":
        return answerResult(request, response, DISCOVERED);
      case "tools/list":
        return answerResult(request, response, { tools: [], ttlMs: HOUR_MS, cacheScope: "private" });
      case "subscriptions/listen":
        return answer(response, request.headers.get("x-user"));
      default:
        return answerResult(request, response, say("ok"));
    }
  });
  stops.push(server.stop);
  return server;
}

function granted(response: ServerResponse, notifications: object): ServerResponse {
  const params = { notifications };
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.write(
    `data: ${JSON.stringify({ jsonrpc: "2.0", method: "notifications/subscriptions/acknowledged", params })}\n\n`,
  );
  return response;
}
