import { isJsonObject, type Json, type JsonObject } from "../core/json.ts";
import type { ModelEvent } from "../core/ports.ts";
import { NO_USAGE, type Usage } from "../core/request.ts";
import { checkCallCount, modelFailed, saidFailure } from "./model-failures.ts";
import type { ModelReader } from "./model-call.ts";
import { readCount } from "./model-events.ts";

/** An output item of the upstream's, by its place: what was heard of it so far. */
type Slot = {
  kind: "message" | "function_call" | "reasoning";
  call: number;
  /** What the upstream calls the call. */
  given: string;
  heard: string;
  /** Of a message. */
  annotations: number;
  isDone: boolean;
};

/**
 * Reads the events of one streamed response. What an upstream streams in pieces is read in pieces; what it says only when an
 * item is done, or only in the response at the end, is read there. Items of kinds that nobody asked for are passed over.
 *
 * A call whose id is missing, or `isTaken` by another one of this conversation, gets one of ours. `origin` is written on
 * reasoning; `apiKey` is kept out of what is said of failures.
 */
export function createResponseReader(options: {
  origin: string;
  apiKey: string | null;
  isTaken: (callId: string) => boolean;
}): ModelReader {
  const { origin } = options;
  const slots = new Map<unknown, Slot>();
  const callIds = new Set<string>();
  let latest: Slot | null = null;
  let made = 0;
  let isAnswer = false;
  let reason: "stop" | "length" | "content_filter" | null = null;
  let usage: Usage = NO_USAGE;

  const callIdOf = (given: string): string => {
    let callId = given;
    while (callId === "" || callIds.has(callId) || options.isTaken(callId)) callId = `call_${++made}`;
    callIds.add(callId);
    return callId;
  };
  const begin = (place: unknown, item: JsonObject): ModelEvent[] => {
    const { type, id, name, call_id } = item;
    const known = slots.get(place);
    // Of two calls under one number nobody knows whose the arguments are.
    if (known && type === "function_call" && !isOf(known, item))
      throw modelFailed("numbered two items of its answer alike");
    if (known) return [];
    if (type !== "message" && type !== "function_call" && type !== "reasoning") return [];
    const call = callIds.size;
    latest = { kind: type, call, given: textOf(call_id), heard: "", annotations: 0, isDone: false };
    slots.set(place, latest);
    switch (type) {
      case "message":
        return [{ kind: "message_started", phase: textOf(item["phase"]) || null }];
      case "reasoning":
        return [{ kind: "reasoning_started", id: textOf(id) }];
      case "function_call":
        if (textOf(name) === "") throw modelFailed("called a tool without naming it");
        checkCallCount(call);
        return [{ kind: "call_started", call, callId: callIdOf(textOf(call_id)), name: textOf(name) }];
    }
  };
  /** A piece of text; a stream that never began the item begins it with its first piece. */
  const hear = (place: unknown, kind: "message" | "reasoning", delta: string): ModelEvent[] => {
    const begun = begin(place, { type: kind });
    const slot = slots.get(place);
    if (slot?.kind === kind) slot.heard += delta;
    return begun;
  };
  const hearAnnotation = (slot: Slot | undefined, annotation: unknown): ModelEvent[] => {
    if (slot?.kind !== "message" || slot !== latest || slot.isDone || !isJsonObject(annotation)) return [];
    slot.annotations++;
    return [{ kind: "annotation", annotation }];
  };
  const hearArguments = (slot: Slot | undefined, text: string): ModelEvent[] => {
    if (slot?.kind !== "function_call" || text === "") return [];
    slot.heard += text;
    return [{ kind: "call_arguments", call: slot.call, delta: text }];
  };
  const finish = (place: unknown, item: JsonObject): ModelEvent[] => {
    const events = begin(place, item);
    const slot = slots.get(place);
    if (!slot || slot.isDone) return events;
    slot.isDone = true;
    switch (slot.kind) {
      case "message":
        if (slot.heard === "") return [...events, ...saidIn(item)];
        // To an earlier message nothing can be added any more.
        return slot.annotations === 0 && slot === latest
          ? [...events, ...saidIn(item).filter(({ kind }) => kind === "annotation")]
          : events;
      case "function_call": {
        // Some models write nothing where a tool takes no arguments; what follows wants JSON.
        const text = textOf(item["arguments"]) || (item["status"] === "incomplete" ? "" : "{}");
        return slot.heard === "" ? [...events, ...hearArguments(slot, text)] : events;
      }
      case "reasoning":
        return [...events, { kind: "reasoning_ended", body: item, origin }];
    }
  };
  /** What was begun and not ended, of the items at the end, which an upstream may number in another way than it did before. */
  const makeWhole = (items: JsonObject[]): ModelEvent[] =>
    [...slots].flatMap(([place, slot]) => {
      if (slot.isDone) return [];
      const isCall = slot.kind === "function_call" && slot.given !== "";
      const item = isCall ? items.find((one) => isOf(slot, one)) : items[Number(place)];
      return item && isOf(slot, item) ? finish(place, item) : [];
    });
  const conclude = (response: JsonObject, ended: typeof reason): ModelEvent[] => {
    const output: unknown[] = Array.isArray(response["output"]) ? response["output"] : [];
    usage = readUsage(response["usage"]) ?? usage;
    const items = output.map((item) => (isJsonObject(item) ? item : {}));
    const isNews = slots.size === 0;
    const events = isNews ? items.flatMap((item, at) => finish(at, item)) : makeWhole(items);
    const isCutShort = [...slots.values()].some(
      ({ kind, heard, isDone }) => kind === "function_call" && heard === "" && !isDone,
    );
    if (isCutShort && ended === "stop") throw modelFailed("named a call and not its arguments");
    reason = ended;
    return events;
  };

  const read = (event: unknown): ModelEvent[] => {
    if (!isJsonObject(event)) return [];
    const { type, output_index: place = 0, item } = event;
    const delta = textOf(event["delta"]);
    const response = isJsonObject(event["response"]) ? event["response"] : {};
    isAnswer ||= typeof type === "string" && type.startsWith("response.");
    switch (type) {
      case "response.output_item.added":
        return isJsonObject(item) ? begin(place, item) : [];
      case "response.output_item.done":
        return isJsonObject(item) ? finish(place, item) : [];
      case "response.output_text.delta":
        return delta === ""
          ? []
          : [...hear(place, "message", delta), { kind: "text", delta, ...logprobsOf(event) }];
      case "response.output_text.annotation.added":
        return hearAnnotation(slots.get(place), event["annotation"]);
      case "response.refusal.delta":
        return delta === "" ? [] : [...hear(place, "message", delta), { kind: "refusal", delta }];
      case "response.function_call_arguments.delta":
        return hearArguments(slots.get(place), delta);
      case "response.reasoning_summary_text.delta":
      case "response.reasoning_text.delta": {
        if (delta === "") return [];
        const isSummary = type === "response.reasoning_summary_text.delta";
        const part = readCount(event[isSummary ? "summary_index" : "content_index"]);
        const of = isSummary ? "summary" : "text";
        return [...hear(place, "reasoning", delta), { kind: "reasoning_delta", of, part, delta }];
      }
      case "response.completed":
        return conclude(response, "stop");
      case "response.incomplete":
        return conclude(response, incompleteOf(response["incomplete_details"]));
      case "response.failed":
        throw saidFailure(response["error"], options.apiKey, readUsage(response["usage"]));
      case "error":
        throw saidFailure(event["error"] ?? event, options.apiKey);
      default:
        return [];
    }
  };
  return {
    read,
    isFinished: () => reason !== null,
    end: () => {
      if (!isAnswer) throw modelFailed("did not answer with a stream of response events");
      if (reason === null) throw modelFailed("broke off before its answer was whole");
      return [{ kind: "finished", reason, usage }];
    },
  };
}

