import { isJsonObject } from "../core/json.ts";
import type { ModelEvent } from "../core/ports.ts";
import { NO_USAGE } from "../core/request.ts";
import type { Usage } from "../core/request.ts";
import { checkCallCount, modelFailed } from "./model-failures.ts";

type Call = { index: unknown; id: string; name: string; text: string };

/**
 * Reads the chunks of one streamed chat completion. Upstreams differ in how they cut up calls; read are:
 * indexed pieces, whole calls in one chunk, calls without index or without id, names repeated in every piece, several
 * calls under one index told apart by id and name, and arguments as an object instead of text.
 *
 * A call whose id is missing, or `isTaken` by another one of this conversation, gets one of ours.
 */
export function createChunkReader(isTaken: (callId: string) => boolean) {
  const calls: Call[] = [];
  const callIds = new Set<string>();
  let made = 0;
  let isAnswer = false;
  let reason: string | null = null;
  let usage: Usage = NO_USAGE;

  const start = (piece: Piece): ModelEvent => {
    if (piece.name === "") throw modelFailed("called a tool without naming it");
    checkCallCount(calls.length);
    calls.push({ index: piece.index, id: piece.id, name: piece.name, text: "" });
    let callId = piece.id;
    while (callId === "" || callIds.has(callId) || isTaken(callId)) callId = `call_${++made}`;
    callIds.add(callId);
    return { kind: "call_started", call: calls.length - 1, callId, name: piece.name };
  };
  const readPiece = (piece: Piece): ModelEvent[] => {
    const events: ModelEvent[] = [];
    let call = callOf(calls, piece);
    if (!call) {
      if (piece.name === "" && piece.text === "") return [];
      events.push(start(piece));
      call = calls.at(-1);
    }
    if (!call || piece.text === "") return events;
    call.text += piece.text;
    return [...events, { kind: "call_arguments", call: calls.indexOf(call), delta: piece.text }];
  };

  return {
    /** Throws `model_failed` for a call that cannot be told. */
    read: (chunk: unknown): ModelEvent[] => {
      if (!isJsonObject(chunk)) return [];
      usage = readUsage(chunk["usage"]) ?? usage;
      const choices: unknown[] = Array.isArray(chunk["choices"]) ? chunk["choices"] : [];
      isAnswer ||= choices.length > 0;
      const [choice] = choices;
      if (!isJsonObject(choice)) return [];
      const finish = choice["finish_reason"];
      if (typeof finish === "string" && finish !== "") reason = finish;
      const delta = isJsonObject(choice["delta"]) ? choice["delta"] : {};
      const pieces: unknown[] = Array.isArray(delta["tool_calls"]) ? delta["tool_calls"] : [];
      return [
        ...textEvents("text", textOf(delta["content"])),
        ...textEvents("refusal", textOf(delta["refusal"])),
        ...pieces.map(pieceOf).flatMap(readPiece),
      ];
    },
    /** Whether the model has said that it is done. Only the usage may follow. */
    isFinished: (): boolean => reason !== null,
    /** The last events. Throws `model_failed` when the stream ended too early, or with an error. */
    end: (): ModelEvent[] => {
      if (!isAnswer) throw modelFailed("did not answer with a stream of chat completion chunks");
      if (reason === null) throw modelFailed("broke off before its answer was whole");
      if (reason === "error") throw modelFailed("ended its answer with an error");
      const finished: ModelEvent = { kind: "finished", reason: finishOf(reason), usage };
      // Some models write nothing where a tool takes no arguments; what follows wants JSON.
      const silent = calls.flatMap(({ text }, call) =>
        text === "" && finished.reason === "stop" ? [call] : [],
      );
      return [...silent.map((call): ModelEvent => ({ kind: "call_arguments", call, delta: "{}" })), finished];
    },
  };
}

type Piece = { index: unknown; id: string; name: string; text: string };

function pieceOf(value: unknown): Piece {
  const piece = isJsonObject(value) ? value : {};
  const called = isJsonObject(piece["function"]) ? piece["function"] : {};
  const text = called["arguments"] ?? "";
  return {
    index: piece["index"] ?? null,
    id: textOf(piece["id"]),
    name: textOf(called["name"]),
    text: typeof text === "string" ? text : JSON.stringify(text),
  };
}

/** The call that a piece belongs to; undefined: it begins a new one. */
function callOf(calls: Call[], piece: Piece): Call | undefined {
  const isNear = ({ index }: Call) => piece.index === null || index === piece.index;
  const known = calls.findLast((call) => piece.id !== "" && call.id === piece.id && isNear(call));
  if (known) return known;
  const latest = calls.findLast(isNear);
  if (!latest) return undefined;
  if (piece.name === "") return latest;
  // It names a tool and is not known by its id: another call, unless the upstream repeats the name of this one.
  if (piece.name !== latest.name) return undefined;
  const adds = piece.id !== "" || piece.text !== "";
  return adds && isWhole(latest.text) ? undefined : latest;
}

function isWhole(text: string): boolean {
  if (!text.trimEnd().endsWith("}")) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function textEvents(kind: "text" | "refusal", delta: string): ModelEvent[] {
  return delta === "" ? [] : [{ kind, delta }];
}

/** Text, or the text among parts of several types, as reasoning models of some upstreams give it. */
function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return "";
  return value
    .map((part) => (isJsonObject(part) && part["type"] === "text" ? textOf(part["text"]) : ""))
    .join("");
}

/** Upstreams have more words for it than the API; those that are not listed mean that the model was done. */
function finishOf(reason: string): "stop" | "length" | "content_filter" {
  if (["length", "max_tokens", "model_length"].includes(reason)) return "length";
  return reason === "content_filter" ? "content_filter" : "stop";
}

function readUsage(value: unknown): Usage | null {
  if (!isJsonObject(value)) return null;
  const { prompt_tokens_details: input, completion_tokens_details: output } = value;
  return {
    inputTokens: readCount(value["prompt_tokens"]),
    cachedTokens: isJsonObject(input) ? readCount(input["cached_tokens"]) : 0,
    outputTokens: readCount(value["completion_tokens"]),
    reasoningTokens: isJsonObject(output) ? readCount(output["reasoning_tokens"]) : 0,
  };
}

/** A number of tokens, or a place in a list; 0 for what is neither. */
export function readCount(value: unknown): number {
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : 0;
}
