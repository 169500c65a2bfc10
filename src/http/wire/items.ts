import * as z from "zod";
import { parseArguments } from "../../core/calls.ts";
import { type Fault, invalid } from "../../core/errors.ts";
import type { CallError, InputItem, Item, ItemStatus, Part } from "../../core/items.ts";
import { isJsonObject, type Json, type JsonObject } from "../../core/json.ts";
import { label, name } from "./common.ts";
import { collect, MAX_FAULTS, refusal } from "./faults.ts";
import { arrayOf, jsonObject, readAt, schemaOf, type Shape, typed } from "./shape.ts";

const text = z.string();
const id = z
  .string()
  .max(256)
  .nullish()
  .transform((value) => value ?? "");
const json: Shape<Json> = z.custom<Json>((value) => value !== undefined);
/** Taken as it is: a look at every log probability of a long text would take longer than all the rest. */
const jsonArray: Shape<Json[]> = z.custom<Json[]>(Array.isArray, "must be an array");

const parts: Record<string, Shape<Part>> = {
  input_text: z.object({ text }).transform((part): Part => ({ kind: "input_text", text: part.text })),
  output_text: z
    .object({ text, annotations: jsonArray.nullish(), logprobs: jsonArray.nullish() })
    .transform((part): Part => ({
      kind: "output_text",
      text: part.text,
      annotations: part.annotations ?? [],
      logprobs: part.logprobs ?? [],
    })),
  refusal: z
    .object({ refusal: text })
    .transform((part): Part => ({ kind: "refusal", refusal: part.refusal })),
  input_image: z
    .object({ image_url: text.nullish(), file_id: text.nullish(), detail: text.nullish() })
    .transform((part): Part => ({
      kind: "image",
      url: part.image_url ?? null,
      fileId: part.file_id ?? null,
      detail: part.detail ?? null,
    })),
  input_file: z
    .object({
      filename: text.nullish(),
      file_data: text.nullish(),
      file_url: text.nullish(),
      file_id: text.nullish(),
    })
    .transform((part): Part => ({
      kind: "file",
      name: part.filename ?? null,
      data: part.file_data ?? null,
      url: part.file_url ?? null,
      fileId: part.file_id ?? null,
    })),
  input_audio: z
    .object({ input_audio: z.object({ data: text, format: text }) })
    .transform((part): Part => ({ kind: "audio", ...part.input_audio })),
};

function readParts(value: unknown, param: string): Part[] {
  if (!Array.isArray(value)) throw invalid({ param, message: "must be a string or an array of parts" });
  if (value.length > MAX_PARTS) throw invalid({ param, message: `must have at most ${MAX_PARTS} parts` });
  return value.map((part: unknown, at): Part => {
    const where = `${param}[${at}]`;
    if (!isJsonObject(part)) throw invalid({ param: where, message: "must be an object" });
    const { type } = part;
    if (typeof type !== "string") throw invalid({ param: `${where}.type`, message: "must be a string" });
    // Replayed history of other makers writes plain `text`.
    const shape = ownOf(parts, type === "text" ? "input_text" : type);
    return shape ? readAt(shape, part, where) : { kind: "other", body: part };
  });
}

const MAX_PARTS = 1_000;

const STATUSES = ["in_progress", "completed", "incomplete", "failed"] as const;
const status: Shape<ItemStatus> = z
  .enum(STATUSES)
  .nullish()
  .transform((value) => value ?? "completed");

const message = z.object({
  id,
  role: z.enum(["user", "assistant", "system", "developer"]),
  status,
  phase: text.max(64).nullish(),
});

function readMessage(value: JsonObject, param: string): Item {
  const { id: own, role, status: state, phase } = readAt(message, value, param);
  const { content } = value;
  const written =
    typeof content === "string" ? [writtenText(role, content)] : readParts(content, `${param}.content`);
  const said = role === "assistant" && phase ? { phase } : {};
  return { kind: "message", id: own, role, status: state, content: written, ...said };
}

function writtenText(role: string, content: string): Part {
  return role === "assistant"
    ? { kind: "output_text", text: content, annotations: [], logprobs: [] }
    : { kind: "input_text", text: content };
}

const functionCall = z
  .object({ id, call_id: name, name, arguments: text, status })
  .transform(({ call_id: callId, ...rest }): Item => ({ kind: "function_call", callId, ...rest }));

const functionOutput = z.object({ id, call_id: name, status });

function readFunctionOutput(value: JsonObject, param: string): Item {
  const { id: own, call_id: callId, status: state } = readAt(functionOutput, value, param);
  const { output } = value;
  const result = typeof output === "string" ? output : readParts(output, `${param}.output`);
  return { kind: "function_call_output", id: own, callId, status: state, output: result };
}

const listedTool = z.object({
  name: text,
  description: text.nullish(),
  input_schema: jsonObject.nullish(),
  annotations: jsonObject.nullish(),
});
/** As many as a server may list. */
const MAX_LISTED = 2_000;

const toolList = z
  .object({
    id,
    server_label: text.max(128),
    tools: arrayOf(listedTool, MAX_LISTED),
    error: json.nullish(),
  })
  .transform((list): Item => ({
    kind: "mcp_list_tools",
    id: list.id,
    label: list.server_label,
    tools: list.tools.map((tool) => ({
      name: tool.name,
      description: tool.description ?? "",
      inputSchema: tool.input_schema ?? {},
      annotations: tool.annotations ?? {},
    })),
    error: list.error === null || list.error === undefined ? null : errorText(list.error),
  }));

