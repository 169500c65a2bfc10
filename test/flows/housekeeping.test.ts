// What ends by itself, and what a project keeps for a while only: on a whole broker, whose clock goes on.
import type OpenAI from "openai";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createHousekeeper } from "../../src/core/housekeeping.ts";
import { alone } from "../../src/core/leases.ts";
import { type ModernServer, say, schemaOf, startModernServer } from "../helpers/mcp-servers.ts";
import { audited } from "../helpers/people.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";
import { aHandle } from "../store/things.ts";

const DAY_MS = 24 * 60 * 60_000;
const never = new AbortController().signal;

let world: TestWorld;
let server: ModernServer;
let ann: OpenAI;

beforeEach(async () => {
  server = await startModernServer({
    tools: [{ name: "work", inputSchema: schemaOf({}, []), run: async () => say("worked") }],
  });
  world = await createWorld();
  await world.connect("work", { target: server.url });
  ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
});
afterEach(async () => {
  await world.stop();
  await server.stop();
});

const keep = (settings: object) => world.rest("PATCH", "/api/projects/default/settings", settings);
const sweep = () => createHousekeeper(world.world).tend(never);
const tools = (approval: "always" | "never") => [
  { type: "mcp" as const, server_label: "work", require_approval: approval },
];
const work = (more = {}, approval: "always" | "never" = "never") =>
  ann.responses.create({
    tools: tools(approval),
    input: [call("work", "work", {}, `c${crypto.randomUUID()}`)],
    ...more,
  });
const isThere = (promise: Promise<unknown>) =>
  promise.then(
    () => true,
    ({ status }: { status: number }) => (status === 404 ? false : status),
  );
const swept = () =>
  Object.fromEntries(
    world.logs
      .filter(({ event }) => event === "swept")
      .map(({ fields }) => [String(fields["chore"]), fields["rows"]]),
  );

test("without a retention everything stays", async () => {
  const response = await work();
  world.advance(4_000 * DAY_MS);
  await sweep();
  expect(await isThere(ann.responses.retrieve(response.id))).toBe(true);
});

test("a response past its retention is deleted as by its owner: with its items, and its audit entry", async () => {
  await keep({ responseRetentionDays: 30 });
  const old = await work();
  world.advance(29 * DAY_MS);
  await sweep();
  expect(await isThere(ann.responses.retrieve(old.id))).toBe(true);
  const next = await work({ previous_response_id: old.id });
  world.advance(DAY_MS + 1);
  await sweep();
  expect(await isThere(ann.responses.retrieve(old.id))).toBe(false);
  // What goes on from it has what it needs.
  const inputs = await ann.responses.inputItems.list(next.id);
  expect(inputs.data.length).toBeGreaterThan(0);
  expect(itemsOf(await work({ previous_response_id: next.id }), "mcp_call")).toHaveLength(1);
  expect(await audited(world, "response_deleted")).toMatchObject([
    { user: "app:ann", detail: { why: "retention" } },
  ]);
  expect(swept()).toMatchObject({ responses: 1 });
});

test("a call that waits is cancelled with its response, and goes when nothing speaks of it", async () => {
  await keep({ responseRetentionDays: 2, approvals: { expireAfterMs: 30 * DAY_MS } });
  const asking = await work({}, "always");
  const id = itemsOf(asking, "mcp_approval_request")[0]?.id ?? "";
  const byItself = await work({ store: false }, "always");
  const alone = itemsOf(byItself, "mcp_approval_request")[0]?.id ?? "";
  const held = (one: string) => world.world.store.heldCalls.get("default", one);
  world.advance(3 * DAY_MS);
  await sweep();
  expect(await held(id)).toBeNull();
  expect(await held(alone)).toMatchObject({ status: "pending" });
  world.advance(28 * DAY_MS);
  await sweep();
  expect(await held(alone)).toBeNull();
});

test("a call that was approved waits for its owner, however old it is, and then runs", async () => {
  await keep({ responseRetentionDays: 1, approvals: { expireAfterMs: 30 * DAY_MS } });
  const asking = await work({ store: false }, "always");
  const id = itemsOf(asking, "mcp_approval_request")[0]?.id ?? "";
  world.advance(2 * DAY_MS);
  await world.rest("POST", `/api/projects/default/approvals/${id}:decide`, { approve: true });
  world.advance(29 * DAY_MS);
  await sweep();
  const approved = { type: "mcp_approval_response" as const, approval_request_id: id, approve: true };
  const response = await ann.responses.create({ store: false, tools: tools("always"), input: [approved] });
  expect(itemsOf(response, "mcp_call")).toMatchObject([{ output: "worked" }]);
});

test("a call that nobody came back for goes a month after it was approved", async () => {
  await keep({ responseRetentionDays: 1, approvals: { expireAfterMs: 30 * DAY_MS } });
  const asking = await work({ store: false }, "always");
  const id = itemsOf(asking, "mcp_approval_request")[0]?.id ?? "";
  await world.rest("POST", `/api/projects/default/approvals/${id}:decide`, { approve: true });
  world.advance(30 * DAY_MS + 1);
  await sweep();
  expect(await world.world.store.heldCalls.get("default", id)).toBeNull();
});

