import type { ServerResponse } from "node:http";
import { gzipSync } from "node:zlib";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { MAX_ANSWER_BYTES, MAX_STREAM_MESSAGES } from "../../src/upstream/mcp-limits.ts";
import { measureComputing } from "../helpers/computing.ts";
import {
  answerJson,
  answerResult,
  DISCOVERED,
  INITIALIZED,
  say,
  schemaOf,
  startModernServer,
  startRawServer,
  type RawServer,
  type SeenRequest,
} from "../helpers/mcp-servers.ts";
import { accessTo, callOf, createTestUpstream, within, type TestUpstream } from "../helpers/mcp-upstream.ts";

// A24, for MCP: a server may do what it likes; the call ends, in time and within bounds, and nobody else notices.

let upstream: TestUpstream;
let stops: (() => Promise<void>)[];
const unhandled: unknown[] = [];
const note = (reason: unknown) => unhandled.push(reason);
process.on("unhandledRejection", note);
process.on("uncaughtException", note);

beforeEach(() => {
  upstream = createTestUpstream();
  stops = [() => upstream.close()];
});
afterEach(async () => {
  for (const stop of stops) await stop();
});
afterAll(() => {
  process.off("unhandledRejection", note);
  process.off("uncaughtException", note);
});

type Answer = (response: ServerResponse, request: SeenRequest) => void;

/** Well-behaved up to the first `tools/*` request. */
async function hostile(answer: Answer): Promise<RawServer & { left: Promise<void> }> {
  const left = Promise.withResolvers<void>();
  const server = await startRawServer((request, response) => {
    if (request.body?.method === "server/discover") return answerResult(request, response, DISCOVERED);
    response.on("close", () => left.resolve());
    answer(response, request);
  });
  stops.push(server.stop);
  return { ...server, left: left.promise };
}

const stream = (response: ServerResponse) => response.writeHead(200, { "content-type": "text/event-stream" });
const notification = (n: number) =>
  `data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"${n}"}}\n\n`;

/** Writes for as long as somebody reads. */
function pour(response: ServerResponse, next: () => string | Buffer): void {
  let open = true;
  response.on("close", () => (open = false));
  const write = () => {
    while (open) if (!response.write(next())) return void response.once("drain", write);
  };
  write();
}

const floods: [string, string, Answer][] = [
  [
    "an endless stream of messages",
    "too_large",
    (response) => {
      let n = 0;
      pour(stream(response), () => notification(++n));
    },
  ],
  ["an endless line", "too_large", (response) => pour(stream(response), () => "x".repeat(65_536))],
  ["an endless comment", "too_large", (response) => pour(stream(response), () => `:${"x".repeat(65_535)}\n`)],
  ["an endless event", "too_large", (response) => pour(stream(response), () => "data: a\n".repeat(8_192))],
  [
    "a gigabyte of JSON",
    "too_large",
    (response) =>
      pour(response.writeHead(200, { "content-type": "application/json" }), () => " ".repeat(65_536)),
  ],
  [
    "a gigabyte that it announces",
    "too_large",
    (response) =>
      response
        .writeHead(200, { "content-type": "application/json", "content-length": String(2 ** 30) })
        .write("{"),
  ],
  [
    "a bomb of 64 MiB in 64 KiB",
    "too_large",
    (response) =>
      response
        .writeHead(200, { "content-type": "application/json", "content-encoding": "gzip" })
        .end(gzipSync(Buffer.alloc(64 * 1024 * 1024, " "))),
  ],
  [
    "deep JSON",
    "too_large",
    (response, { body }) => {
      const deep = "[".repeat(500_000) + "]".repeat(500_000);
      response
        .writeHead(200, { "content-type": "application/json" })
        .end(
          `{"jsonrpc":"2.0","id":${String(body?.id)},"result":{"content":[],"structuredContent":${deep}}}`,
        );
    },
  ],
  [
    "deep JSON in a stream",
    "too_large",
    (response, { body }) => {
      const deep = '{"a":'.repeat(100_000) + "1" + "}".repeat(100_000);
      stream(response).end(`data: {"jsonrpc":"2.0","id":${String(body?.id)},"result":${deep}}\n\n`);
    },
  ],
  [
    "a huge head",
    "too_large",
    (response) => response.writeHead(200, { "x-big": "x".repeat(1_000_000) }).end(),
  ],
];

