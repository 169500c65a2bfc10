// What an isolate began and did not end is taken up by the cron, in another one, when its lease is over.
import type OpenAI from "openai";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { say, schemaOf, startModernServer, type ModernServer } from "../helpers/mcp-servers.ts";
import { type ScriptedModel, startModel } from "../helpers/model.ts";
import { createWorkerWorld, type WorkerWorld } from "../helpers/worker.ts";
import { call, itemsOf } from "../helpers/world.ts";

let world: WorkerWorld;
let server: ModernServer;
let model: ScriptedModel;
let client: OpenAI;
/** How often the tool ran, by what it was told. */
let runs: Map<string, number>;
/** What waits here is never answered before the isolate is gone. */
let reached: PromiseWithResolvers<void>;
let gone: PromiseWithResolvers<void>;

beforeAll(async () => {
  const work = {
    name: "work",
    inputSchema: schemaOf({ text: { type: "string" } }, ["text"]),
    run: async ({ text }: Record<string, unknown>) => {
      const name = String(text);
      runs.set(name, (runs.get(name) ?? 0) + 1);
      if (name === "hangs") await hanging();
      return say(`worked ${name}`);
    },
  };
  server = await startModernServer({ tools: [work] });
  model = await startModel(async ({ messages }) => {
    const asked = messages.filter((message) => message.role === "tool").length;
    if (asked === 0) return { calls: [{ name: "work__work", arguments: { text: "first" } }] };
    if (model.requests.length === 2) await hanging();
    return { text: "It is done." };
  });
  world = await createWorkerWorld({ model });
  await world.connect("work", { target: server.url, timeoutMs: 20_000 });
  client = await world.runtime();
}, 120_000);
beforeEach(() => {
  runs = new Map();
  reached = Promise.withResolvers();
  gone = Promise.withResolvers();
});
afterEach(() => gone.resolve());
afterAll(async () => {
  await world.stop();
  await Promise.all([server.stop(), model.close()]);
});

const hanging = () => {
  reached.resolve();
  return gone.promise;
};
const tools = [{ type: "mcp" as const, server_label: "work", require_approval: "never" as const }];
const stateOf = async (id: string) => {
  const [row] = await world.sql("select status, attempts, lease_until from background where id = ?", id);
  return row;
};

/** Begins it, and is gone when it has come to what hangs. */
async function cutOff(body: Partial<OpenAI.Responses.ResponseCreateParamsNonStreaming>): Promise<string> {
  const { id } = await client.responses.create({ background: true, tools, ...body });
  await reached.promise;
  await world.die();
  return id;
}

/** As if half a minute had gone by. */
const leaseOver = (id: string) => world.sql("update background set lease_until = 0 where id = ?", id);

test("a call that may have run is not run again: the cron ends the response, and says so", async () => {
  const input = [call("work", "work", { text: "hangs" }, "c1")];
  const id = await cutOff({ input });
  await world.cron();
  expect(await stateOf(id)).toMatchObject({ status: "running", attempts: 1 });
  expect((await client.responses.retrieve(id)).status).toBe("in_progress");
  await leaseOver(id);
  await world.cron();
  expect(await stateOf(id)).toMatchObject({ status: "done" });
  const response = await client.responses.retrieve(id);
  expect(itemsOf(response, "mcp_call")).toMatchObject([
    { id: "c1", status: "failed", error: { message: expect.stringContaining("may have run") } },
  ]);
  expect(runs.get("hangs")).toBe(1);
});

test("a model that was cut off is asked again, and what it had called is not called again", async () => {
  const id = await cutOff({ model: "m", input: "go" });
  await leaseOver(id);
  await world.cron();
  const response = await client.responses.retrieve(id);
  expect(response).toMatchObject({ status: "completed", output_text: "It is done." });
  expect(itemsOf(response, "mcp_call")).toMatchObject([{ status: "completed", output: "worked first" }]);
  expect(runs.get("first")).toBe(1);
  const events: string[] = [];
  const stream = client.responses.stream({ response_id: id });
  for await (const event of stream) events.push(event.type);
  expect(events.at(-1)).toBe("response.completed");
});

test("of two crons that find it at once, one takes it up", async () => {
  const id = await cutOff({ input: [call("work", "work", { text: "hangs" }, "c1")] });
  await leaseOver(id);
  await Promise.all([world.cron(), world.cron()]);
  expect(await stateOf(id)).toMatchObject({ status: "done", attempts: 2 });
  expect(
    world
      .logs()
      .filter(({ event, fields }) => event === "background_taken_up" && fields["responseId"] === id),
  ).toHaveLength(1);
});
