// Our own oracle of the wire: every field of a response and every field of every event, by hand-written shapes that
// refuse what is missing, extra or null in the wrong place (responses-wire 4 and 10).
import { afterAll, beforeAll, expect, test } from "vitest";
import type OpenAI from "openai";
import { z } from "zod";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import { type ScriptedModel, type ScriptedTurn, startModel } from "../helpers/model.ts";
import { call, createWorld, itemsOf, streamed, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let notes: ModernServer;
let model: ScriptedModel;
let client: OpenAI;
let script: ScriptedTurn[] = [];

beforeAll(async () => {
  [notes, model] = await Promise.all([
    startModernServer(),
    startModel(() => script.shift() ?? { status: 500, body: {} }),
  ]);
  world = await createWorld({ model });
  await world.connect("notes", { target: notes.url });
  client = await world.runtime();
});
afterAll(async () => {
  await world.stop();
  await Promise.all([notes.stop(), model.close()]);
});

const id = (prefix: string) => z.string().regex(new RegExp(`^${prefix}_[0-9a-f]{50}$`));
const text = z.string();
const seconds = z.int().min(1_700_000_000).max(4_000_000_000);
const json = z.record(text, z.unknown());
const callError = z.union([
  z.strictObject({ type: z.literal("mcp_protocol_error"), code: z.int(), message: text }),
  z.strictObject({ type: z.literal("mcp_tool_execution_error"), content: z.array(json) }),
  z.strictObject({ type: z.literal("http_error"), code: z.int(), message: text }),
]);
const outputText = z.strictObject({
  type: z.literal("output_text"),
  text,
  annotations: z.array(json),
  logprobs: z.array(json),
});
const refusal = z.strictObject({ type: z.literal("refusal"), refusal: text });
const status = z.enum(["in_progress", "completed", "incomplete"]);
const item = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("mcp_list_tools"),
    id: id("mcpl"),
    server_label: text,
    tools: z.array(
      z.strictObject({
        name: text,
        description: text,
        input_schema: json,
        annotations: z.looseObject({ read_only: z.boolean() }),
      }),
    ),
    error: text.optional(),
  }),
  z.strictObject({
    type: z.literal("mcp_approval_request"),
    id: id("mcpr"),
    server_label: text,
    name: text,
    arguments: text,
  }),
  z.strictObject({
    type: z.literal("mcp_call"),
    id: text.min(1),
    status: z.enum(["in_progress", "completed", "failed", "incomplete"]),
    approval_request_id: id("mcpr").nullable(),
    server_label: text,
    name: text,
    arguments: text,
    output: text.nullable(),
    error: callError.nullable(),
  }),
  z.strictObject({
    type: z.literal("message"),
    id: id("msg"),
    role: z.literal("assistant"),
    status,
    content: z.array(z.union([outputText, refusal])),
  }),
  z.strictObject({
    type: z.literal("function_call"),
    id: id("fc"),
    call_id: text,
    name: text,
    arguments: text,
    status,
  }),
]);
const tool = z.union([
  z.strictObject({
    type: z.literal("mcp"),
    server_label: text,
    server_url: text.nullable(),
    server_description: text.nullable(),
    allowed_tools: json.nullable(),
    require_approval: z.union([text, json]),
    headers: z.null(),
    project_connection_id: text.optional(),
  }),
  z.strictObject({
    type: z.literal("function"),
    name: text,
    description: text.nullable(),
    parameters: json.nullable(),
    strict: z.boolean().nullable(),
  }),
]);
const usage = z.strictObject({
  input_tokens: z.int(),
  input_tokens_details: z.strictObject({ cached_tokens: z.int() }),
  output_tokens: z.int(),
  output_tokens_details: z.strictObject({ reasoning_tokens: z.int() }),
  total_tokens: z.int(),
});
const response = z.strictObject({
  id: id("resp"),
  object: z.literal("response"),
  created_at: seconds,
  completed_at: seconds.nullable(),
  status: z.enum(["in_progress", "completed", "incomplete", "failed"]),
  background: z.literal(false),
  error: z.strictObject({ type: text, code: text, message: text, param: z.null() }).nullable(),
  incomplete_details: z.strictObject({ reason: text }).nullable(),
  instructions: text.nullable(),
  max_output_tokens: z.int().nullable(),
  max_tool_calls: z.int().nullable(),
  model: text,
  output: z.array(item),
  parallel_tool_calls: z.boolean(),
  previous_response_id: id("resp").nullable(),
  conversation: z.strictObject({ id: z.string() }).nullable(),
  prompt_cache_key: text.nullable(),
  reasoning: z.strictObject({ effort: text.nullable(), summary: text.nullable() }),
  safety_identifier: text.nullable(),
  service_tier: text,
  store: z.boolean(),
  temperature: z.number(),
  text: z.looseObject({ format: json }),
  tool_choice: z.union([text, json]),
  tools: z.array(tool),
  top_logprobs: z.int(),
  top_p: z.number(),
  truncation: text,
  presence_penalty: z.number(),
  frequency_penalty: z.number(),
  usage: usage.nullable(),
  user: text.nullable(),
  metadata: z.record(text, text),
  agent_reference: json.nullable(),
  agent: json.nullable(),
});