const approvalRequest = z
  .object({ id, server_label: text.max(128), name: text.max(256), arguments: text })
  .transform(({ server_label, ...rest }): Item => ({
    kind: "mcp_approval_request",
    label: server_label,
    ...rest,
  }));

const approvalResponse = z
  .object({ id, approval_request_id: name, approve: z.boolean(), reason: text.max(4_000).nullish() })
  .transform((item): Item => ({
    kind: "mcp_approval_response",
    id: item.id,
    requestId: item.approval_request_id,
    approve: item.approve,
    reason: item.reason ?? null,
  }));

const toolCall = z
  .object({
    id,
    server_label: label,
    name,
    arguments: text,
    status: z
      .enum([...STATUSES, "calling"])
      .nullish()
      .transform((value) => value ?? "completed"),
    output: text.nullish(),
    error: json.nullish(),
    approval_request_id: text.max(256).nullish(),
  })
  .superRefine((call, context) => {
    if (call.status !== "calling" || parseArguments(call.arguments) !== null) return;
    context.addIssue({ code: "custom", path: ["arguments"], message: "must be the text of a JSON object" });
  })
  .transform((call): Item => ({
    kind: "mcp_call",
    id: call.id,
    label: call.server_label,
    name: call.name,
    arguments: call.arguments,
    status: call.status,
    output: call.output ?? null,
    error: call.error === null || call.error === undefined ? null : readCallError(call.error),
    approvalRequestId: call.approval_request_id ?? null,
  }));

const reference = z.object({ id: name }).transform((item): InputItem => ({ kind: "reference", id: item.id }));

const shapes: Record<string, Shape<InputItem>> = {
  function_call: functionCall,
  mcp_list_tools: toolList,
  mcp_approval_request: approvalRequest,
  mcp_approval_response: approvalResponse,
  mcp_call: toolCall,
  item_reference: reference,
};

/**
 * Reads `input`: a text, or items in every form that clients send and replay. Items of kinds that the broker does not
 * read are kept as they are. Throws `invalid` with the faults of its items.
 */
export function readInput(value: unknown, param: string): InputItem[] {
  if (value === null || value === undefined) return [];
  if (typeof value === "string") {
    const content: Part[] = [{ kind: "input_text", text: value }];
    return [{ kind: "message", id: "", role: "user", status: "completed", content }];
  }
  if (!Array.isArray(value)) throw invalid({ param, message: "must be a string or an array of items" });
  if (value.length > MAX_ITEMS) throw invalid({ param, message: `must have at most ${MAX_ITEMS} items` });
  const faults: Fault[] = [];
  const items: InputItem[] = [];
  for (const [at, item] of value.entries()) {
    if (faults.length >= MAX_FAULTS) break;
    collect(faults, () => items.push(readItem(item, `${param}[${at}]`)));
  }
  if (faults.length > 0) throw refusal(faults);
  return items;
}

const MAX_ITEMS = 2_000;

const itemsOf = z.union([text, z.array(jsonObject)]);

/** `input` as OpenAPI says it: what callers write themselves in full, and other items, which are replayed, as objects. */
export const inputSchema: JsonObject = {
  anyOf: [
    { type: "string" },
    {
      type: "array",
      maxItems: MAX_ITEMS,
      items: {
        anyOf: [
          typed("message", schemaOf(message.extend({ content: itemsOf }))),
          {
            ...typed("mcp_call", schemaOf(toolCall)),
            description: "Made when status is calling and no model is named; else history.",
            examples: [
              {
                type: "mcp_call",
                status: "calling",
                id: "call_1",
                server_label: "sample",
                name: "echo",
                arguments: '{"message":"hello"}',
              },
            ],
          },
          typed("mcp_approval_response", schemaOf(approvalResponse)),
          typed("function_call_output", schemaOf(functionOutput.extend({ output: itemsOf }))),
          typed("item_reference", schemaOf(reference)),
          { type: "object", required: ["type"], properties: { type: { type: "string" } } },
        ],
      },
    },
  ],
};

function readItem(value: unknown, param: string): InputItem {
  if (!isJsonObject(value)) throw invalid({ param, message: "must be an object" });
  const type = value["type"] ?? ("role" in value ? "message" : "item_reference");
  if (typeof type !== "string") throw invalid({ param: `${param}.type`, message: "must be a string" });
  if (type === "message") return readMessage(value, param);
  if (type === "function_call_output") return readFunctionOutput(value, param);
  const shape = ownOf(shapes, type);
  if (shape) return readAt(shape, value, param);
  const own = value["id"];
  if (typeof own !== "string") return { kind: "other", id: "", body: value };
  return { kind: "other", id: readAt(id, own, `${param}.id`), body: value };
}

/** Types come from strangers, and `constructor` is in every object. */
function ownOf<T>(record: Record<string, T>, type: string): T | undefined {
  return Object.hasOwn(record, type) ? record[type] : undefined;
}

/** Old peers replay a plain string, Foundry an open record (responses-wire 4.1): both are history for the model. */
function readCallError(value: Json): CallError {
  const { type, code, message: said, content } = isJsonObject(value) ? value : {};
  const number = typeof code === "number" ? code : 0;
  if (type === "mcp_tool_execution_error" && Array.isArray(content)) return { kind: "execution", content };
  const kind = type === "http_error" ? "http" : "protocol";
  return { kind, code: number, message: typeof said === "string" ? said : errorText(value) };
}

function errorText(value: Json): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
