import { setTimeout as wait } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { CallLimits, CallProgress } from "../../src/core/ports.ts";
import {
  answerResult,
  DISCOVERED,
  type RawServer,
  say,
  schemaOf,
  startEverything,
  startModernServer,
  startRawServer,
} from "../helpers/mcp-servers.ts";
import { accessTo, callOf, createTestUpstream, type TestUpstream, within } from "../helpers/mcp-upstream.ts";
import { startSessionfulServer, telling } from "../helpers/sessionful-server.ts";

let upstream: TestUpstream;
let stops: (() => Promise<void>)[];

beforeEach(() => {
  upstream = createTestUpstream();
  stops = [() => upstream.close()];
});
afterEach(async () => {
  for (const stop of stops) await stop();
});

function watched(timeoutMs: number, longestMs = timeoutMs): CallLimits & { told: CallProgress[] } {
  const told: CallProgress[] = [];
  return {
    ...within(timeoutMs),
    progress: { longestMs, report: (progress) => void told.push(progress) },
    told,
  };
}

/** A stateless server, by hand, that answers a call by `stream`: a message of the SSE stream for each that is given. */
async function saying(
  onCall: (call: {
    id: unknown;
    token: unknown;
    write: (message: object) => void;
    end: () => void;
  }) => void | Promise<void>,
): Promise<RawServer> {
  const server = await startRawServer((request, response) => {
    if (request.body?.method === "server/discover") return answerResult(request, response, DISCOVERED);
    const meta = request.body?.params?.["_meta"] as Record<string, unknown> | undefined;
    const write = (message: object) => {
      if (!response.headersSent) response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(`data: ${JSON.stringify({ jsonrpc: "2.0", ...message })}\n\n`);
    };
    const { id } = request.body ?? {};
    const end = () => {
      write({ id, result: say("done") });
      response.end();
    };
    void onCall({ id, token: meta?.["progressToken"], write, end });
  });
  stops.push(server.stop);
  return server;
}

const progressOf = (params: object) => ({ method: "notifications/progress", params });