describe("a flood", () => {
  test.each(floods)("of %s is cut off", async (_what, kind, answer) => {
    const server = await hostile(answer);
    const began = Date.now();
    const outcome = await upstream.callTool(accessTo(server.url), callOf("any"), within(20_000));
    expect(outcome).toMatchObject({ ok: false, failure: { kind }, sent: true });
    expect(Date.now() - began).toBeLessThan(10_000);
    await server.left;
  });

  test("of small chunks costs no more than its bytes", async () => {
    const size = 200_000;
    const server = await hostile((response, { body }) => {
      const text = `data: ${JSON.stringify({ jsonrpc: "2.0", id: body?.id, result: { ...complete, ...say("x".repeat(size)) } })}\n\n`;
      let at = 0;
      pour(stream(response), () => {
        if (at >= text.length) response.end();
        at += 20;
        return text.slice(at - 20, at);
      });
    });
    const outcome = await upstream.callTool(accessTo(server.url), callOf("any"), within(20_000));
    expect(outcome.ok && outcome.result.content).toEqual(say("x".repeat(size)).content);
  });
});

describe("slowness", () => {
  const drips: [string, Answer][] = [
    [
      "bytes of JSON",
      (response) => drip(response.writeHead(200, { "content-type": "application/json" }), " "),
    ],
    ["keep-alive comments", (response) => drip(stream(response), ":\n\n")],
    ["progress", (response) => drip(stream(response), notification(1))],
    ["bytes of a refusal", (response) => drip(response.writeHead(400), " ")],
  ];

  test.each(drips)("of %s ends with the call's own limit", async (_what, answer) => {
    const server = await hostile(answer);
    const began = Date.now();
    const outcome = await upstream.callTool(accessTo(server.url), callOf("any"), within(400));
    expect(outcome).toMatchObject({ ok: false, sent: true });
    expect(Date.now() - began).toBeLessThan(2_000);
    await server.left;
  });

  test("of a server that never ends its streams does not keep them", async () => {
    const server = await hostile((response, { body }) => {
      stream(response).write(
        `data: ${JSON.stringify({ jsonrpc: "2.0", id: body?.id, result: { ...complete, content: [] } })}\n\n`,
      );
    });
    expect(await upstream.callTool(accessTo(server.url), callOf("any"), within(5_000))).toMatchObject({
      ok: true,
    });
    await server.left;
  });
});

describe("a definition", () => {
  test("with a pattern that takes for ever is not tried on anything", async () => {
    const evil = { type: "string", pattern: "^(a+)+$" };
    const server = await hostile((response, request) => {
      if (request.body?.method === "tools/list") {
        const tools = [
          {
            name: "slow-pattern",
            inputSchema: schemaOf({ a: evil }, []),
            outputSchema: schemaOf({ a: evil }, ["a"]),
          },
        ];
        return answerResult(request, response, { ...complete, tools });
      }
      answerResult(request, response, {
        ...complete,
        content: [],
        structuredContent: { a: `${"a".repeat(60)}!` },
      });
    });
    const access = accessTo(server.url);
    const listed = await upstream.listTools(access, within(5_000));
    const definition = (listed.ok && listed.tools[0]) || null;
    expect(definition?.outputSchema).toMatchObject({ properties: { a: evil } });
    const computedMs = measureComputing();
    const args = { a: `${"a".repeat(60)}!` };
    const outcome = await upstream.callTool(
      access,
      { name: "slow-pattern", arguments: args, definition },
      within(5_000),
    );
    // What does not fit the server's own schema is passed on: it is data, and the schema is no more than a claim.
    expect(outcome).toMatchObject({ ok: true, result: { structuredContent: args } });
    expect(computedMs()).toBeLessThan(1_000);
  });

  test("that refers to somewhere is not followed", async () => {
    const somewhere = await startRawServer((_request, response) => answerJson(response, { type: "object" }));
    stops.push(somewhere.stop);
    const schema = {
      type: "object",
      $ref: somewhere.url,
      properties: { a: { $ref: `${somewhere.url}#/a` } },
    };
    const server = await hostile((response, request) => {
      const tools = [
        { name: "far", inputSchema: schema, outputSchema: schema, icons: [{ src: somewhere.url }] },
      ];
      answerResult(request, response, { ...complete, tools, ...say("ok"), structuredContent: { a: 1 } });
    });
    const access = accessTo(server.url);
    const listed = await upstream.listTools(access, within(5_000));
    const definition = (listed.ok && listed.tools[0]) || null;
    expect(definition?.inputSchema).toEqual(schema);
    await upstream.callTool(access, { name: "far", arguments: { a: 1 }, definition }, within(5_000));
    expect(somewhere.requests).toEqual([]);
  });

  test("cannot reach into ours through names like __proto__", async () => {
    const server = await hostile((response, request) => {
      const text = `{"jsonrpc":"2.0","id":${String(request.body?.id)},"result":{"tools":[
        {"name":"__proto__","inputSchema":{"properties":{"__proto__":{"x-mcp-header":"R","type":"string"}}},"__proto__":{"polluted":1}},
        {"name":"constructor","inputSchema":{"type":"object"}}],"__proto__":{"nextCursor":"x"}}}`;
      response.writeHead(200, { "content-type": "application/json" }).end(text);
    });
    const listed = await upstream.listTools(accessTo(server.url), within(5_000));
    expect(listed.ok && listed.tools.map(({ name }) => name)).toEqual(["__proto__", "constructor"]);
    const definition = (listed.ok && listed.tools[0]) || null;
    await upstream.callTool(
      accessTo(server.url),
      { name: "__proto__", arguments: { a: 1 }, definition },
      within(5_000),
    );
    expect(server.seen("tools/call")[0]?.headers.get("mcp-param-r")).toBeNull();
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
    expect(server.seen("tools/list")).toHaveLength(1);
  });
});

