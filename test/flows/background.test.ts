import type OpenAI from "openai";
import type { Response, ResponseStreamEvent } from "openai/resources/responses/responses";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type ModernServer, say, schemaOf, startModernServer } from "../helpers/mcp-servers.ts";
import { type ScriptedModel, type ScriptedTurn, startModel } from "../helpers/model.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { ADMIN_KEY, call, clientOf, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let replicas: TestWorld[];
let server: ModernServer;
let model: ScriptedModel;
/** What the tool `work` does before it answers. */
let during: () => Promise<void> | void;
let turns: ScriptedTurn[];

beforeAll(async () => {
  const work = {
    name: "work",
    inputSchema: schemaOf({}, []),
    run: async () => {
      await during();
      return say("worked");
    },
  };
  [server, model] = await Promise.all([
    startModernServer({ tools: [work] }),
    startModel(() => turns.shift() ?? { text: "done" }),
  ]);
  const env = {
    CONSENTRY_DATABASE_URL: await createDatabase(),
    CONSENTRY_KEYRING: `k1:${Buffer.alloc(32, 7).toString("base64")}`,
  };
  replicas = await Promise.all([createWorld({ env, model }), createWorld({ env, model })]);
  await replicas[0]?.connect("work", { target: server.url });
});
beforeEach(() => {
  during = () => {};
  turns = [];
});
afterAll(async () => {
  await Promise.all(replicas.map((replica) => replica.stop()));
  await Promise.all([server.stop(), model.close()]);
});

const client = (at: number) => clientOf(replicas[at]?.url ?? "", ADMIN_KEY, { project: "default" });
const tools = [{ type: "mcp" as const, server_label: "work", require_approval: "never" as const }];
const working = { background: true, tools, input: [call("work", "work", {}, "c1")] };