/** Whether what was heard at a place is of this item. */
function isOf({ kind, given }: Slot, { type, call_id }: JsonObject): boolean {
  return kind === type && (kind !== "function_call" || given === textOf(call_id));
}

/** What a message says that was not streamed. */
function saidIn({ content }: JsonObject): ModelEvent[] {
  const parts: unknown[] = Array.isArray(content) ? content : [];
  return parts.flatMap((part): ModelEvent[] => {
    if (!isJsonObject(part)) return [];
    if (part["type"] === "refusal") return [{ kind: "refusal", delta: textOf(part["refusal"]) }];
    if (part["type"] !== "output_text") return [];
    const annotations: unknown[] = Array.isArray(part["annotations"]) ? part["annotations"] : [];
    return [
      { kind: "text", delta: textOf(part["text"]), ...logprobsOf(part) },
      ...annotations
        .filter(isJsonObject)
        .map((annotation): ModelEvent => ({ kind: "annotation", annotation })),
    ];
  });
}

/** Taken as they are: a look at each of a long text would take longer than all the rest. */
function logprobsOf({ logprobs }: JsonObject): { logprobs?: Json[] } {
  return Array.isArray(logprobs) && logprobs.length > 0 ? { logprobs } : {};
}

function incompleteOf(details: unknown): "length" | "content_filter" {
  return isJsonObject(details) && details["reason"] === "content_filter" ? "content_filter" : "length";
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function readUsage(value: unknown): Usage | null {
  if (!isJsonObject(value)) return null;
  const { input_tokens_details: input, output_tokens_details: output } = value;
  return {
    inputTokens: readCount(value["input_tokens"]),
    cachedTokens: isJsonObject(input) ? readCount(input["cached_tokens"]) : 0,
    outputTokens: readCount(value["output_tokens"]),
    reasoningTokens: isJsonObject(output) ? readCount(output["reasoning_tokens"]) : 0,
  };
}