test("a conversation has a retention of its own, since it was used last", async () => {
  await keep({ responseRetentionDays: 1, conversationRetentionDays: 10 });
  const items = [{ type: "message" as const, role: "user" as const, content: "hello" }];
  const [used, unused] = await Promise.all([1, 2].map(() => ann.conversations.create({ items })));
  if (!used || !unused) throw new Error("no conversations");
  world.advance(8 * DAY_MS);
  const response = await work({ conversation: used.id });
  world.advance(3 * DAY_MS);
  await sweep();
  await sweep();
  expect(await isThere(ann.conversations.retrieve(unused.id))).toBe(false);
  // It stays as long as its conversation.
  expect(await isThere(ann.responses.retrieve(response.id))).toBe(true);
  expect((await ann.conversations.items.list(used.id)).data.length).toBeGreaterThan(1);
  world.advance(8 * DAY_MS);
  await sweep();
  expect(await isThere(ann.conversations.retrieve(used.id))).toBe(false);
  expect(await isThere(ann.responses.retrieve(response.id))).toBe(false);
  expect(await audited(world, "conversation_deleted")).toHaveLength(2);
});

test("a conversation that is answered while it is about to be deleted stays, with its answer", async () => {
  await keep({ conversationRetentionDays: 10 });
  const items = [{ type: "message" as const, role: "user" as const, content: "hello" }];
  const { id } = await ann.conversations.create({ items });
  world.advance(11 * DAY_MS);
  const { store } = world.world;
  const { upkeep } = store;
  let answer = "";
  const conversations: typeof upkeep.retention.conversations = async (...query) => {
    const found = await upkeep.retention.conversations(...query);
    if (found.length > 0) answer = (await work({ conversation: id })).id;
    return found;
  };
  const retention = { ...upkeep.retention, conversations };
  const answered = { ...world.world, store: { ...store, upkeep: { ...upkeep, retention } } };
  await createHousekeeper(answered).tend(never);
  expect(await isThere(ann.conversations.retrieve(id))).toBe(true);
  expect(await isThere(ann.responses.retrieve(answer))).toBe(true);
  expect((await ann.conversations.items.list(id)).data.length).toBeGreaterThan(1);
  expect(await audited(world, "conversation_deleted")).toEqual([]);
});

test("a thousand rows take many small batches, between which calls go on, and one of two replicas does them", async () => {
  const { store } = world.world;
  for (let n = 0; n < 1_050; n++) await store.handles.put(aHandle("default", { expiresAt: 1 }), []);
  let longestMs = 0;
  let ended = false;
  const watching = (async () => {
    for (let last = performance.now(); !ended; last = performance.now()) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      longestMs = Math.max(longestMs, performance.now() - last);
    }
  })();
  const limits: number[] = [];
  const { expiry } = store.upkeep;
  const counted = {
    ...world.world,
    store: {
      ...store,
      upkeep: {
        ...store.upkeep,
        expiry: {
          ...expiry,
          handles: (now: number, limit: number) => {
            limits.push(limit);
            return expiry.handles(now, limit);
          },
        },
      },
    },
  };
  const tend = () => createHousekeeper(counted).tend(never);
  await Promise.all([tend(), tend(), tend(), work()]);
  ended = true;
  await watching;
  const handles = world.logs.filter(
    ({ event, fields }) => event === "swept" && fields["chore"] === "handles",
  );
  expect(handles.map(({ fields }) => fields["rows"])).toEqual([1_050]);
  expect(Math.max(...limits)).toBeLessThanOrEqual(100);
  expect(limits.length).toBeGreaterThanOrEqual(11);
  expect(longestMs).toBeLessThan(1_000);
});

test("whoever dies in the middle leaves the rest to the next, as soon as its lease has ended", async () => {
  const { store } = world.world;
  for (let n = 0; n < 250; n++) await store.handles.put(aHandle("default", { expiresAt: 1 }), []);
  const { promise: dead, resolve: bury } = Promise.withResolvers<void>();
  const hanging = alone(world.world, "housekeeping", async () => {
    await store.upkeep.expiry.handles(2, 100);
    await dead;
  });
  await sweep();
  expect(swept()).not.toHaveProperty("handles");
  world.advance(60_001);
  await sweep();
  expect(swept()).toMatchObject({ handles: 150 });
  bury();
  await hanging;
});

test("a chore that fails holds up no other", async () => {
  const { store } = world.world;
  const { upkeep } = store;
  const expiry = { ...upkeep.expiry, consents: () => Promise.reject(new Error("out of order")) };
  const broken = { ...world.world, store: { ...store, upkeep: { ...upkeep, expiry } } };
  await store.handles.put(aHandle("default", { expiresAt: 1 }), []);
  await createHousekeeper(broken).tend(never);
  expect(swept()).toMatchObject({ handles: 1 });
  expect(world.logs).toContainEqual(
    expect.objectContaining({ event: "sweep_failed", fields: expect.objectContaining({ job: "consents" }) }),
  );
});