/** As OpenAI's guide polls. */
async function polled(openai: OpenAI, id: string): Promise<Response> {
  for (;;) {
    const response = await openai.responses.retrieve(id);
    if (response.status !== "queued" && response.status !== "in_progress") return response;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function eventsOf(stream: AsyncIterable<ResponseStreamEvent>): Promise<ResponseStreamEvent[]> {
  const events: ResponseStreamEvent[] = [];
  for await (const event of stream) events.push(event);
  return events;
}
const typesOf = (events: ResponseStreamEvent[]) => events.map(({ type }) => type);
const numbersOf = (events: ResponseStreamEvent[]) => events.map(({ sequence_number: n }) => n);

test("a response in the background waits, is polled at either replica, and ends like any other", async () => {
  const begun = await client(0).responses.create(working);
  expect(begun).toMatchObject({ status: "queued", background: true, output: [], usage: null });
  const done = await polled(client(1), begun.id);
  expect(done).toMatchObject({ id: begun.id, status: "completed", background: true });
  expect(itemsOf(done, "mcp_call")).toMatchObject([{ id: "c1", output: "worked", status: "completed" }]);
  const { data } = await client(1).responses.inputItems.list(begun.id);
  expect(data).toHaveLength(1);
  // It can be gone on with.
  const next = await client(1).responses.create({ previous_response_id: begun.id, tools });
  expect(next.previous_response_id).toBe(begun.id);
});

test("it is followed from its beginning, at the replica that makes it and at the other, event for event the same", async () => {
  turns = [{ calls: [{ name: "work__work", arguments: {} }] }, { text: ["It ", "has ", "worked."] }];
  const body = { model: "m", background: true, stream: true, tools, input: "go" } as const;
  const own = await eventsOf(await client(0).responses.create(body));
  expect(typesOf(own).slice(0, 3)).toEqual(["response.created", "response.queued", "response.in_progress"]);
  expect(numbersOf(own)).toEqual(own.map((_, at) => at));
  const first = own[0];
  const id = first?.type === "response.created" ? first.response.id : "";
  expect(own.at(-1)).toMatchObject({
    type: "response.completed",
    response: { id, status: "completed", background: true },
  });
  const again = await eventsOf(await client(1).responses.retrieve(id, { stream: true }));
  expect(again).toEqual(own);
  const rest = await eventsOf(await client(1).responses.retrieve(id, { stream: true, starting_after: 4 }));
  expect(rest).toEqual(own.slice(5));
  // The client's own helper asks for all of it, checks every event, and filters by itself.
  const helper = client(1).responses.stream({ response_id: id, starting_after: 4 });
  for await (const event of helper) expect(event.sequence_number).toBeGreaterThan(4);
  expect((await helper.finalResponse()).output_text).toBe("It has worked.");
});

test("a reader at the other replica sees it go on, and taking the stream up again misses nothing", async () => {
  const finish = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  during = () => {
    begun.resolve();
    return finish.promise;
  };
  const { id } = await client(0).responses.create(working);
  await begun.promise;
  expect((await client(1).responses.retrieve(id)).status).toBe("in_progress");
  const seen: ResponseStreamEvent[] = [];
  const stream = await client(1).responses.retrieve(id, { stream: true });
  for await (const event of stream) {
    seen.push(event);
    if (event.type === "response.mcp_call_arguments.done") break;
  }
  finish.resolve();
  const last = seen.at(-1)?.sequence_number ?? -1;
  const rest = await eventsOf(await client(1).responses.retrieve(id, { stream: true, starting_after: last }));
  expect(numbersOf([...seen, ...rest])).toEqual([...seen, ...rest].map((_, at) => at));
  expect(typesOf(rest)).toEqual([
    "response.mcp_call.completed",
    "response.output_item.done",
    "response.completed",
  ]);
});

test("the caller leaves its stream, and the response goes on", async () => {
  const begun = Promise.withResolvers<void>();
  const finish = Promise.withResolvers<void>();
  during = () => {
    begun.resolve();
    return finish.promise;
  };
  const stream = await client(0).responses.create({ ...working, stream: true });
  let id = "";
  for await (const event of stream) {
    if (event.type === "response.created") ({ id } = event.response);
    if (event.type === "response.mcp_call.in_progress") break;
  }
  await begun.promise;
  finish.resolve();
  expect(await polled(client(0), id)).toMatchObject({ status: "completed" });
});

test.each([0, 1])(
  "it is cancelled from replica %i while its tool runs, once and for all",
  async (at) => {
    const begun = Promise.withResolvers<void>();
    during = () => {
      begun.resolve();
      return new Promise(() => {});
    };
    const { id } = await client(0).responses.create(working);
    await begun.promise;
    const cancelled = await client(at).responses.cancel(id);
    expect(cancelled).toMatchObject({ id, status: "cancelled", error: null });
    expect(itemsOf(cancelled, "mcp_call")).toMatchObject([{ status: "failed", error: { code: 499 } }]);
    expect(await client(1).responses.cancel(id)).toEqual(cancelled);
    expect(await client(1).responses.retrieve(id)).toMatchObject(cancelled);
    const events = await eventsOf(await client(1).responses.retrieve(id, { stream: true }));
    expect(events.at(-1)).toMatchObject({ type: "response.failed", response: { status: "cancelled" } });
  },
  20_000,
);

test("before its end nobody goes on from it or reads its input, and is told so; strangers are told that there is none", async () => {
  const begun = Promise.withResolvers<void>();
  const finish = Promise.withResolvers<void>();
  during = () => {
    begun.resolve();
    return finish.promise;
  };
  const { id } = await client(0).responses.create(working);
  await begun.promise;
  const early = { status: 409, code: "still_running" };
  await expect(client(1).responses.inputItems.list(id)).rejects.toMatchObject(early);
  await expect(client(1).responses.create({ previous_response_id: id, tools })).rejects.toMatchObject(early);
  const stranger = await replicas[1]?.runtime();
  await expect(stranger?.responses.inputItems.list(id)).rejects.toMatchObject({ status: 404 });
  await expect(stranger?.responses.create({ previous_response_id: id, tools })).rejects.toMatchObject({
    status: 400,
    code: "previous_response_not_found",
  });
  finish.resolve();
  expect(await polled(client(0), id)).toMatchObject({ status: "completed" });
});

test("what does not run in the background is not cancelled, and store: false is refused", async () => {
  const plain = await client(0).responses.create({ ...working, background: false });
  await expect(client(0).responses.cancel(plain.id)).rejects.toMatchObject({ status: 400, param: "id" });
  await expect(client(0).responses.create({ ...working, store: false })).rejects.toMatchObject({
    status: 400,
    param: "background",
  });
  await expect(client(0).responses.create({ ...working, tools: [] })).rejects.toMatchObject({ status: 400 });
  const missing = client(0).responses.retrieve("resp_0", { stream: true });
  await expect(missing).rejects.toMatchObject({ status: 404 });
});

test("a stored response that was not in the background is replayed from its items", async () => {
  const plain = await client(0).responses.create({ ...working, background: false });
  const events = await eventsOf(await client(1).responses.retrieve(plain.id, { stream: true }));
  expect(typesOf(events).slice(0, 2)).toEqual(["response.created", "response.in_progress"]);
  expect(events.at(-1)).toMatchObject({ type: "response.completed", response: { output: plain.output } });
  const rest = await client(1).responses.retrieve(plain.id, { stream: true, starting_after: 1 });
  expect(await eventsOf(rest)).toEqual(events.slice(2));
});

test("an approval and what comes of it: the question ends the response, the answer may be in the background, too", async () => {
  const asking = { ...working, tools: [{ type: "mcp" as const, server_label: "work" }] };
  const asked = await polled(client(0), (await client(0).responses.create(asking)).id);
  expect(asked.status).toBe("completed");
  const [request] = itemsOf(asked, "mcp_approval_request");
  const answer = {
    background: true,
    previous_response_id: asked.id,
    input: [
      { type: "mcp_approval_response" as const, approval_request_id: request?.id ?? "", approve: true },
    ],
  };
  const done = await polled(client(1), (await client(1).responses.create(answer)).id);
  expect(itemsOf(done, "mcp_call")).toMatchObject([
    { id: "c1", output: "worked", approval_request_id: request?.id },
  ]);
});

test("a response in the background becomes part of its conversation when it ends", async () => {
  const { id: conversation } = await client(0).conversations.create();
  const { id } = await client(0).responses.create({ ...working, conversation });
  expect((await polled(client(1), id)).conversation).toEqual({ id: conversation });
  const { data } = await client(1).conversations.items.list(conversation, { order: "asc" });
  expect(data.map(({ type }) => type)).toEqual(["mcp_call"]);
});

test("one Idempotency-Key is one response, at both replicas at once, streamed by whoever asks for it", async () => {
  const before = server.seen("tools/call").length;
  const send = (at: number) =>
    client(at).responses.create(working, { headers: { "Idempotency-Key": "once" } });
  const answers = await Promise.all([send(0), send(1), send(0), send(1)]);
  const ids = new Set(answers.map(({ id }) => id));
  expect(ids.size).toBe(1);
  await polled(client(0), answers[0]?.id ?? "");
  expect(await send(1)).toMatchObject({ id: answers[0]?.id, status: "completed" });
  expect(server.seen("tools/call").length).toBe(before + 1);
});

test("deleting one that runs cancels it, and nothing is left of it", async () => {
  const begun = Promise.withResolvers<void>();
  during = () => {
    begun.resolve();
    return new Promise(() => {});
  };
  const { id } = await client(0).responses.create(working);
  await begun.promise;
  await client(1).responses.delete(id);
  await expect(client(0).responses.retrieve(id)).rejects.toMatchObject({ status: 404 });
  await expect(client(0).responses.retrieve(id, { stream: true })).rejects.toMatchObject({ status: 404 });
  await expect(client(0).responses.cancel(id)).rejects.toMatchObject({ status: 404 });
}, 20_000);

test("a model that fails leaves a failed response, and its stream says so", async () => {
  turns = [{ status: 500, body: { error: { message: "down" } } }];
  const { id } = await client(0).responses.create({ model: "m", background: true, input: "go" });
  const failed = await polled(client(1), id);
  expect(failed).toMatchObject({ status: "failed", error: { code: "server_error" } });
  const events: ResponseStreamEvent[] = [];
  const stream = await client(1).responses.retrieve(id, { stream: true });
  await expect(async () => {
    for await (const event of stream) events.push(event);
  }).rejects.toThrow("down");
  expect(typesOf(events)).toEqual(["response.created", "response.queued", "response.in_progress"]);
});

test("one that waits is cancelled before anything of it has run", async () => {
  const world = replicas[0];
  if (!world) throw new Error("there is no replica");
  const before = server.seen("tools/call").length;
  const { background } = world.world.store;
  const { begin } = background;
  // As if this process made as many as it can.
  background.begin = (work, ...rest) =>
    begin({ ...work, run: null, leaseUntil: Date.now() + 60_000 }, ...rest);
  const { id } = await client(0).responses.create(working);
  background.begin = begin;
  expect((await client(1).responses.retrieve(id)).status).toBe("queued");
  for (const one of replicas) one.advance(120_000);
  const cancelled = await client(1).responses.cancel(id);
  expect(cancelled).toMatchObject({ status: "cancelled", output: [] });
  expect(server.seen("tools/call").length).toBe(before);
});
