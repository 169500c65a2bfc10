// A response in the background is its user's alone, while it runs and afterwards, at every replica (A5, A6).
import type OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ModernServer, say, schemaOf, startModernServer } from "../helpers/mcp-servers.ts";
import { call, clientOf, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let server: ModernServer;
let alice: OpenAI;
let bobOfOneApp: OpenAI;
let running: string;
const finish = Promise.withResolvers<void>();
const unknown = `resp_${"0".repeat(50)}`;

beforeAll(async () => {
  const begun = Promise.withResolvers<void>();
  const work = {
    name: "work",
    inputSchema: schemaOf({}, []),
    run: async () => {
      begun.resolve();
      await finish.promise;
      return say("worked");
    },
  };
  server = await startModernServer({ tools: [work] });
  world = await createWorld();
  await world.connect("work", { target: server.url });
  await world.rest("POST", "/api/projects", { name: "other" });
  const made = await world.rest("POST", "/api/projects/default/keys", {
    name: "one-app",
    roles: ["runtime"],
    rights: ["act_for_users"],
  });
  const as = (user: string) => clientOf(world.url, String(made.body["key"]), { project: "default", user });
  alice = as("alice");
  bobOfOneApp = as("bob");
  const tools = [{ type: "mcp" as const, server_label: "work", require_approval: "never" as const }];
  const response = await alice.responses.create({
    background: true,
    tools,
    input: [call("work", "work", {}, "c1")],
  });
  running = response.id;
  await begun.promise;
});
afterAll(async () => {
  finish.resolve();
  await world.stop();
  await server.stop();
});

const strangers: [string, () => Promise<OpenAI>][] = [
  ["another user of the same app", async () => bobOfOneApp],
  ["another key that names nobody", async () => world.runtime()],
  ["another app that names the user's name", async () => world.runtime({ user: "alice" })],
];
const acts: [string, (client: OpenAI, id: string) => Promise<unknown>][] = [
  ["polls", (client, id) => client.responses.retrieve(id)],
  ["follows", (client, id) => client.responses.retrieve(id, { stream: true })],
  ["takes up", (client, id) => client.responses.retrieve(id, { stream: true, starting_after: 3 })],
  ["cancels", (client, id) => client.responses.cancel(id)],
  ["deletes", (client, id) => client.responses.delete(id)],
  ["reads the input of", (client, id) => client.responses.inputItems.list(id)],
  ["goes on from", (client, id) => client.responses.create({ previous_response_id: id, input: "x" })],
];

/** What an attacker sees: the answer with the id that was asked for taken out. */
const seen = (asked: Promise<unknown>, id: string) =>
  asked.then(
    () => "let in",
    (error: { status: number; message: string }) =>
      JSON.stringify([error.status, error.message.replaceAll(id, "ID")]),
  );

describe.each(strangers)("%s", (_, clientOf) => {
  test.each(acts)("%s a running response: foreign is unknown", async (_what, act) => {
    const client = await clientOf();
    const foreign = await seen(act(client, running), running);
    expect(foreign).not.toBe("let in");
    expect(foreign).toBe(await seen(act(client, unknown), unknown));
  });
});

test.each(acts)("by another project's route a caller %s nothing", async (_what, act) => {
  const key = await world.rest("POST", "/api/projects/other/keys", {
    name: `k-${crypto.randomUUID()}`,
    roles: ["runtime"],
    rights: ["act_for_users"],
  });
  const foreign = clientOf(world.url, String(key.body["key"]), { project: "other", user: "alice" });
  expect((await foreign.responses.create({ tools: [], input: "x", model: "m" }).catch((e) => e)).code).toBe(
    "no_model",
  );
  expect(await seen(act(foreign, running), running)).toBe(await seen(act(foreign, unknown), unknown));
});

test("through all of it the response went on, and is alice's", async () => {
  expect((await alice.responses.retrieve(running)).status).toBe("in_progress");
  finish.resolve();
  await expect.poll(async () => (await alice.responses.retrieve(running)).status).toBe("completed");
  expect(itemsOf(await alice.responses.retrieve(running), "mcp_call")).toMatchObject([{ output: "worked" }]);
});
