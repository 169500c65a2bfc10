import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { UpstreamAccess } from "../../src/core/ports.ts";
import { MAX_SESSIONS, MAX_SESSIONS_OF_CONNECTION } from "../../src/upstream/mcp-limits.ts";
import { createSessions } from "../../src/upstream/mcp-sessions.ts";
import { answerResult, INITIALIZED, say, startEverything, startRawServer } from "../helpers/mcp-servers.ts";
import {
  accessTo,
  callOf,
  createManualClock,
  createTestUpstream,
  type TestUpstream,
  within,
} from "../helpers/mcp-upstream.ts";
import { type SessionfulServer, startSessionfulServer } from "../helpers/sessionful-server.ts";

let upstream: TestUpstream;
let stops: (() => Promise<void>)[];

beforeEach(() => {
  upstream = createTestUpstream();
  stops = [() => upstream.close()];
});
afterEach(async () => {
  for (const stop of stops) await stop();
});

/** On a busy machine, too. */
const soon = (check: () => unknown) => vi.waitFor(check, { timeout: 10_000 });
const quiet = () => ({ content: [{ type: "text" as const, text: "ok" }] });
const call = (access: UpstreamAccess, name = "quiet") =>
  upstream.callTool(access, callOf(name), within(10_000));

/** A person's access at a connection, with a credential of their own. */
function accessOf(url: string, owner: string, connection = "conn_1"): UpstreamAccess {
  return accessTo(url, {
    partition: `${connection}:1`,
    session: `${connection}:1:${owner}`,
    headers: { authorization: `Bearer of-${owner}` },
    holder: { project: "default", connection, owner },
  });
}
const deletes = (server: Pick<SessionfulServer, "requests">) =>
  server.requests
    .filter(({ method }) => method === "DELETE")
    .map(({ headers }) => [headers.get("authorization"), headers.get("mcp-session-id")]);

describe("sessions at a server on the SDK of the older revisions", () => {
  test("that are put out are ended with their own credential, and begun anew by the next call", async () => {
    const server = await startSessionfulServer({ quiet });
    stops.push(server.stop);
    await call(accessOf(server.url, "ada"));
    const [adas] = server.sessions();
    await call(accessOf(server.url, "bob"));
    await call(accessOf(server.url, "ada", "conn_2"));
    await upstream.endSessions({ project: "default", connection: "conn_1", owner: "ada" });
    await soon(() => expect(server.sessions()).toHaveLength(2));
    expect(deletes(server)).toEqual([["Bearer of-ada", adas]]);
    expect(await call(accessOf(server.url, "ada"))).toMatchObject({ ok: true });
    expect(server.sessions()).toHaveLength(3);
    expect(server.sessions()).not.toContain(adas);
  });

  test("end with their connection, or with whom they are for, and in that project alone", async () => {
    const server = await startSessionfulServer({ quiet });
    stops.push(server.stop);
    const others = accessOf(server.url, "ada", "conn_3");
    const elsewhere = { ...others, holder: { ...others.holder, project: "other" } };
    await Promise.all([
      call(accessOf(server.url, "ada")),
      call(accessOf(server.url, "bob")),
      call(accessOf(server.url, "ada", "conn_2")),
      call(elsewhere),
    ]);
    await upstream.endSessions({ project: "default", owner: "ada" });
    await soon(() => expect(server.sessions()).toHaveLength(2));
    await upstream.endSessions({ project: "default", connection: "conn_1" });
    await soon(() => expect(server.sessions()).toHaveLength(1));
    expect(deletes(server).map(([credential]) => credential)).toEqual(
      expect.arrayContaining(["Bearer of-ada", "Bearer of-bob"]),
    );
    await upstream.endSessions({ project: "other", connection: "conn_3", owner: "ada" });
    await soon(() => expect(server.sessions()).toEqual([]));
  });

  test("in use are ended by their last use, which they do not disturb", async () => {
    const [began, release] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const server = await startSessionfulServer({
      slow: async () => {
        began.resolve();
        await release.promise;
        return quiet();
      },
    });
    stops.push(server.stop);
    const slow = call(accessOf(server.url, "ada"), "slow");
    await began.promise;
    await upstream.endSessions({ project: "default", connection: "conn_1" });
    expect(deletes(server)).toEqual([]);
    release.resolve();
    expect(await slow).toMatchObject({ ok: true });
    await soon(() => expect(server.sessions()).toEqual([]));
  });

  test("are all ended when the upstream closes", async () => {
    const server = await startSessionfulServer({ quiet });
    stops.push(server.stop);
    await Promise.all(["ada", "bob", "cy"].map((owner) => call(accessOf(server.url, owner))));
    expect(server.sessions()).toHaveLength(3);
    await upstream.close();
    expect(server.sessions()).toEqual([]);
  });

  test("of the official sample server are ended, too", async () => {
    const server = await startEverything();
    stops.push(server.stop);
    const access = accessTo(server.url, {
      session: "s",
      holder: { project: "p", connection: "c", owner: "o" },
    });
    const echo = () => upstream.callTool(access, callOf("echo", { message: "hi" }), within(10_000));
    expect(await echo()).toMatchObject({ ok: true });
    await upstream.endSessions({ project: "p", connection: "c" });
    expect(await echo()).toMatchObject({ ok: true, result: say("Echo: hi") });
  });
});

