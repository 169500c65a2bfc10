import { afterAll, beforeAll, expect, test } from "vitest";
import type { AccessDesk } from "../../src/core/access.ts";
import type { Context } from "../../src/core/context.ts";
import type { ListOutcome } from "../../src/core/ports.ts";
import { DEFAULT_SETTINGS } from "../../src/core/project.ts";
import type { Server } from "../../src/core/servers.ts";
import { createToolDesk } from "../../src/core/tools.ts";
import { createTestApp, type TestApp } from "../helpers/app.ts";
import { accessTo } from "../helpers/mcp-upstream.ts";
import { scriptedClock } from "../helpers/scripted-clock.ts";

const URL_THERE = "https://mcp.example.com/";
let app: TestApp;
let context: Context;
beforeAll(async () => {
  app = await createTestApp();
  const { caller } = await app.makeKey({ roles: ["runtime"] });
  context = {
    project: { name: "default", settings: DEFAULT_SETTINGS, version: 1, createdAt: 1 },
    caller,
    user: null,
    userToken: null,
    requestId: "req_1",
    signal: new AbortController().signal,
  };
});
afterAll(() => app.stop());

const server: Server = {
  label: "there",
  tool: {
    kind: "mcp",
    label: "there",
    connection: null,
    serverUrl: URL_THERE,
    description: null,
    requireApproval: "never",
    allowedTools: null,
    authorization: null,
    headers: {},
  },
  record: null,
  url: URL_THERE,
  timeoutMs: 60_000,
  policies: [],
  pinnedBy: [],
};

/** A desk whose server answers its listings in turn with what the test gives; what is not given never comes. */
function createDesk({ cutsAfterMs }: { cutsAfterMs?: number } = {}) {
  const moved = scriptedClock();
  const clock = cutsAfterMs === undefined ? moved : { ...moved, cutsAfterMs };
  const answers: Promise<ListOutcome>[] = [];
  const asked = { times: 0 };
  const listTools = () => answers[asked.times++] ?? new Promise<never>(() => {});
  const upstream = { ...app.world.upstream, listTools };
  const door = { ok: true, access: accessTo(URL_THERE), again: null } as const;
  // No listing asks for more of the desk than this.
  const access = { open: async () => door } as Partial<AccessDesk> as AccessDesk;
  const desk = createToolDesk({ ...app.world, clock, upstream }, access);
  const names = async (options?: { fresh: boolean }) => {
    const listing = await desk.list(context, server, options);
    return listing.ok ? [...listing.tools.keys()] : listing.failure;
  };
  return { answers, asked, names, advance: moved.advance };
}

const listed = (name: string): ListOutcome => {
  const nothing = { title: null, description: null, outputSchema: null, annotations: {} };
  return { ok: true, tools: [{ ...nothing, name, inputSchema: {} }], ttlMs: 60_000 };
};
const settled = () => new Promise((resolve) => setImmediate(resolve));

test("a listing that ended with the request that began it keeps nobody from the server for longer than its time", async () => {
  const { answers, asked, names, advance } = createDesk({ cutsAfterMs: 25_000 });
  void names();
  await settled();
  const waiting = [names(), names()];
  await settled();
  expect(asked.times).toBe(1);
  answers[1] = Promise.resolve(listed("echo"));
  advance(25_000);
  expect(await Promise.all(waiting)).toEqual([["echo"], ["echo"]]);
  expect(await names()).toEqual(["echo"]);
  expect(asked.times).toBe(2);
});

test("where nothing is ended so, a slow listing is waited for as long as it may rightly take", async () => {
  const { answers, asked, names, advance } = createDesk();
  const slow = Promise.withResolvers<ListOutcome>();
  answers[0] = slow.promise;
  const waiting = [names(), names()];
  await settled();
  advance(2 * server.timeoutMs);
  await settled();
  slow.resolve(listed("echo"));
  expect(await Promise.all(waiting)).toEqual([["echo"], ["echo"]]);
  expect(asked.times).toBe(1);
});

test("a listing that comes late does not take the place of one that was begun after it", async () => {
  const { answers, names, advance } = createDesk({ cutsAfterMs: 25_000 });
  const late = Promise.withResolvers<ListOutcome>();
  answers.push(late.promise, Promise.resolve(listed("new")));
  const first = names();
  await settled();
  advance(25_000);
  const second = names();
  await settled();
  advance(0);
  expect(await second).toEqual(["new"]);
  late.resolve(listed("old"));
  expect(await first).toEqual(["old"]);
  expect(await names()).toEqual(["new"]);
});
