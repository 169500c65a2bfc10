import * as z from "zod";
import { BrokerError, invalid, type Fault } from "../../core/errors.ts";
import { isJsonObject, type Json, type JsonObject } from "../../core/json.ts";
import type { AgentDefinition } from "../../core/recover.ts";
import type { Sampling, TurnRequest } from "../../core/request.ts";
import { metadata, name } from "./common.ts";
import { collect, refusal } from "./faults.ts";
import { checkInclude, INCLUDABLE } from "./include.ts";
import { inputSchema, readInput } from "./items.ts";
import { arrayOf, jsonObject, read, recordOf, type Shape, schemaOf } from "./shape.ts";
import { readToolChoice, readTools, toolsSchema } from "./tools.ts";

const text = z.string();
const int = z.int();

const samplingFields = {
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  top_logprobs: int.min(0).max(20).nullish(),
  max_output_tokens: int.min(1).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  reasoning: z.object({ effort: text.nullish(), summary: text.nullish() }).nullish(),
  text: z.object({ format: jsonObject.nullish(), verbosity: text.nullish() }).nullish(),
  prompt_cache_key: text.nullish(),
  service_tier: text.nullish(),
};

/** More than there are to ask for. */
const MAX_INCLUDES = 100;

const agentReference = z.object({ name, version: z.union([text.max(64), int]).nullish() });

const fields = z.object({
  model: name.nullish(),
  instructions: text.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  max_tool_calls: int.min(1).nullish(),
  previous_response_id: name.nullish(),
  conversation: z.union([name, z.object({ id: name })]).nullish(),
  store: z.boolean().nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({}).nullish(),
  metadata: metadata.nullish(),
  safety_identifier: text.nullish(),
  user: text.nullish(),
  agent_reference: agentReference.nullish(),
  agent: agentReference.nullish(),
  structured_inputs: jsonObject.nullish(),
  include: arrayOf(text, MAX_INCLUDES).nullish(),
  background: z.boolean().nullish(),
  ...samplingFields,
});

type Fields = z.infer<typeof fields>;

/** What cannot be done yet is refused, not passed over: the caller would wait for it. */
const UNSUPPORTED = ["prompt", "image", "moderation", "context_management"] as const;

/** What `POST …/responses` is read into. */
export type ResponsesBody = { request: TurnRequest; stream: boolean; background: boolean };

/**
 * Reads the body of `POST …/responses`. Unknown fields are ignored. Throws `invalid` with its faults, each under its
 * own name, and `not_supported`.
 */
export function readResponsesBody(value: unknown): ResponsesBody {
  if (!isJsonObject(value)) throw invalid({ param: "", message: "The body must be a JSON object." });
  const unsupported = UNSUPPORTED.find((name) => value[name] !== null && value[name] !== undefined);
  if (unsupported)
    throw new BrokerError("not_supported", { what: `The field ${unsupported}`, param: unsupported });
  const faults: Fault[] = [];
  const body = collect(faults, () => read(fields, value));
  const input = collect(faults, () => readInput(value["input"], "input"));
  const tools = collect(faults, () => readTools(value["tools"], "tools"));
  const toolChoice = collect(faults, () => readToolChoice(value["tool_choice"], "tool_choice"));
  collect(faults, () => checkInclude(value["include"]));
  if (faults.length > 0 || !body || !input || tools === undefined || toolChoice === undefined)
    throw refusal(faults);
  const background = body.background ?? false;
  // OpenAI's rule: nothing would be left to ask for.
  if (background && body.store === false)
    throw invalid({ param: "background", message: "needs store to be true" });
  const conversation =
    typeof body.conversation === "object" ? (body.conversation?.id ?? null) : (body.conversation ?? null);
  if (conversation !== null && body.previous_response_id) {
    const message = "cannot stand beside previous_response_id: a conversation goes on from its last response";
    throw invalid({ param: "conversation", message });
  }
  const agent = body.agent_reference ?? body.agent ?? null;
  return {
    stream: body.stream ?? false,
    background,
    request: {
      // We answer `none` where there was no model, so it may come back.
      model: body.model === "none" ? null : (body.model ?? null),
      agent: agent && { name: agent.name, version: versionText(agent.version) },
      input,
      instructions: body.instructions ?? null,
      tools,
      toolChoice,
      parallelToolCalls: body.parallel_tool_calls ?? null,
      maxToolCalls: body.max_tool_calls ?? null,
      previousResponseId: body.previous_response_id ?? null,
      conversation,
      store: body.store ?? true,
      sampling: readSampling(body),
      structuredInputs: body.structured_inputs ?? {},
      metadata: body.metadata ?? {},
      include: body.include ?? [],
      safetyIdentifier: body.safety_identifier ?? null,
      user: body.user ?? null,
    },
  };
}