test.each([405, 401, 500])(
  "a server that refuses to end a session (HTTP %d) is told once, and nobody minds",
  async (status) => {
    let made = 0;
    const server = await startRawServer((request, response) => {
      if (request.method === "DELETE") return void response.writeHead(status).end();
      if (request.body?.method === "server/discover") return void response.writeHead(404).end();
      if (request.body?.id === undefined) return void response.writeHead(202).end();
      if (request.body.method !== "initialize") return answerResult(request, response, say("ok"));
      response.setHeader("mcp-session-id", `session-${++made}`);
      answerResult(request, response, INITIALIZED);
    });
    stops.push(server.stop);
    expect(await call(accessOf(server.url, "ada"))).toMatchObject({ ok: true });
    await upstream.endSessions({ project: "default", owner: "ada" });
    expect(await call(accessOf(server.url, "ada"))).toMatchObject({ ok: true });
    await soon(() => expect(deletes(server)).toEqual([["Bearer of-ada", "session-1"]]));
    expect(server.seen("tools/call").map(({ headers }) => headers.get("mcp-session-id"))).toEqual([
      "session-1",
      "session-2",
    ]);
    expect(upstream.logged.filter(({ level }) => level !== "info")).toEqual([]);
  },
);

describe("the pool of sessions", () => {
  const ended: (string | null)[] = [];
  const poolOf = () => {
    ended.length = 0;
    return createSessions({
      clock: createManualClock(),
      end: async (_access, { session }) => void ended.push(session),
    });
  };
  const lineOf = (session: string) => ({ era: "legacy" as const, version: "2025-11-25", session });
  const at = (owner: string, connection: string) => accessOf("http://localhost/mcp", owner, connection);

  test("is bounded for each connection: its users put out each other's and nobody else's", () => {
    const pool = poolOf();
    pool.put(at("ada", "small"), lineOf("small"));
    for (let n = 0; n < MAX_SESSIONS_OF_CONNECTION; n++)
      pool.put(at(`user-${n}`, "large"), lineOf(`large-${n}`));
    expect(ended).toEqual([]);
    pool.put(at("one-more", "large"), lineOf("large-more"));
    pool.put(at("another", "large"), lineOf("large-another"));
    expect(ended).toEqual(["large-0", "large-1"]);
    expect(pool.take(at("ada", "small"))).not.toBeNull();
    pool.close();
  });

  test("puts out what was used by calls that their runtime ended, and what was idle, though no timer tells", () => {
    const clock = createManualClock();
    const gone: (string | null)[] = [];
    const pool = createSessions({
      clock: { ...clock, sleep: () => new Promise(() => {}), cutsAfterMs: 25_000 },
      end: async (_access, { session }) => void gone.push(session),
    });
    const names = ["cut-off", "idle", "used", ...Array.from({ length: 6 }, (_, n) => `more-${n}`)];
    for (const name of names) pool.put(at(name, "conn"), lineOf(name));
    pool.take(at("cut-off", "conn"));
    clock.advance(10 * 60_000);
    pool.take(at("used", "conn"));
    pool.put(at("ada", "conn"), lineOf("first"));
    // A few at a time: whoever puts them out pays for it.
    expect(gone).toEqual(["idle", "more-0", "more-1", "more-2", "more-3"]);
    clock.advance(60_000);
    gone.length = 0;
    pool.put(at("bob", "conn"), lineOf("second"));
    expect(gone).toEqual(["more-4", "more-5", "cut-off"]);
    pool.close();
    // What is still used is not ended before that use.
    expect(gone).toEqual(["more-4", "more-5", "cut-off", "first", "second"]);
  });

  test("comes back within its bounds when a burst of calls is over", () => {
    const pool = poolOf();
    const uses: (() => void)[] = [];
    for (let n = 0; n < MAX_SESSIONS + 50; n++) {
      const access = at(`user-${n}`, `conn_${n % 10}`);
      pool.put(access, lineOf(`s-${n}`));
      const taken = pool.take(access);
      if (taken) uses.push(taken.release);
    }
    expect([uses.length, ended.length]).toEqual([MAX_SESSIONS + 50, 0]);
    for (const release of uses) release();
    expect(ended).toHaveLength(50);
    pool.close();
    expect(new Set(ended).size).toBe(MAX_SESSIONS + 50);
  });

  test("counts right whatever becomes of sessions", () => {
    const pool = poolOf();
    const access = at("ada", "conn");
    for (let n = 0; n < MAX_SESSIONS_OF_CONNECTION * 2; n++) {
      const line = lineOf(`s-${n}`);
      pool.put(access, line);
      if (n % 3 === 0) pool.forget(access, line);
      if (n % 3 === 1) void pool.putOut({ project: "default", owner: "ada" });
    }
    ended.length = 0;
    for (let n = 0; n < MAX_SESSIONS_OF_CONNECTION - 1; n++)
      pool.put(at(`user-${n}`, "conn"), lineOf(`t-${n}`));
    expect(ended).toEqual([]);
    pool.close();
  });
});