const numbered = { sequence_number: z.int() };
const whole = (...types: string[]) => z.strictObject({ type: z.enum(types), response, ...numbered });
const placed = { item_id: text.min(1), output_index: z.int(), ...numbered };
const inPart = { ...placed, content_index: z.int() };
const event = z.union([
  whole(
    "response.created",
    "response.in_progress",
    "response.completed",
    "response.incomplete",
    "response.failed",
  ),
  z.strictObject({
    type: z.enum(["response.output_item.added", "response.output_item.done"]),
    output_index: z.int(),
    item,
    ...numbered,
  }),
  z.strictObject({
    type: z.templateLiteral(["response.mcp_list_tools.", z.enum(["in_progress", "completed", "failed"])]),
    ...placed,
  }),
  z.strictObject({
    type: z.templateLiteral(["response.mcp_call.", z.enum(["in_progress", "completed", "failed"])]),
    ...placed,
  }),
  z.strictObject({
    type: z.enum(["response.mcp_call_arguments.delta", "response.function_call_arguments.delta"]),
    delta: text,
    ...placed,
  }),
  z.strictObject({ type: z.literal("response.mcp_call_arguments.done"), arguments: text, ...placed }),
  z.strictObject({
    type: z.literal("response.function_call_arguments.done"),
    arguments: text,
    name: text,
    ...placed,
  }),
  z.strictObject({
    type: z.enum(["response.content_part.added", "response.content_part.done"]),
    part: z.union([outputText, refusal]),
    ...inPart,
  }),
  z.strictObject({
    type: z.literal("response.output_text.delta"),
    delta: text,
    logprobs: z.array(json),
    ...inPart,
  }),
  z.strictObject({ type: z.literal("response.output_text.done"), text, logprobs: z.array(json), ...inPart }),
  z.strictObject({ type: z.literal("response.refusal.delta"), delta: text, ...inPart }),
  z.strictObject({ type: z.literal("response.refusal.done"), refusal: text, ...inPart }),
]);

/** The stream as it is on the wire, frame by frame: no SDK in between. */
async function frames(body: object): Promise<{ event: string; data: unknown }[]> {
  const answer = await client.responses.create({ ...body, stream: true } as never).asResponse();
  const wire = await answer.text();
  const blocks = wire.split("\n\n").filter((block) => block !== "" && !block.startsWith(":"));
  expect(blocks.pop()).toBe("data: [DONE]");
  return blocks.map((block) => {
    const [first = "", second = "", ...rest] = block.split("\n");
    expect(rest).toEqual([]);
    return { event: first.replace(/^event: /, ""), data: JSON.parse(second.replace(/^data: /, "")) };
  });
}

