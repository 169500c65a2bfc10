import type { FunctionCall, FunctionCallOutput, Item, Message, Part } from "../../src/core/items.ts";
import type { ModelExchange, ModelRequest } from "../../src/core/ports.ts";
import type { Sampling } from "../../src/core/request.ts";

export const NO_SAMPLING: Sampling = {
  temperature: null,
  topP: null,
  topLogprobs: null,
  maxOutputTokens: null,
  frequencyPenalty: null,
  presencePenalty: null,
  reasoning: null,
  textFormat: null,
  verbosity: null,
  promptCacheKey: null,
  serviceTier: null,
};

/** A turn that asks for nothing but what is given. */
export function modelRequest(given: Partial<ModelRequest> = {}): ModelRequest {
  return {
    model: "m",
    instructions: null,
    history: [message("user", "hi")],
    tools: [],
    toolChoice: "auto",
    parallelToolCalls: true,
    sampling: NO_SAMPLING,
    user: null,
    ...given,
  };
}

export function message(role: Message["role"], content: string | Part[]): Message {
  const parts = typeof content === "string" ? [textPart(role, content)] : content;
  return { kind: "message", id: "msg_1", role, status: "completed", content: parts };
}

function textPart(role: Message["role"], text: string): Part {
  if (role !== "assistant") return { kind: "input_text", text };
  return { kind: "output_text", text, annotations: [], logprobs: [] };
}

export function exchange(callId: string, output = `result of ${callId}`): ModelExchange {
  return { kind: "call", callId, name: "echo", arguments: '{"a":1}', output };
}

export function functionCall(callId: string): FunctionCall {
  return { kind: "function_call", id: "fc_1", callId, name: "ask", arguments: "{}", status: "completed" };
}

export function functionOutput(
  callId: string,
  output: string | Part[] = `answer to ${callId}`,
): FunctionCallOutput {
  return { kind: "function_call_output", id: "fco_1", callId, output, status: "completed" };
}

export const reasoning: Item = { kind: "other", id: "rs_1", body: { type: "reasoning", summary: [] } };