describe("other users", () => {
  test("of another server are served while one floods, hangs and breaks off", async () => {
    const good = await startModernServer();
    stops.push(good.stop);
    const bad = await Promise.all(floods.slice(0, 5).map(([, , answer]) => hostile(answer)));
    const hanging = await hostile(() => {});
    const attacks = [...bad, hanging].map(({ url }) =>
      upstream.callTool(accessTo(url, { partition: "eve" }), callOf("any"), within(3_000)),
    );
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        upstream.callTool(
          accessTo(good.url, { partition: `user-${n}` }),
          callOf("echo", { text: `for ${n}` }),
          within(10_000),
        ),
      ),
    );
    expect(outcomes).toMatchObject(outcomes.map((_, n) => ({ ok: true, result: say(`for ${n}`) })));
    expect((await Promise.all(attacks)).every(({ ok }) => !ok)).toBe(true);
  });

  test("of the same server get their own answers, whatever ids it mixes up", async () => {
    const waiting: { request: SeenRequest; response: ServerResponse }[] = [];
    const server = await hostile((response, request) => {
      waiting.push({ request, response });
      if (waiting.length < 2) return;
      // Each gets the other's answer.
      const [one, two] = waiting;
      if (one && two) {
        answerJson(one.response, {
          jsonrpc: "2.0",
          id: two.request.body?.id,
          result: { ...complete, ...say("two's") },
        });
        answerJson(two.response, {
          jsonrpc: "2.0",
          id: one.request.body?.id,
          result: { ...complete, ...say("one's") },
        });
      }
    });
    await upstream.callTool(accessTo(server.url, { partition: "warm-up" }), callOf("any"), within(300));
    waiting.length = 0;
    const outcomes = await Promise.all(
      ["ada", "bob"].map((partition) =>
        upstream.callTool(accessTo(server.url, { partition }), callOf("any"), within(5_000)),
      ),
    );
    const mixedUp = {
      ok: false,
      failure: { kind: "not_mcp", message: expect.stringContaining("another request") },
    };
    expect(outcomes).toMatchObject([mixedUp, mixedUp]);
  });

  test("never send a session id that the server gave to somebody else, or at the wrong moment", async () => {
    const given = new Map([
      ["ada", "ada's"],
      ["bob", "bob's"],
    ]);
    const server = await startRawServer((request, response) => {
      const user = request.headers.get("x-user") ?? "";
      const { method, id } = request.body ?? {};
      if (method === "server/discover") return void response.writeHead(404).end();
      // It tries to move everybody onto ada's session with every answer after the first.
      response.setHeader("mcp-session-id", method === "initialize" ? (given.get(user) ?? "") : "ada's");
      if (id === undefined) return void response.writeHead(202).end();
      answerResult(request, response, method === "initialize" ? INITIALIZED : say("ok"));
    });
    stops.push(server.stop);
    for (const user of ["ada", "bob", "ada", "bob"]) {
      const access = accessTo(server.url, { partition: user, headers: { "x-user": user } });
      await upstream.callTool(access, callOf("any"), within(5_000));
    }
    const used = server
      .seen("tools/call")
      .map(({ headers }) => [headers.get("x-user"), headers.get("mcp-session-id")]);
    expect(used).toEqual([
      ["ada", "ada's"],
      ["bob", "bob's"],
      ["ada", "ada's"],
      ["bob", "bob's"],
    ]);
  });
});

