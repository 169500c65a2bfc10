import type OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ScriptedModel, startModel } from "../helpers/model.ts";
import { createWorld, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let model: ScriptedModel;
let client: OpenAI;

beforeAll(async () => {
  model = await startModel(() => ({ text: "ok" }));
  world = await createWorld({ model });
  client = await world.runtime();
});
afterAll(async () => {
  await world.stop();
  await model.close();
});

const known = [
  "reasoning.encrypted_content",
  "message.output_text.logprobs",
  "web_search_call.action.sources",
] as const;

test("what clients include is known wherever they ask for it", async () => {
  const { id } = await client.responses.create({ model: "m", input: "x", include: [...known] });
  await client.responses.create({ model: "m", input: "x", include: [] });
  await client.responses.retrieve(id, { include: [...known] });
  await client.responses.inputItems.list(id, { include: [...known] });
  const conversation = await client.conversations.create();
  const added = await client.conversations.items.create(conversation.id, {
    items: [{ type: "message", role: "user", content: "x" }],
    include: [...known],
  });
  await client.conversations.items.list(conversation.id, { include: [...known] });
  const item = added.data[0]?.id ?? "";
  const query = { conversation_id: conversation.id, include: [...known] };
  expect((await client.conversations.items.retrieve(item, query)).id).toBe(item);
});

test("what nobody knows is 400, by its place, before anything runs", async () => {
  const { id } = await client.responses.create({ model: "m", input: "x" });
  const before = model.requests.length;
  const include = ["reasoning.encrypted_content", "everything"] as never[];
  const refused = { status: 400, param: "include[1]" };
  await expect(client.responses.create({ model: "m", input: "x", include })).rejects.toMatchObject(refused);
  await expect(client.responses.retrieve(id, { include })).rejects.toMatchObject(refused);
  const conversation = await client.conversations.create();
  await expect(client.conversations.items.list(conversation.id, { include })).rejects.toMatchObject(refused);
  const items = [{ type: "message" as const, role: "user" as const, content: "x" }];
  await expect(client.conversations.items.create(conversation.id, { items, include })).rejects.toMatchObject(
    refused,
  );
  expect((await client.conversations.items.list(conversation.id)).data).toEqual([]);
  expect(model.requests.length).toBe(before);
});
