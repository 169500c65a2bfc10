// A model that is cut off in the middle of a thought, or of a call of the client's own function.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Response } from "openai/resources/responses/responses";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { type ResponsesModel, type ResponsesTurn, startResponsesModel } from "../helpers/model-responses.ts";
import { clientOf, ADMIN_KEY, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let model: ResponsesModel;
let turns: ResponsesTurn[];
let folder: string;
let worlds: TestWorld[];

beforeAll(async () => {
  model = await startResponsesModel(() => turns.shift() ?? { says: [{ text: "Go on." }] });
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "consentry-cut-off-"));
  worlds = [await replica(), await replica()];
});
afterEach(async () => {
  await Promise.all(worlds.map((world) => world.stop()));
  await rm(folder, { recursive: true, force: true });
});
afterAll(() => model.close());

const replica = () =>
  createWorld({
    env: {
      CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
      CONSENTRY_KEYRING: `k1:${Buffer.alloc(32, 7).toString("base64")}`,
      CONSENTRY_MODEL_BASE_URL: model.baseUrl,
      CONSENTRY_MODEL_API_KEY: "model-key",
      CONSENTRY_MODEL_API: "responses",
    },
  });
const client = (at: number) => clientOf(worlds[at]?.url ?? "", ADMIN_KEY, { project: "default" });

/** Says this, and then nothing for ever; `said` resolves when it is said. */
function hanging(events: unknown[]) {
  const said = Promise.withResolvers<void>();
  const turn: ResponsesTurn = {
    events: (async function* () {
      yield { type: "response.created", response: { id: "resp_1", status: "in_progress", output: [] } };
      yield* events;
      said.resolve();
      await new Promise(() => {});
    })(),
  };
  return { turn, said: said.promise };
}

/** Until a reader has seen `type`, the first replica is dead; the second has it. */
async function cutOff(
  body: Record<string, unknown>,
  type: string | null,
  said: Promise<void>,
): Promise<Response> {
  const [a, b] = worlds;
  const stream = await client(0).responses.create({ model: "m", background: true, stream: true, ...body });
  let id = "";
  for await (const event of stream) {
    if (event.type === "response.created") ({ id } = event.response);
    if (event.type === (type ?? "response.in_progress")) break;
  }
  await said;
  const store = a?.world.store.background;
  if (!store || !b) throw new Error("there are no replicas");
  store.append = store.renew = () => new Promise(() => {});
  b.advance(60_000);
  for (;;) {
    const response = await client(1).responses.retrieve(id);
    if (response.status !== "queued" && response.status !== "in_progress") return response;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test("half a thought stays to be seen, and is told to no model afterwards", async () => {
  const place = { output_index: 0, item_id: "rs_1", summary_index: 0 };
  const half = hanging([
    {
      type: "response.output_item.added",
      output_index: 0,
      item: { type: "reasoning", id: "rs_1", summary: [] },
    },
    { type: "response.reasoning_summary_part.added", ...place, part: { type: "summary_text", text: "" } },
    { type: "response.reasoning_summary_text.delta", ...place, delta: "I wonder" },
  ]);
  turns = [
    half.turn,
    { says: [{ reasoning: ["I know."], encrypted: "gAAAA" }, { text: "It is seven." }] },
    { says: [{ text: "Still seven." }] },
  ];
  const response = await cutOff({ input: "what?" }, "response.reasoning_summary_text.delta", half.said);
  expect(response.status).toBe("completed");
  expect(itemsOf(response, "reasoning").map(({ summary }) => summary[0]?.text)).toEqual([
    "I wonder",
    "I know.",
  ]);
  const again = client(1).responses.stream({ response_id: response.id });
  for await (const _ of again);
  expect((await again.finalResponse()).output_text).toBe("It is seven.");
  const next = await client(1).responses.create({
    model: "m",
    previous_response_id: response.id,
    input: "sure?",
  });
  expect(next.output_text).toBe("Still seven.");
  expect(JSON.stringify(model.requests.at(-1)?.body)).not.toContain("I wonder");
});

test("of half a call of the client's function nobody sees anything: it is called once, whole", async () => {
  const item = { type: "function_call", id: "fc_1", call_id: "call_1", name: "pay", arguments: "" };
  const half = hanging([
    { type: "response.output_item.added", output_index: 0, item },
    {
      type: "response.function_call_arguments.delta",
      output_index: 0,
      item_id: "fc_1",
      delta: '{"euros": 1',
    },
  ]);
  turns = [half.turn, { says: [{ call: "pay", arguments: { euros: 100 } }] }];
  const tools = [{ type: "function" as const, name: "pay", parameters: {}, strict: false }];
  const response = await cutOff({ input: "pay", tools }, null, half.said);
  expect(response.status).toBe("completed");
  expect(itemsOf(response, "function_call")).toMatchObject([
    { name: "pay", arguments: '{"euros":100}', status: "completed" },
  ]);
  const events: string[] = [];
  const stream = client(1).responses.stream({ response_id: response.id });
  for await (const event of stream) events.push(event.type);
  expect(events.filter((type) => type.includes("function_call") || type.includes("item"))).toEqual([
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
  ]);
});