const own = {
  type: "function",
  name: "own",
  parameters: { type: "object" },
  strict: null,
  description: null,
};
const notesTool = {
  type: "mcp",
  server_label: "notes",
  require_approval: { never: { tool_names: ["echo", "fail", "throw"] } },
};

test("every event of a rich stream has exactly its fields, in place and in order", async () => {
  await world.connect("down", { target: "http://127.0.0.1:1/mcp" });
  script = [
    {
      text: ["Let ", "me see."],
      calls: ["echo", "fail", "throw"].map((name) => ({ name: `notes__${name}`, arguments: { text: "x" } })),
    },
    {
      refusal: "No.",
      calls: [
        { name: "own", arguments: { a: 1 } },
        { name: "notes__delete_note", arguments: { id: "1" } },
      ],
    },
  ];
  const body = {
    model: "m",
    input: "go",
    tools: [notesTool, { type: "mcp", server_label: "down" }, own],
    metadata: { a: "b" },
    instructions: "be brief",
    safety_identifier: "s",
    temperature: 0.5,
    max_output_tokens: 100,
    tool_choice: "auto",
  };
  const seen = await frames(body);
  for (const [at, frame] of seen.entries()) {
    const parsed = event.safeParse(frame.data);
    expect(parsed.error && { frame, issues: z.prettifyError(parsed.error) }).toBeUndefined();
    expect(frame.data).toMatchObject({ type: frame.event, sequence_number: at });
  }
  const types = new Set(seen.map((frame) => frame.event));
  for (const needed of [
    "mcp_list_tools.failed",
    "mcp_call.failed",
    "refusal.done",
    "function_call_arguments.done",
    "output_text.done",
  ]) {
    expect([...types]).toContain(`response.${needed}`);
  }
  const places: string[] = [];
  const misplaced = seen.filter(({ data }) => {
    const { type, output_index: index, item_id: itemId, item: shown } = placing.parse(data);
    if (type === "response.output_item.added") return index !== places.push(shown?.id ?? "") - 1;
    return index !== undefined && places[index] !== (itemId ?? shown?.id);
  });
  expect(misplaced).toEqual([]);
});

const placing = z.object({
  type: text,
  output_index: z.int().optional(),
  item_id: text.optional(),
  item: z.object({ id: text }).optional(),
});

test("one body has exactly the fields of the contract, whatever kind of turn it was", async () => {
  const bodies: [object, ScriptedTurn[]][] = [
    [{ tools: [notesTool] }, []],
    [{ tools: [notesTool], input: [call("notes", "echo", { text: "x" }), call("notes", "fail", {})] }, []],
    [{ tools: [notesTool], input: [call("notes", "add", { a: 1, b: 1 })], store: false }, []],
    [{ model: "m", input: "hi", tools: [own] }, [{ text: "hello" }]],
    [{ model: "m", input: "hi" }, [{ text: "cut", finish: "length" }]],
    [
      { model: "m", input: "hi", tools: [notesTool] },
      [{ calls: [{ name: "notes__echo", arguments: { text: "x" } }] }, { status: 400, body: {} }],
    ],
  ];
  for (const [body, turns] of bodies) {
    script = [...turns];
    const made = await client.responses.create(body as never).asResponse();
    const parsed = response.safeParse(await made.json());
    expect(parsed.error && z.prettifyError(parsed.error)).toBeUndefined();
    expect(made.headers.get("x-request-id")).toMatch(/^req_/);
  }
});

test("an approval is followed by its call under the same approval id", async () => {
  const asked = await client.responses.create({
    tools: [notesTool as never],
    input: [call("notes", "add", { a: 1, b: 1 })],
  });
  const [request] = itemsOf(asked, "mcp_approval_request");
  const input = [
    { type: "mcp_approval_response" as const, approval_request_id: request?.id ?? "", approve: true },
  ];
  const { response: done } = await streamed(client, { previous_response_id: asked.id, input });
  expect(itemsOf(done, "mcp_call")[0]).toMatchObject({ approval_request_id: request?.id, output: "2" });
});
