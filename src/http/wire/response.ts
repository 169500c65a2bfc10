import * as z from "zod";
import type { Item } from "../../core/items.ts";
import type { Json, JsonObject } from "../../core/json.ts";
import type { Response, Sampling, Tool, ToolChoice, Usage } from "../../core/request.ts";
import { writeItemWith } from "./write-items.ts";
import { writeApprovalRule, writeToolFilter } from "./policy.ts";
import { jsonObject } from "./shape.ts";

const count = z.number().meta({ type: "integer" });
const object = jsonObject.nullable();

/** What `writeResponse` makes, for OpenAPI. */
export const responseBody = z.object({
  id: z.string(),
  object: z.literal("response"),
  created_at: count,
  completed_at: count.nullable(),
  status: z.enum(["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]),
  background: z.boolean(),
  error: z.object({ type: z.string(), code: z.string(), message: z.string(), param: z.null() }).nullable(),
  incomplete_details: z.object({ reason: z.string() }).nullable(),
  instructions: z.string().nullable(),
  max_output_tokens: count.nullable(),
  max_tool_calls: count.nullable(),
  model: z.string(),
  output: z.array(z.looseObject({ type: z.string(), id: z.string() })),
  parallel_tool_calls: z.boolean(),
  previous_response_id: z.string().nullable(),
  conversation: z.object({ id: z.string() }).nullable(),
  prompt_cache_key: z.string().nullable(),
  reasoning: jsonObject,
  safety_identifier: z.string().nullable(),
  service_tier: z.string(),
  store: z.boolean(),
  temperature: z.number(),
  text: jsonObject,
  tool_choice: z.union([z.string(), jsonObject]),
  tools: z.array(jsonObject),
  top_logprobs: count,
  top_p: z.number(),
  truncation: z.literal("disabled"),
  presence_penalty: z.number(),
  frequency_penalty: z.number(),
  usage: object,
  user: z.string().nullable(),
  metadata: jsonObject,
  agent_reference: object,
  agent: object,
});

/** A response as the wire says it: the superset of responses-wire 10, which every known client accepts. */
export function writeResponse(
  response: Response,
  output: Item[],
  include: readonly string[] = [],
): JsonObject {
  const { sampling, agent } = response;
  return {
    id: response.id,
    object: "response",
    created_at: seconds(response.createdAt),
    completed_at: response.completedAt === null ? null : seconds(response.completedAt),
    status: response.status,
    background: response.background ?? false,
    error: response.error && writeError(response.error),
    incomplete_details: response.incompleteReason === null ? null : { reason: response.incompleteReason },
    instructions: response.instructions,
    max_output_tokens: sampling.maxOutputTokens,
    max_tool_calls: response.maxToolCalls,
    model: response.model ?? "none",
    output: output.map((item) => writeItemWith(item, include)),
    parallel_tool_calls: response.parallelToolCalls,
    previous_response_id: response.previousResponseId,
    conversation: response.conversation ? { id: response.conversation } : null,
    prompt_cache_key: sampling.promptCacheKey,
    reasoning: { effort: sampling.reasoning?.effort ?? null, summary: sampling.reasoning?.summary ?? null },
    safety_identifier: response.safetyIdentifier,
    service_tier: sampling.serviceTier ?? "default",
    store: response.store,
    temperature: sampling.temperature ?? 1,
    text: writeText(sampling),
    tool_choice: writeToolChoice(response.toolChoice),
    tools: response.tools.map(writeTool),
    top_logprobs: sampling.topLogprobs ?? 0,
    top_p: sampling.topP ?? 1,
    truncation: "disabled",
    presence_penalty: sampling.presencePenalty ?? 0,
    frequency_penalty: sampling.frequencyPenalty ?? 0,
    usage:
      response.status === "in_progress" || response.status === "queued" ? null : writeUsage(response.usage),
    user: response.user,
    metadata: response.metadata,
    agent_reference: agent && { type: "agent_reference", name: agent.name, version: String(agent.version) },
    agent: agent && { type: "agent_id", name: agent.name, version: String(agent.version) },
  };
}

export function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}

/** With a type, as in streams: the AI SDK takes a body whose error has none for no JSON at all. */
function writeError({ code, message }: NonNullable<Response["error"]>): JsonObject {
  return { type: "server_error", code, message, param: null };
}

function writeText({ textFormat, verbosity }: Sampling): JsonObject {
  return { format: textFormat ?? { type: "text" }, ...(verbosity !== null && { verbosity }) };
}

export function writeUsage(usage: Usage): JsonObject {
  return {
    input_tokens: usage.inputTokens,
    input_tokens_details: { cached_tokens: usage.cachedTokens },
    output_tokens: usage.outputTokens,
    output_tokens_details: { reasoning_tokens: usage.reasoningTokens },
    total_tokens: usage.inputTokens + usage.outputTokens,
  };
}

/** Header values and `authorization` never come back; that there were headers is not said either. */
function writeTool(tool: Tool): JsonObject {
  if (tool.kind === "function") {
    const { name, description, parameters, strict } = tool;
    return { type: "function", name, description, parameters, strict };
  }
  return {
    type: "mcp",
    server_label: tool.label,
    server_url: tool.serverUrl,
    server_description: tool.description,
    allowed_tools: tool.allowedTools && writeToolFilter(tool.allowedTools),
    require_approval: writeApprovalRule(tool.requireApproval),
    headers: null,
    ...(tool.connection !== null && { project_connection_id: tool.connection }),
  };
}

function writeToolChoice(choice: ToolChoice): Json {
  switch (choice.kind) {
    case "auto":
    case "none":
    case "required":
      return choice.kind;
    case "function":
      return { type: "function", name: choice.name };
    case "mcp":
      return { type: "mcp", server_label: choice.label, name: choice.name };
    case "allowed":
      return {
        type: "allowed_tools",
        mode: choice.mode,
        tools: choice.tools.map((tool) =>
          tool.kind === "mcp"
            ? { type: "mcp", server_label: tool.label, ...(tool.name !== null && { name: tool.name }) }
            : { type: "function", name: tool.name },
        ),
      };
  }
}
