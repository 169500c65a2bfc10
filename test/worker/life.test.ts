// A Worker ends what was begun for a request together with that request. These are the places where that would do harm.
import { request as rawRequest } from "node:http";
import type OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  answerResult,
  DISCOVERED,
  type ModernServer,
  type RawServer,
  startModernServer,
  startRawServer,
} from "../helpers/mcp-servers.ts";
import { createWorkerWorld, type WorkerWorld } from "../helpers/worker.ts";
import { call, itemsOf } from "../helpers/world.ts";

let world: WorkerWorld;
let notes: ModernServer;
let reluctant: RawServer;
let client: OpenAI;
/** Every `server/discover` waits for it. */
let discovery = Promise.withResolvers<void>();
let discovering = Promise.withResolvers<void>();

beforeAll(async () => {
  notes = await startModernServer();
  reluctant = await startRawServer(async (request, response) => {
    switch (request.body?.method) {
      case "server/discover":
        discovering.resolve();
        await discovery.promise;
        return answerResult(request, response, DISCOVERED);
      case "tools/list": {
        const tool = { name: "echo", inputSchema: { type: "object" } };
        return answerResult(request, response, { resultType: "complete", tools: [tool], ttlMs: 0 });
      }
      default: {
        const content = [{ type: "text", text: "there" }];
        return answerResult(request, response, { resultType: "complete", content });
      }
    }
  });
  world = await createWorkerWorld();
  await world.connect("notes", { target: notes.url });
  await world.connect("reluctant", { target: reluctant.url });
  client = await world.runtime();
}, 120_000);
afterAll(async () => {
  await world.stop();
  await Promise.all([notes.stop(), reluctant.stop()]);
});

const ask = (label: string, name: string, options: Parameters<OpenAI["responses"]["create"]>[1] = {}) =>
  client.responses.create(
    {
      tools: [{ type: "mcp", server_label: label, require_approval: "never" }],
      input: [call(label, name, {})],
      stream: false,
    },
    options,
  );

test("who waits for what another has begun gets it, although the other has gone", async () => {
  const gone = new AbortController();
  const first = ask("reluctant", "echo", { signal: gone.signal }).catch(() => "gone");
  await discovering.promise;
  const second = ask("reluctant", "echo");
  // The second is on its way, and waits for the first one's answer.
  await new Promise((resolve) => setTimeout(resolve, 300));
  gone.abort();
  expect(await first).toBe("gone");
  await new Promise((resolve) => setTimeout(resolve, 300));
  discovery.resolve();
  expect(itemsOf(await second, "mcp_call")).toMatchObject([{ output: "there", status: "completed" }]);
  expect(itemsOf(await ask("reluctant", "echo"), "mcp_call")).toMatchObject([{ output: "there" }]);
});

test("a call with an Idempotency-Key goes on without its caller, and whoever repeats it is given its answer", async () => {
  const headers = { "idempotency-key": "goes-on" };
  const gone = new AbortController();
  const first = ask("notes", "slow", { signal: gone.signal, headers }).catch(() => "gone");
  await notes.slow.started;
  gone.abort();
  expect(await first).toBe("gone");
  const repeated = ask("notes", "slow", { headers });
  notes.slow.release();
  expect(itemsOf(await repeated, "mcp_call")).toMatchObject([{ status: "completed" }]);
  expect(notes.seen("tools/call")).toHaveLength(1);
});

test("events come while the tool is still at work", async () => {
  const server = await startModernServer();
  await world.connect("slow", { target: server.url });
  const stream = await client.responses.create({
    tools: [{ type: "mcp", server_label: "slow", require_approval: "never" }],
    input: [call("slow", "slow", {})],
    stream: true,
  });
  const events = stream[Symbol.asyncIterator]();
  expect((await events.next()).value?.type).toBe("response.created");
  await server.slow.started;
  server.slow.release();
  let last = "";
  for (let next = await events.next(); !next.done; next = await events.next()) last = next.value.type;
  expect(last).toBe("response.completed");
  await server.stop();
});

test("a name that merely leads here is no name of ours", async () => {
  const { hostname, port } = new URL(world.url);
  const status = await new Promise((resolve, reject) => {
    const asking = rawRequest({ hostname, port, path: "/v1/models", headers: { host: "rebound.example" } });
    asking.on("response", (response) => resolve(response.resume().statusCode));
    asking.on("error", reject).end();
  });
  expect(status).toBe(403);
});

test("a response in the background is made after its request, and is polled, followed and cancelled by others", async () => {
  const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];
  const input = [call("notes", "echo", { text: "later" }, "c1")];
  const { id, status } = await client.responses.create({ background: true, tools, input });
  expect(status).toBe("queued");
  await expect
    .poll(async () => (await client.responses.retrieve(id)).status, { timeout: 20_000 })
    .toBe("completed");
  const types: string[] = [];
  const stream = client.responses.stream({ response_id: id });
  for await (const event of stream) types.push(event.type);
  expect(types.slice(0, 3)).toEqual(["response.created", "response.queued", "response.in_progress"]);
  expect(itemsOf(await stream.finalResponse(), "mcp_call")).toMatchObject([{ output: "later" }]);
  expect(await client.responses.cancel(id)).toMatchObject({ id, status: "completed" });
});

test("the runtime has nothing to complain of", () => {
  expect(world.logs().filter(({ level }) => level === "runtime")).toEqual([]);
});