function versionText(version: string | number | null | undefined): string | null {
  return version === null || version === undefined || version === "" ? null : String(version);
}

function readSampling(body: Pick<Fields, keyof typeof samplingFields>): Sampling {
  const format = body.text?.format ?? null;
  return {
    temperature: body.temperature ?? null,
    topP: body.top_p ?? null,
    topLogprobs: body.top_logprobs ?? null,
    maxOutputTokens: body.max_output_tokens ?? null,
    frequencyPenalty: body.frequency_penalty ?? null,
    presencePenalty: body.presence_penalty ?? null,
    reasoning: body.reasoning
      ? { effort: body.reasoning.effort ?? null, summary: body.reasoning.summary ?? null }
      : null,
    textFormat: format?.["type"] === "text" ? null : format,
    verbosity: body.text?.verbosity ?? null,
    promptCacheKey: body.prompt_cache_key ?? null,
    serviceTier: body.service_tier ?? null,
  };
}

const structuredInput = z.object({ default_value: z.unknown().optional(), required: z.boolean().nullish() });

const definition = z.object({
  kind: z.literal("prompt"),
  model: name,
  instructions: text.nullish(),
  structured_inputs: recordOf(structuredInput, { pairs: 1_000 }).nullish(),
  ...samplingFields,
});

/** Reads an agent's `definition` (Foundry's `PromptAgentDefinition`). Throws `invalid` with params inside it. */
export function readAgentDefinition(value: JsonObject): AgentDefinition {
  const faults: Fault[] = [];
  const body = collect(faults, () => read(definition, value));
  const tools = collect(faults, () => readTools(value["tools"], "tools"));
  const toolChoice = collect(faults, () => readToolChoice(value["tool_choice"], "tool_choice"));
  if (!body || tools === undefined || toolChoice === undefined) throw refusal(faults);
  const inputs = Object.entries(body.structured_inputs ?? {}).map(([name, input]) => {
    // From a JSON body, hence JSON.
    const given = (input.default_value ?? null) as Json;
    return [name, { default: given, required: input.required ?? false }] as const;
  });
  return {
    model: body.model,
    instructions: body.instructions ?? null,
    tools: tools ?? [],
    toolChoice,
    sampling: readSampling(body),
    structuredInputs: Object.fromEntries(inputs),
  };
}

/** For OpenAPI: the fields with a plain shape, and the forms of those that are read by hand. */
export const responsesBodySchema: Shape<unknown> = z.unknown().meta({
  ...schemaOf(fields),
  properties: {
    ...propertiesOf(schemaOf(fields)),
    input: inputSchema,
    tools: toolsSchema,
    include: { type: "array", items: { enum: [...INCLUDABLE] } },
    tool_choice: { anyOf: [{ enum: ["auto", "none", "required"] }, { type: "object" }] },
  },
});

function propertiesOf(schema: JsonObject): JsonObject {
  return isJsonObject(schema["properties"]) ? schema["properties"] : {};
}
