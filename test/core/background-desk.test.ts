// Responses in the background where the runtime ends what a request began, without a word: none of its waits and calls comes back.
import { AsyncLocalStorage } from "node:async_hooks";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Broker, createBroker } from "../../src/core/broker.ts";
import type { Context } from "../../src/core/context.ts";
import type { Upstream } from "../../src/core/ports.ts";
import { DEFAULT_SETTINGS } from "../../src/core/project.ts";
import { readAgentDefinition, readResponsesBody } from "../../src/http/wire/request.ts";
import { createTestApp, type TestApp } from "../helpers/app.ts";
import { scriptedClock } from "../helpers/scripted-clock.ts";
import { call } from "../helpers/world.ts";

const SECOND = 1_000;
const ROOM = 16;
const ended = new AsyncLocalStorage<true>();
const never = () => new Promise<never>(() => {});

let app: TestApp;
let broker: Broker;
let context: Context;
let clock: ReturnType<typeof scriptedClock>;
let callTool: Upstream["callTool"];
beforeEach(async () => {
  app = await createTestApp();
  const { caller } = await app.makeKey({ roles: ["runtime"] });
  const project = { name: "default", settings: DEFAULT_SETTINGS, version: 1, createdAt: 1 };
  const signal = new AbortController().signal;
  context = { project, caller, user: null, userToken: null, requestId: "req_1", signal };
  const properties = { authType: "None", target: "http://127.0.0.1:9/", category: "RemoteTool" };
  await app.send("PUT", "/api/projects/default/connections/there", { body: { properties } });
  const moved = scriptedClock();
  clock = moved;
  const tool = { name: "work", title: null, description: null, outputSchema: null, inputSchema: {} };
  callTool = async () => ({
    ok: true,
    result: { content: [{ type: "text", text: "worked" }], structuredContent: null, isError: false },
  });
  const world = {
    ...app.world,
    clock: {
      ...moved,
      sleep: (ms: number, signal?: AbortSignal) => (ended.getStore() ? never() : moved.sleep(ms, signal)),
      cutsAfterMs: 25 * SECOND,
    },
    upstream: {
      ...app.world.upstream,
      listTools: async () => ({ ok: true as const, tools: [{ ...tool, annotations: {} }], ttlMs: 60_000 }),
      callTool: (...asked: Parameters<Upstream["callTool"]>) =>
        ended.getStore() ? never() : callTool(...asked),
    },
  };
  broker = createBroker(world, { readDefinition: readAgentDefinition });
});
afterEach(() => app.stop());

async function begin(): Promise<string> {
  const tools = [{ type: "mcp", server_label: "there", require_approval: "never" }];
  const { request } = readResponsesBody({
    background: true,
    tools,
    input: [call("there", "work", {}, "c1")],
  });
  const { response } = await broker.respondInBackground(context, request, null);
  return response.id;
}

const beginAndEnd = () => ended.run(true, begin);
const statusOf = async (id: string) => (await broker.retrieve(context, id)).response.status;

/** Time passes, as long as that is to be, until it is so. Every step lets go on what can. */
async function until(check: () => Promise<boolean>): Promise<void> {
  while (!(await check())) {
    clock.advance(50);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
const isOver = (id: string) => async () => ["completed", "failed"].includes(await statusOf(id));

test("runs that ended with their requests leave their room when their leases are over", async () => {
  const left = await Promise.all(Array.from({ length: ROOM }, beginAndEnd));
  const waiting = await begin();
  clock.advance(SECOND);
  expect(await statusOf(waiting)).toBe("queued");
  clock.advance(60 * SECOND);
  const next = await begin();
  await until(isOver(next));
  expect(await statusOf(next)).toBe("completed");
  expect(new Set(await Promise.all(left.map(statusOf)))).toEqual(new Set(["in_progress"]));
});

test("what ended with its request is taken up by the next one to look, which waits for that alone", async () => {
  const left = await beginAndEnd();
  // It is under way, and its lease holds: it is not waited for.
  await broker.background.workOnce();
  clock.advance(60 * SECOND);
  let isDone = false;
  const working = broker.background.workOnce().then(() => (isDone = true));
  await until(async () => isDone);
  await working;
  expect(await statusOf(left)).toBe("completed");
});

test("whoever looks waits no longer than ten minutes for what it took up", async () => {
  const left = await beginAndEnd();
  clock.advance(60 * SECOND);
  callTool = never;
  let isDone = false;
  const began = clock.now();
  void broker.background.workOnce().then(() => (isDone = true));
  await until(async () => isDone);
  expect(clock.now() - began).toBeLessThan(11 * 60 * SECOND);
  expect(await statusOf(left)).toBe("in_progress");
});

test("what ended with its request can be cancelled when its lease is over", async () => {
  const left = await beginAndEnd();
  clock.advance(60 * SECOND);
  let isDone = false;
  void broker.cancel(context, left).then(() => (isDone = true));
  await until(async () => isDone);
  expect(await statusOf(left)).toBe("cancelled");
});