describe("a call whose progress is watched", () => {
  test("hears it from the official sample server", async () => {
    const server = await startEverything();
    stops.push(server.stop);
    const limits = watched(10_000);
    const args = { duration: 0.9, steps: 3 };
    const outcome = await upstream.callTool(
      accessTo(server.url),
      callOf("trigger-long-running-operation", args),
      limits,
    );
    expect(outcome).toMatchObject({ ok: true });
    // On a busy machine two of them may come too close after each other.
    expect(limits.told[0]).toEqual({ progress: 1, total: 3, message: null });
    expect(limits.told.map(({ progress }) => progress)).toEqual(
      [1, 2, 3].filter((step) => limits.told.some(({ progress }) => progress === step)),
    );
  });

  test("hears it from a server on the SDK of the older revisions, with its words", async () => {
    const server = await startSessionfulServer({ work: telling(2, 300) });
    stops.push(server.stop);
    const limits = watched(10_000);
    const outcome = await upstream.callTool(accessTo(server.url), callOf("work"), limits);
    expect(outcome).toMatchObject({ ok: true, result: say("done in 2 steps") });
    expect(limits.told[0]).toEqual({ progress: 1, total: 2, message: "step 1" });
    expect(limits.told.length).toBeLessThanOrEqual(2);
  });

  test("hears it from a stateless server of 2026-07-28", async () => {
    const server = await startModernServer({
      tools: [
        {
          name: "work",
          inputSchema: schemaOf({}, []),
          run: async (_args, { mcpReq }) => {
            const progressToken = mcpReq._meta?.progressToken;
            if (progressToken === undefined) return say("nobody wants to know");
            const params = { progressToken, progress: 0.5, message: "half" };
            await mcpReq.notify({ method: "notifications/progress", params });
            return say("done");
          },
        },
      ],
    });
    stops.push(server.stop);
    const limits = watched(10_000);
    const call = (how: CallLimits) => upstream.callTool(accessTo(server.url), callOf("work"), how);
    expect(await call(limits)).toMatchObject({ ok: true, result: say("done") });
    expect(limits.told).toEqual([{ progress: 0.5, total: null, message: "half" }]);
    expect(await call(within(10_000))).toMatchObject({ result: say("nobody wants to know") });
  });

  test("takes longer than its limit as long as it tells progress, and no longer than the most", async () => {
    const server = await startSessionfulServer({ work: telling(4, 300), endless: telling(10_000, 100) });
    stops.push(server.stop);
    const call = (name: string, limits: CallLimits) =>
      upstream.callTool(accessTo(server.url), callOf(name), limits);
    // The session begins before it is timed.
    await call("no-such", watched(5_000));
    expect(await call("work", watched(900, 10_000))).toMatchObject({ ok: true });
    expect(await call("work", within(900))).toMatchObject({ ok: false, failure: { kind: "timeout" } });
    const began = Date.now();
    expect(await call("endless", watched(300, 800))).toMatchObject({
      ok: false,
      failure: { kind: "timeout", message: expect.stringContaining("within 800 ms") },
      sent: true,
    });
    expect(Date.now() - began).toBeLessThan(3_000);
  });

  test("ends when its server falls silent", async () => {
    const server = await saying(({ token, write }) => {
      write(progressOf({ progressToken: token, progress: 1 }));
    });
    const outcome = await upstream.callTool(accessTo(server.url), callOf("any"), watched(250, 60_000));
    expect(outcome).toMatchObject({
      failure: { kind: "timeout", message: "The server told no progress for 250 ms." },
    });
  });

  test("believes nothing of another token, that falls or stays, or that is no number", async () => {
    const server = await saying(async ({ token, write, end }) => {
      for (const params of [
        { progressToken: "another", progress: 1 },
        { progress: 2 },
        { progressToken: String(token), progress: 3 },
        { progressToken: token, progress: "4" },
        { progressToken: token },
        { progressToken: token, progress: 10, total: "many", message: 7 },
      ]) {
        write(progressOf(params));
      }
      await wait(300);
      write(progressOf({ progressToken: token, progress: 10 }));
      write(progressOf({ progressToken: token, progress: 9 }));
      end();
      write(progressOf({ progressToken: token, progress: 99 }));
    });
    const limits = watched(10_000);
    expect(await upstream.callTool(accessTo(server.url), callOf("any"), limits)).toMatchObject({ ok: true });
    expect(limits.told).toEqual([{ progress: 10, total: null, message: null }]);
  });

  test("passes on a flood four times a second, and its words bounded, shown and without the credential", async () => {
    const message = `key is Bearer 1234567890 \u202e${"x".repeat(5_000)}`;
    const server = await saying(({ token, write, end }) => {
      for (let progress = 1; progress <= 2_000; progress++) {
        write(progressOf({ progressToken: token, progress, message }));
      }
      end();
    });
    const limits = watched(30_000);
    const access = accessTo(server.url, { headers: { authorization: "Bearer 1234567890" } });
    const began = Date.now();
    expect(await upstream.callTool(access, callOf("any"), limits)).toMatchObject({ ok: true });
    expect(limits.told.length).toBeLessThanOrEqual(2 + (Date.now() - began) / 250);
    const [first] = limits.told;
    expect(first?.message).toHaveLength(500);
    expect(first?.message).toMatch(/^key is \[redacted\] \\u202exx/);
  });

  test("hears it also in a stream that was taken up again", async () => {
    const server = await startSessionfulServer(
      {
        work: async (extra, of) => {
          extra.closeSSEStream?.();
          return telling(1, 10)(extra, of);
        },
      },
      { retryMs: 100 },
    );
    stops.push(server.stop);
    const limits = watched(10_000);
    const outcome = await upstream.callTool(accessTo(server.url), callOf("work"), limits);
    expect(outcome).toMatchObject({ ok: true, result: say("done in 1 steps") });
    expect(limits.told).toMatchObject([{ progress: 1, message: "step 1" }]);
    expect(server.seen("tools/call")).toHaveLength(1);
  });
});

test("a call that nobody watches asks for no progress, and is not extended by it", async () => {
  const seen: unknown[] = [];
  const server = await saying(({ id, token, write }) => {
    seen.push(token);
    const tell = (progress: number) => write(progressOf({ progressToken: id, progress }));
    for (let step = 1; step < 20; step++) setTimeout(() => tell(step), step * 50);
  });
  const began = Date.now();
  const outcome = await upstream.callTool(accessTo(server.url), callOf("any"), within(300));
  expect(outcome).toMatchObject({ failure: { kind: "timeout" } });
  expect(Date.now() - began).toBeLessThan(900);
  expect(seen).toEqual([undefined]);
});