test("a server that asks without end is not answered without end", async () => {
  const replies: unknown[] = [];
  const server = await startRawServer((request, response) => {
    const { method, id } = request.body ?? {};
    if (method === "server/discover") return void response.writeHead(404).end();
    if (method === "initialize") return answerResult(request, response, INITIALIZED);
    if (method === undefined || id === undefined) {
      if (method === undefined) replies.push(request.body);
      return void response.writeHead(202).end();
    }
    stream(response);
    for (let n = 0; n < 5_000; n++) {
      response.write(`data: ${JSON.stringify({ jsonrpc: "2.0", id: n, method: "roots/list" })}\n\n`);
    }
    response.end(`data: ${JSON.stringify({ jsonrpc: "2.0", id, result: say("done") })}\n\n`);
  });
  stops.push(server.stop);
  expect(await upstream.callTool(accessTo(server.url), callOf("any"), within(10_000))).toMatchObject({
    ok: true,
  });
  await upstream.close();
  expect(replies.length).toBeLessThanOrEqual(20);
});

test("a server that breaks off its stream again and again is left in the end", async () => {
  const server = await startRawServer((request, response) => {
    const { method, id } = request.body ?? {};
    if (method === "server/discover") return void response.writeHead(404).end();
    if (method === "initialize") return answerResult(request, response, INITIALIZED);
    if (id === undefined && request.method === "POST") return void response.writeHead(202).end();
    stream(response).end("id: 1\nretry: 0\ndata:\n\n");
  });
  stops.push(server.stop);
  const outcome = await upstream.callTool(accessTo(server.url), callOf("any"), within(1_500));
  expect(outcome).toMatchObject({ ok: false, failure: { kind: "timeout" }, sent: true });
  // Not sooner than every 100 ms, although it says 0.
  expect(server.requests.filter(({ method }) => method === "GET").length).toBeLessThanOrEqual(15);
  expect(server.seen("tools/call")).toHaveLength(1);
});

test("whatever a server makes of its answers, a call ends with a value", { timeout: 60_000 }, async () => {
  const random = createRandom(20_260_728);
  const server = await startRawServer((request, response) => {
    const { method, id } = request.body ?? {};
    const good = JSON.stringify({
      jsonrpc: "2.0",
      id,
      result:
        method === "server/discover"
          ? DISCOVERED
          : {
              ...INITIALIZED,
              ...complete,
              tools: [{ name: "a", inputSchema: { type: "object" } }],
              ...say("ok"),
            },
    });
    const asStream = random(2) === 0;
    const body = mutated(asStream ? `id: 1\nretry: 1\ndata: ${good}\n\n` : good, random);
    const status = [200, 200, 200, 200, 202, 204, 400, 404, 500][random(9)] ?? 200;
    if (random(3) === 0)
      response.setHeader("mcp-session-id", mutated("session", random).replaceAll(/[^\x21-\x7e]/g, ""));
    response.writeHead(status, { "content-type": asStream ? "text/event-stream" : "application/json" });
    if (random(20) === 0) response.write(body, () => response.destroy());
    else response.end(body);
  });
  stops.push(server.stop);
  const failures = new Map<string, number>();
  for (let round = 0; round < 400; round++) {
    const access = accessTo(`${server.url}/${random(20)}`, { partition: `user-${random(5)}` });
    const [listed, called] = await Promise.all([
      upstream.listTools(access, within(250)),
      upstream.callTool(access, callOf("any"), within(250)),
    ]);
    for (const outcome of [listed, called]) {
      const kind = outcome.ok ? "ok" : outcome.failure.kind;
      failures.set(kind, (failures.get(kind) ?? 0) + 1);
    }
  }
  // It was worth it only if good and bad were met.
  expect([...failures.keys()]).toEqual(expect.arrayContaining(["ok", "not_mcp", "http", "unreachable"]));
});

test("the limits are what they say", () => {
  expect(MAX_ANSWER_BYTES).toBe(16 * 1024 * 1024);
  expect(MAX_STREAM_MESSAGES).toBe(10_000);
});

test("none of this left a rejection that nobody handles", async () => {
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(unhandled).toEqual([]);
});

const complete = { resultType: "complete" };

function drip(response: ServerResponse, text: string): void {
  const timer = setInterval(() => response.write(text), 20);
  response.on("close", () => clearInterval(timer));
}

/** Numbers below a bound, the same ones in every run (mulberry32). */
function createRandom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** Text with a few places cut, doubled or overwritten; often left as it is. */
function mutated(text: string, random: (below: number) => number): string {
  const pieces = [
    "{",
    "}",
    "[",
    "]",
    '"',
    ":",
    ",",
    "null",
    "1e999",
    "\n",
    "\r",
    "data:",
    "\\u0000",
    "-1",
    "{}",
    "[]",
  ];
  let changed = text;
  for (let times = random(4); times > 0; times--) {
    const at = random(changed.length + 1);
    const piece = random(2) === 0 ? "" : (pieces[random(pieces.length)] ?? "");
    changed = changed.slice(0, at) + piece + changed.slice(at + random(12));
  }
  return changed;
}
