import type { FunctionCallOutput, Item, Message, OtherItem } from "../core/items.ts";
import type { Json, JsonObject } from "../core/json.ts";
import type { ModelExchange } from "../core/ports.ts";
import { createCallIds, NO_OUTPUT, orphan, outputsByCall } from "./model-history.ts";
import { inputPart, outputPart } from "./model-responses-parts.ts";

/** OpenAI takes no longer ids of calls here. */
const MAX_ID_CHARS = 64;

/**
 * A history as input of the Responses API. Calls that follow each other were made in parallel and are followed by their
 * results; ids of ours mean nothing to the upstream and stay here. Reasoning goes back to `origin` alone, which made it, and
 * only where what it led to comes behind it: upstreams refuse it otherwise. Items that the broker does not read go as they are.
 *
 * Throws `invalid` for an output without its call, and `not_supported` for content that cannot be said in this API.
 */
export function responsesInput(history: (Item | ModelExchange)[], origin: string): JsonObject[] {
  const input: JsonObject[] = [];
  const outputs = outputsByCall(history);
  const answered = new Set<FunctionCallOutput>();
  const ids = createCallIds({ maxChars: MAX_ID_CHARS });
  const results: JsonObject[] = [];
  // Calls stand behind all reasoning of their round in a response, and go back as they were made.
  const waiting: OtherItem[] = [];
  let calls = 0;

  const endCalls = () => {
    input.push(...results.splice(0));
  };
  const addOther = (item: OtherItem) => {
    endCalls();
    input.push(...otherOf(item, origin));
  };
  const endRound = () => {
    for (const item of waiting.splice(0)) addOther(item);
    calls = 0;
  };
  const addThought = (item: OtherItem) => {
    if (item.after === 0) endRound();
    if ((item.after ?? 0) > calls) waiting.push(item);
    else addOther(item);
  };
  const addCall = (call: { callId: string; name: string; arguments: string }, output: Json) => {
    const call_id = ids.next(call.callId);
    const args = call.arguments.trim() || "{}";
    input.push({ type: "function_call", call_id, name: call.name, arguments: args });
    results.push({ type: "function_call_output", call_id, output });
    calls++;
    const due = waiting.filter(({ after = 0 }) => after <= calls);
    for (const item of waiting.splice(0, due.length)) addOther(item);
  };

  for (const item of history) {
    switch (item.kind) {
      case "message":
        if (item.role !== "assistant") endRound();
        endCalls();
        if (item.content.length > 0) input.push(messageOf(item));
        break;
      case "call":
        addCall(item, item.output);
        break;
      case "function_call": {
        const output = outputs.get(item.callId)?.shift();
        if (output) answered.add(output);
        addCall(item, output ? outputOf(output) : NO_OUTPUT);
        break;
      }
      case "function_call_output":
        if (!answered.has(item)) throw orphan(item);
        // What comes after an answer was said knowing it.
        endCalls();
        break;
      case "other":
        addThought(item);
        break;
      case "mcp_list_tools":
      case "mcp_approval_request":
      case "mcp_approval_response":
      case "mcp_call":
      case "oauth_consent_request":
      case "consent_notice":
        break;
    }
  }
  endRound();
  endCalls();
  return withoutIdleThoughts(input);
}

function messageOf({ role, content, phase }: Message): JsonObject {
  const part = role === "assistant" ? outputPart : inputPart;
  return { type: "message", role, content: content.map(part), ...(phase !== undefined && { phase }) };
}

function outputOf({ output }: FunctionCallOutput): Json {
  return typeof output === "string" ? output : output.map(inputPart);
}

/** Reasoning that came without its encrypted form or its text cannot be read back by anybody, and is refused. */
function otherOf({ body, origin: made }: OtherItem, origin: string): JsonObject[] {
  if (body["type"] !== "reasoning") return [body];
  const { encrypted_content: sealed, content } = body;
  const isWhole =
    (typeof sealed === "string" && sealed !== "") || (Array.isArray(content) && content.length > 0);
  if (!isWhole || (made !== undefined && made !== origin)) return [];
  const { status: _, ...said } = body;
  return [{ ...said, summary: Array.isArray(body["summary"]) ? body["summary"] : [] }];
}

/** Reasoning stays where what comes behind it is the model's own doing. */
function withoutIdleThoughts(input: JsonObject[]): JsonObject[] {
  let leadsOn = false;
  return input
    .toReversed()
    .filter((item) => {
      if (item["type"] === "reasoning") return leadsOn;
      const isGiven = item["type"] === "function_call_output";
      leadsOn = !isGiven && (item["type"] !== "message" || item["role"] === "assistant");
      return true;
    })
    .toReversed();
}
