import { afterEach, beforeEach, expect, test } from "vitest";
import { MAX_LIST_BYTES, MAX_LISTED_TOOLS, MAX_MIRRORED_PARAMETERS } from "../../src/upstream/mcp-limits.ts";
import { readPage } from "../../src/upstream/mcp-tools.ts";
import {
  answerResult,
  DISCOVERED,
  INITIALIZED,
  schemaOf,
  startRawServer,
  type RawServer,
} from "../helpers/mcp-servers.ts";
import { accessTo, createTestUpstream, within, type TestUpstream } from "../helpers/mcp-upstream.ts";

// A24, for listings: what a server says of its tools is held in memory and worked on, so it is bounded as a whole.

let upstream: TestUpstream;
let stops: (() => Promise<void>)[];

beforeEach(() => {
  upstream = createTestUpstream();
  stops = [() => upstream.close()];
});
afterEach(async () => {
  for (const stop of stops) await stop();
});

type Page = { tools: unknown[]; nextCursor?: string };

/** A server whose listing is `pageOf` the pages asked for, as JSON or as a stream. */
async function listing(
  pageOf: (page: number) => Page,
  options: { as?: "json" | "stream"; era?: "modern" | "legacy" } = {},
): Promise<RawServer> {
  const server = await startRawServer((request, response) => {
    const { method, id, params } = request.body ?? {};
    if (method === "server/discover") {
      if (options.era === "legacy") return void response.writeHead(404).end();
      return answerResult(request, response, DISCOVERED);
    }
    if (method === "initialize") return answerResult(request, response, INITIALIZED);
    if (method !== "tools/list") return void response.writeHead(202).end();
    const result = { resultType: "complete", ...pageOf(Number(params?.["cursor"] ?? 0)) };
    if (options.as !== "stream") return answerResult(request, response, result);
    response
      .writeHead(200, { "content-type": "text/event-stream" })
      .end(`data: ${JSON.stringify({ jsonrpc: "2.0", id, result })}\n\n`);
  });
  stops.push(server.stop);
  return server;
}

const tool = (name: string, more: object = {}) => ({ name, inputSchema: { type: "object" }, ...more });
const wishing = (count: number) =>
  schemaOf(
    Object.fromEntries(
      Array.from({ length: count }, (_, n) => [`p${n}`, { type: "string", "x-mcp-header": `h${n}` }]),
    ),
    [],
  );
const list = (server: RawServer) => upstream.listTools(accessTo(server.url), within(60_000));

test("a tool that wants more arguments mirrored than a call can carry is dropped, alone", async () => {
  const tools = [
    tool("fits", { inputSchema: wishing(MAX_MIRRORED_PARAMETERS) }),
    tool("greedy", { inputSchema: wishing(MAX_MIRRORED_PARAMETERS + 1) }),
    tool("plain"),
  ];
  const server = await listing(() => ({ tools }));
  const listed = await list(server);
  expect(listed.ok && listed.tools.map(({ name }) => name)).toEqual(["fits", "plain"]);
  expect(upstream.logged).toContainEqual(
    expect.objectContaining({
      event: "tools_dropped",
      fields: expect.objectContaining({
        tools: [
          { name: "greedy", why: `x-mcp-header asks for more than ${MAX_MIRRORED_PARAMETERS} headers` },
        ],
      }),
    }),
  );
});

test("the older revisions know no mirrored arguments, so none are counted", async () => {
  const server = await listing(() => ({ tools: [tool("greedy", { inputSchema: wishing(100) })] }), {
    era: "legacy",
  });
  const listed = await list(server);
  expect(listed.ok && listed.tools.map(({ name }) => name)).toEqual(["greedy"]);
});

// Before, the names were compared with each other: 60,000 of them stalled everybody for more than a minute.
test("a tool with 60,000 mirrored arguments costs no more than its bytes", async () => {
  const server = await listing(() => ({
    tools: [tool("many", { inputSchema: wishing(60_000) }), tool("a")],
  }));
  const began = performance.now();
  const listed = await list(server);
  expect(listed.ok && listed.tools.map(({ name }) => name)).toEqual(["a"]);
  expect(performance.now() - began).toBeLessThan(8_000);
});

test.each(["json", "stream"] as const)("pages as %s share one budget of bytes", async (as) => {
  const pageBytes = 1024 * 1024;
  const server = await listing(
    (page) => ({
      tools: [tool(`t${page}`, { description: "x".repeat(pageBytes) })],
      nextCursor: String(page + 1),
    }),
    { as },
  );
  expect(await list(server)).toMatchObject({
    ok: false,
    failure: { kind: "too_large", message: expect.stringContaining(`share ${MAX_LIST_BYTES} bytes`) },
  });
  expect(server.seen("tools/list").length).toBeLessThanOrEqual(MAX_LIST_BYTES / pageBytes);
});

test.each(["json", "stream"] as const)("the budget counts bytes as %s, not characters", async (as) => {
  const server = await listing(
    (page) => ({
      // Three bytes each.
      tools: [tool(`t${page}`, { description: "€".repeat(MAX_LIST_BYTES / 8) })],
      ...(page < 3 && { nextCursor: String(page + 1) }),
    }),
    { as },
  );
  expect(await list(server)).toMatchObject({ ok: false, failure: { kind: "too_large" } });
  expect(server.seen("tools/list")).toHaveLength(3);
});

test("a long listing within the budget is had whole", async () => {
  const pages = 5;
  const server = await listing((page) => ({
    tools: [tool(`t${page}`, { description: "x".repeat(MAX_LIST_BYTES / (pages + 1)) })],
    ...(page + 1 < pages && { nextCursor: String(page + 1) }),
  }));
  const listed = await list(server);
  expect(listed.ok && listed.tools).toHaveLength(pages);
});

test("a page of a million entries that are no tools is counted, not looked through", async () => {
  const tools = Array.from({ length: 1_000_000 }, () => 0);
  expect(readPage({ tools }, { era: "modern", version: "2026-07-28" })).toMatchObject({
    listed: 1_000_000,
    tools: [],
    dropped: [],
  });
  const server = await listing(() => ({ tools }));
  expect(await list(server)).toEqual({
    ok: false,
    failure: { kind: "too_large", message: `The server lists more than ${MAX_LISTED_TOOLS} tools.` },
  });
});
