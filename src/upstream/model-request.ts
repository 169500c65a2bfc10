import type OpenAI from "openai";
import { BrokerError } from "../core/errors.ts";
import type { Json, JsonObject } from "../core/json.ts";
import type { ModelRequest, ModelTool, ModelToolChoice } from "../core/ports.ts";
import type { Sampling } from "../core/request.ts";
import { chatMessages } from "./model-messages.ts";

/**
 * One turn as a streamed request of Chat Completions. Fields that the caller left open are not sent, because upstreams
 * refuse what they do not know.
 *
 * The limit on output is sent as `max_completion_tokens`. There is no second try with the older `max_tokens`: upstreams
 * that know only that name do not say so in a way that can be told from other faults.
 *
 * Throws `invalid` and `not_supported` as `chatMessages` does, and `not_supported` for a text format that this API lacks.
 */
export function chatRequest(request: ModelRequest): OpenAI.ChatCompletionCreateParamsStreaming {
  const body = {
    model: request.model,
    messages: chatMessages(request.instructions, request.history),
    ...toolFields(request),
    ...samplingFields(request.sampling),
    ...(request.user !== null && { user: request.user }),
    stream: true,
    stream_options: { include_usage: true },
  };
  // The seam: efforts, tiers and the like are open words here, which the upstream judges and not our types.
  return body as OpenAI.ChatCompletionCreateParamsStreaming;
}

/** None of these may be sent without tools. `auto` and parallel calls are what upstreams do anyway. */
function toolFields({ tools, toolChoice, parallelToolCalls }: ModelRequest): object {
  if (tools.length === 0) return {};
  return {
    tools: tools.map(chatTool),
    ...(toolChoice !== "auto" && { tool_choice: chatToolChoice(toolChoice) }),
    ...(!parallelToolCalls && { parallel_tool_calls: false }),
  };
}

function chatTool({ name, description, parameters, strict }: ModelTool): object {
  const given = { description, parameters, strict };
  return { type: "function", function: { name, ...withoutNulls(given) } };
}

function chatToolChoice(choice: ModelToolChoice): Json {
  return typeof choice === "string" ? choice : { type: "function", function: { name: choice.name } };
}

/** `top_logprobs` has no use here: of this API log probabilities are not read. */
function samplingFields(sampling: Sampling): JsonObject {
  return withoutNulls({
    temperature: sampling.temperature,
    top_p: sampling.topP,
    max_completion_tokens: sampling.maxOutputTokens,
    frequency_penalty: sampling.frequencyPenalty,
    presence_penalty: sampling.presencePenalty,
    reasoning_effort: sampling.reasoning?.effort ?? null,
    response_format: responseFormat(sampling.textFormat),
    verbosity: sampling.verbosity,
    prompt_cache_key: sampling.promptCacheKey,
    service_tier: sampling.serviceTier,
  });
}

/** `text.format` of the Responses API is flat; Chat Completions puts a schema's fields into an object of their own. */
function responseFormat(format: JsonObject | null): Json {
  if (format === null) return null;
  const { type, ...fields } = format;
  switch (type) {
    case "text":
      return null;
    case "json_object":
      return { type };
    case "json_schema":
      return { type, json_schema: withoutNulls(fields) };
    default:
      throw new BrokerError("not_supported", {
        what: `the format ${JSON.stringify(type)} with this model upstream`,
        param: "text.format",
      });
  }
}

function withoutNulls(fields: Record<string, Json>): JsonObject {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null));
}
