import type OpenAI from "openai";
import type { JsonObject } from "../core/json.ts";
import type { ModelRequest, ModelTool, ModelToolChoice } from "../core/ports.ts";
import type { Sampling } from "../core/request.ts";
import { responsesInput } from "./model-responses-input.ts";

/**
 * One turn as a streamed request of the Responses API. Fields that the caller left open are not sent, because upstreams
 * refuse what they do not know. `origin`: the model that it is for, whose own reasoning goes back to it.
 *
 * Throws `invalid` and `not_supported` as `responsesInput` does.
 */
export function responsesRequest(
  request: ModelRequest,
  origin: string,
): OpenAI.Responses.ResponseCreateParamsStreaming {
  const input = responsesInput(request.history, origin);
  const include = [
    ...(isReasoned(request, input) ? ["reasoning.encrypted_content"] : []),
    ...(request.logprobs === true ? ["message.output_text.logprobs"] : []),
  ];
  const body = {
    model: request.model,
    ...(request.instructions !== null && { instructions: request.instructions }),
    input,
    ...toolFields(request),
    ...samplingFields(request.sampling),
    ...(request.user !== null && { user: request.user }),
    ...(include.length > 0 && { include }),
    store: false,
    stream: true,
  };
  // The seam: efforts, tiers, items of kinds to come are open words here, which the upstream judges and not our types.
  return body as unknown as OpenAI.Responses.ResponseCreateParamsStreaming;
}

/** None of these may be sent without tools. `auto` and parallel calls are what upstreams do anyway. */
function toolFields({ tools, toolChoice, parallelToolCalls }: ModelRequest): object {
  if (tools.length === 0) return {};
  return {
    tools: tools.map(functionTool),
    ...(toolChoice !== "auto" && { tool_choice: choiceOf(toolChoice) }),
    ...(!parallelToolCalls && { parallel_tool_calls: false }),
  };
}

/** `strict` is true where it is left out, and then schemas are refused that are fine: those of MCP servers, say. */
function functionTool({ name, description, parameters, strict }: ModelTool): object {
  const told = description === null ? {} : { description };
  return { type: "function", name, ...told, parameters, strict: strict ?? false };
}

function choiceOf(choice: ModelToolChoice): object | string {
  return typeof choice === "string" ? choice : { type: "function", name: choice.name };
}

function samplingFields(sampling: Sampling): JsonObject {
  const text = withoutNulls({ format: sampling.textFormat, verbosity: sampling.verbosity });
  const reasoning = sampling.reasoning && withoutNulls(sampling.reasoning);
  return withoutNulls({
    temperature: sampling.temperature,
    top_p: sampling.topP,
    max_output_tokens: sampling.maxOutputTokens,
    frequency_penalty: sampling.frequencyPenalty,
    presence_penalty: sampling.presencePenalty,
    reasoning,
    text: Object.keys(text).length > 0 ? text : null,
    top_logprobs: sampling.topLogprobs,
    prompt_cache_key: sampling.promptCacheKey,
    service_tier: sampling.serviceTier,
  });
}

/**
 * Whether the model's reasoning is asked for in its encrypted form, without which it is lost after every round of tools.
 * Models that do not reason refuse to be asked, so the caller's word, a history with reasoning in it, or the name decides.
 */
function isReasoned({ model, sampling, encryptedReasoning }: ModelRequest, input: JsonObject[]): boolean {
  if (encryptedReasoning === true || sampling.reasoning !== null) return true;
  return input.some(({ type }) => type === "reasoning") || REASONING_MODEL.test(model);
}

/** OpenAI's, under the names that it and Azure's catalogue have for them, and behind a maker's prefix. */
const REASONING_MODEL = /(?:^|[/:])(?:o[1-9]|gpt-(?:[5-9]|oss)|codex)(?!.*chat)/i;

function withoutNulls(fields: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null));
}
