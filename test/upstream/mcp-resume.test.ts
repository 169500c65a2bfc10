import type { ServerResponse } from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { MAX_AWAY, MAX_RESUMES } from "../../src/upstream/mcp-limits.ts";
import {
  answerResult,
  INITIALIZED,
  type RawServer,
  say,
  type SeenRequest,
  startRawServer,
} from "../helpers/mcp-servers.ts";
import {
  accessTo,
  callOf,
  createTestUpstream,
  realClock,
  type TestUpstream,
  within,
} from "../helpers/mcp-upstream.ts";
import { startSessionfulServer } from "../helpers/sessionful-server.ts";

let upstream: TestUpstream;
let stops: (() => Promise<void>)[];
let waits: number[];

beforeEach(() => {
  waits = [];
  const sleep: typeof realClock.sleep = (ms, signal) => {
    // Waits before a stream is taken up are noted and made short; time limits are as they are.
    if (ms > 30_000 || signal === undefined) return realClock.sleep(ms, signal);
    waits.push(ms);
    return realClock.sleep(Math.min(ms, 1), signal);
  };
  upstream = createTestUpstream({ clock: { now: realClock.now, sleep } });
  stops = [() => upstream.close()];
});
afterEach(async () => {
  for (const stop of stops) await stop();
});

const call = (url: string) => upstream.callTool(accessTo(url), callOf("any"), within(50_000));
const gets = ({ requests }: Pick<RawServer, "requests">) => requests.filter(({ method }) => method === "GET");

/** A server with sessions, by hand, whose call is a stream that breaks off at once; `onGet` answers who takes it up. */
async function breaking(
  onGet: (response: ServerResponse, again: { nth: number; answer: () => void }) => void,
): Promise<RawServer> {
  let asked: SeenRequest | null = null;
  let nth = 0;
  const server = await startRawServer((request, response) => {
    const method = request.body?.method;
    if (request.method === "DELETE") return void response.writeHead(200).end();
    if (request.method === "GET") {
      const answer = () => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        const reply = { jsonrpc: "2.0", id: asked?.body?.id, result: say("after all") };
        response.end(`data: ${JSON.stringify(reply)}\n\n`);
      };
      return onGet(response, { nth: ++nth, answer });
    }
    if (method === "server/discover") return void response.writeHead(404).end();
    if (request.body?.id === undefined) return void response.writeHead(202).end();
    if (method === "initialize") {
      response.setHeader("mcp-session-id", "session-1");
      return answerResult(request, response, INITIALIZED);
    }
    asked = request;
    response.writeHead(200, { "content-type": "text/event-stream" }).end("id: e1\nretry: 300\ndata:\n\n");
  });
  stops.push(server.stop);
  return server;
}

describe("a stream that breaks off", () => {
  test("is taken up as a server on the SDK of the older revisions wants it: from its last event, after its wait", async () => {
    const server = await startSessionfulServer(
      {
        any: async (extra) => {
          extra.closeSSEStream?.();
          return { content: [{ type: "text", text: "later" }] };
        },
      },
      { retryMs: 1_234 },
    );
    stops.push(server.stop);
    expect(await call(server.url)).toMatchObject({ ok: true, result: say("later") });
    const [taken, ...more] = gets(server);
    expect(more).toEqual([]);
    expect(taken?.headers.get("last-event-id")).toMatch(/./);
    expect(taken?.headers.get("mcp-session-id")).toBe(server.sessions()[0]);
    expect(waits).toContain(1_234);
    expect(server.seen("tools/call")).toHaveLength(1);
  });

  test.each([502, 503, 504, 429])(
    "is taken up from a server that is away for a moment (%d)",
    async (status) => {
      const server = await breaking((response, { nth, answer }) =>
        nth < MAX_AWAY ? void response.writeHead(status).end() : answer(),
      );
      expect(await call(server.url)).toMatchObject({ ok: true, result: say("after all") });
      expect(gets(server).map(({ headers }) => headers.get("last-event-id"))).toEqual(
        Array.from({ length: MAX_AWAY }, () => "e1"),
      );
      expect(server.seen("tools/call")).toHaveLength(1);
    },
  );

  test("is taken up from a server that drops the connection, too", async () => {
    const server = await breaking((response, { nth, answer }) =>
      nth < 3 ? void response.destroy() : answer(),
    );
    expect(await call(server.url)).toMatchObject({ ok: true, result: say("after all") });
    expect(server.seen("tools/call")).toHaveLength(1);
  });

  test("is given up where the server stays away", async () => {
    const server = await breaking((response) => void response.writeHead(503).end());
    expect(await call(server.url)).toMatchObject({
      ok: false,
      failure: { kind: "unreachable", reason: "closed" },
      sent: true,
    });
    expect(gets(server)).toHaveLength(MAX_AWAY);
    expect(server.seen("tools/call")).toHaveLength(1);
  });

  test.each([400, 404, 405, 401])("is given up where the server refuses it (%d)", async (status) => {
    const server = await breaking((response) => void response.writeHead(status).end());
    expect(await call(server.url)).toMatchObject({ ok: false, sent: true });
    expect(gets(server)).toHaveLength(1);
    expect(server.seen("tools/call")).toHaveLength(1);
  });

  test("is not taken up for ever from a server that breaks it off each time", async () => {
    const server = await breaking((response, { nth }) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.end(`id: e${nth + 1}\nretry: 0\ndata:\n\n`);
    });
    expect(await call(server.url)).toMatchObject({ ok: false, failure: { kind: "unreachable" }, sent: true });
    expect(gets(server)).toHaveLength(MAX_RESUMES);
    expect(gets(server).at(-1)?.headers.get("last-event-id")).toBe(`e${MAX_RESUMES}`);
    // However soon it wants to be asked, and never later than is good for the call.
    expect(Math.min(...waits)).toBe(100);
  });

  test("is waited for no longer than half a minute, whatever the server wants", async () => {
    const server = await breaking((response, { nth, answer }) => {
      if (nth > 1) return answer();
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.end("id: e2\nretry: 999999999\ndata:\n\n");
    });
    expect(await call(server.url)).toMatchObject({ ok: true, result: say("after all") });
    expect(waits).toContain(30_000);
    expect(waits).not.toContain(999_999_999);
  });
});
