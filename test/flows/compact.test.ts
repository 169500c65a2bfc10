import type OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import { type ScriptedModel, type ScriptedTurn, startModel } from "../helpers/model.ts";
import { createWorld, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let notes: ModernServer;
let model: ScriptedModel;
let client: OpenAI;
let script: ScriptedTurn[];

beforeAll(async () => {
  const play = () => script.shift() ?? { status: 500, body: { error: { message: "down" } } };
  [notes, model] = await Promise.all([startModernServer(), startModel(play)]);
  world = await createWorld({ model });
  await world.connect("notes", { target: notes.url });
  client = await world.runtime();
});
beforeEach(() => {
  script = [];
  model.requests.length = 0;
});
afterAll(async () => {
  await world.stop();
  await Promise.all([notes.stop(), model.close()]);
});

const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];
const told = () => model.requests.at(-1)?.body.messages.map(({ content }) => content) ?? [];
const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => "done",
    ({ status, param }: { status: number; param: string }) => `${status} ${param}`,
  );

async function talked() {
  script = [{ calls: [{ name: "notes__read_note", arguments: { id: "7" } }] }, { text: "You need milk." }];
  return client.responses.create({ model: "m", tools, input: "what do I need?" });
}

test("what was said is made short, and the model goes on from the summary", async () => {
  const response = await talked();
  script = [{ text: "Note 7 said: buy milk. The user was told so." }];
  const compacted = await client.responses.compact({ model: "m", previous_response_id: response.id });
  expect(compacted).toMatchObject({ object: "response.compaction", usage: { total_tokens: 15 } });
  expect(compacted.output.map(({ type }) => type as string)).toEqual(["message", "compaction"]);
  expect(JSON.stringify(model.requests.at(-1)?.body.messages)).toContain("note 7: buy milk");
  expect(JSON.stringify(compacted)).not.toContain("Note 7 said");
  expect((await world.databaseBytes()).includes("Note 7 said")).toBe(false);

  script = [{ text: "Milk, as I said." }];
  const next = await client.responses.create({
    model: "m",
    input: [...(compacted.output as never[]), { role: "user", content: "again?" }],
  });
  expect(next.output_text).toBe("Milk, as I said.");
  expect(JSON.stringify(told())).toContain("Note 7 said: buy milk. The user was told so.");
  expect(JSON.stringify(told())).not.toContain("read_note");
  // It is in the chain, and can be compacted again.
  script = [{ text: "Shorter." }];
  const again = await client.responses.compact({ model: "m", previous_response_id: next.id });
  expect(JSON.stringify(told())).toContain("Note 7 said");
  expect(again.output.map(({ type }) => type as string)).toEqual(["message", "message", "compaction"]);
});

test("a summary is its user's: another's, another project's and a changed one are 400", async () => {
  const rights = ["act_for_users"];
  const ann = await world.runtime({ rights, user: "ann" });
  script = [{ text: "about ann" }];
  const { output } = await ann.responses.compact({ model: "m", input: "I am Ann" });
  const use = (by: OpenAI, items: unknown) => by.responses.create({ model: "m", input: items as never[] });
  const bob = await world.runtime({ rights, user: "bob" });
  expect(await codeOf(use(bob, output))).toBe("400 input[1].encrypted_content");
  expect(await codeOf(use(client, output))).toBe("400 input[1].encrypted_content");
  expect(await codeOf(bob.conversations.create({ items: output as never[] }))).toMatch(/^400/);
  const changed = JSON.parse(JSON.stringify(output).replace(/"consentry1\.(.)/, '"consentry1.!$1'));
  expect(await codeOf(use(ann, changed))).toBe("400 input[1].encrypted_content");
  script = [{ text: "fine" }];
  expect((await ann.responses.create({ model: "m", input: output as never[] })).output_text).toBe("fine");
});

test("another maker's compaction passes through", async () => {
  script = [{ text: "ok" }];
  const item = { type: "compaction" as const, encrypted_content: "gAAAA" };
  const response = await client.responses.create({
    model: "m",
    input: [item, { role: "user", content: "x" }],
  });
  expect(response.output_text).toBe("ok");
});

test("without a model, with nothing said, or a summary that is cut off, there is none", async () => {
  expect(await codeOf(client.responses.compact({ model: null, input: "x" }))).toBe("400 model");
  expect(await codeOf(client.responses.compact({ model: "m" }))).toBe("400 input");
  const unknown = { model: "m", previous_response_id: "resp_1" };
  expect(await codeOf(client.responses.compact(unknown))).toBe("400 previous_response_id");
  script = [{ text: "half of", finish: "length" }];
  expect(await codeOf(client.responses.compact({ model: "m", input: "x" }))).toMatch(/^502/);
  expect(await codeOf(client.responses.compact({ model: "m", input: "x" }))).toMatch(/^502/);
});

test("input tokens are estimated from what a model would read, and nothing runs", async () => {
  const response = await talked();
  const [asked, called] = [model.requests.length, notes.seen("tools/call").length];
  const count = async (body: OpenAI.Responses.InputTokenCountParams) => {
    const counted = await client.responses.inputTokens.count(body);
    expect(counted.object).toBe("response.input_tokens");
    return counted.input_tokens;
  };
  expect(await client.responses.inputTokens.count()).toEqual({
    object: "response.input_tokens",
    input_tokens: 0,
  });
  const short = await count({ model: "m", input: "hello" });
  expect(short).toBeGreaterThan(0);
  expect(await count({ model: "m", input: "hello ".repeat(1_000) })).toBeGreaterThan(1_000);
  expect(await count({ model: "m", input: "hello", instructions: "Be kind" })).toBeGreaterThan(short);
  const chained = await count({ input: "hello", previous_response_id: response.id, tools: [] });
  expect(chained).toBeGreaterThan(short);
  // With what the past has listed of the server.
  expect(await count({ input: "hello", previous_response_id: response.id })).toBeGreaterThan(chained);
  const { id } = await client.conversations.create({
    items: [{ type: "message", role: "user", content: "x" }],
  });
  expect(await count({ input: "hello", conversation: id })).toBeGreaterThan(short);
  expect([model.requests.length, notes.seen("tools/call").length]).toEqual([asked, called]);
  const foreign = (await world.runtime()).responses.inputTokens.count({ previous_response_id: response.id });
  expect(await codeOf(foreign)).toBe("400 previous_response_id");
});
