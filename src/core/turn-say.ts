import { type CallEnd, callItem, failed } from "./calls.ts";
import type { Desks } from "./approved.ts";
import { BrokerError } from "./errors.ts";
import type { CallError, Item, Message } from "./items.ts";
import type { Plan } from "./plan.ts";
import type { CallProgress, ModelEvent } from "./ports.ts";
import type { TurnEvent, Usage } from "./request.ts";
import type { Journal } from "./turn-journal.ts";
import type { Resumed } from "./turn-resume.ts";

/** A turn under way: what it knows and what it has said so far. Its parts append to `output`; nobody removes. */
export type Turn = {
  desks: Desks;
  plan: Plan;
  output: Item[];
  usage: Usage;
  /** MCP calls made or held in this response, for `max_tool_calls`. */
  calls: number;
  /** How much the calls have put out. */
  outputChars: number;
  /** How much the model has said, over all rounds. */
  saidChars: number;
  /** Why it ends early, if it does. */
  incomplete: string | null;
  /** The consents that are missing, in the order in which that was found. */
  consents: { id: string; label: string; link: string }[];
  /** Approved calls are not what they were: somebody is asked about them again, and nothing else is done. */
  asksAgain: boolean;
  /** Where it writes what it does. Null: it ends with its request. */
  journal: Journal | null;
  /** What another process has done of it. Null: nothing. */
  resumed: Resumed | null;
};

/** A turn that has done nothing yet. */
export function beginTurn(desks: Desks, plan: Plan, journal: Journal | null): Turn {
  return {
    desks,
    plan,
    output: [],
    usage: plan.response.usage,
    calls: 0,
    outputChars: 0,
    saidChars: 0,
    incomplete: null,
    consents: [],
    asksAgain: false,
    journal,
    resumed: null,
  };
}

/** No response makes more calls than this, whatever it asks for. */
const MAX_CALLS = 256;

export function maxCalls({ plan }: Turn): number {
  return Math.min(plan.response.maxToolCalls ?? MAX_CALLS, MAX_CALLS);
}

/** The outputs of one response together, in UTF-16 code units. */
const MAX_OUTPUT_CHARS = 32 * 1024 * 1024;

/** What a model says in one response, over all its rounds, in UTF-16 code units, and the items of one response. */
const MAX_SAID_CHARS = 16 * 1024 * 1024;
const MAX_OUTPUT_ITEMS = 5_000;

/** Counts what a model says. Throws `model_failed` when that is more than one response may hold. */
export function countSaid(turn: Turn, event: ModelEvent): void {
  turn.saidChars += charsOf(event);
  if (turn.saidChars <= MAX_SAID_CHARS && turn.output.length <= MAX_OUTPUT_ITEMS) return;
  const message = "the model upstream said more than one response may hold";
  throw new BrokerError("model_failed", { status: null, message, code: null });
}

function charsOf(event: ModelEvent): number {
  switch (event.kind) {
    case "text":
      return event.delta.length + (event.logprobs ? JSON.stringify(event.logprobs).length : 0);
    case "annotation":
      return JSON.stringify(event.annotation).length;
    case "refusal":
    case "reasoning_delta":
    case "call_arguments":
      return event.delta.length;
    case "reasoning_ended":
      return JSON.stringify(event.body).length;
    case "call_started":
      return event.name.length + event.callId.length;
    case "message_started":
    case "reasoning_started":
    case "finished":
      return 0;
  }
}

/** Remembers that this response has to ask for a consent. One that stands for several tools is asked for once. */
export function noteConsent(turn: Turn, request: Turn["consents"][number]): void {
  if (!turn.consents.some(({ id }) => id === request.id)) turn.consents.push(request);
}

export async function* finishCall(turn: Turn, index: number, end: CallEnd): AsyncGenerator<TurnEvent> {
  const begun = turn.output[index];
  if (begun?.kind !== "mcp_call") throw new Error(`output ${index} is not a call`);
  const { id, label, name, arguments: text, approvalRequestId } = begun;
  turn.outputChars += end.output?.length ?? 0;
  const isFull = turn.outputChars > MAX_OUTPUT_CHARS;
  const item = callItem(
    { id, label, name, arguments: text, approvalRequestId },
    isFull ? failed(TOO_MUCH) : end,
  );
  if (end.consent) noteConsent(turn, end.consent);
  turn.output[index] = item;
  yield { kind: "call_progress", index, itemId: id, state: end.error ? "failed" : "completed" };
  yield { kind: "item_done", index, item };
}

/** How far the call at a place of the output is. */
export function* tellProgress(
  place: { index: number; itemId: string } | undefined,
  progress: CallProgress,
): Generator<TurnEvent> {
  if (place) yield { kind: "call_told", ...place, progress };
}

/** An item that is whole as soon as it is there. */
export async function* say(turn: Turn, item: Item): AsyncGenerator<TurnEvent> {
  const index = turn.output.length;
  turn.output.push(item);
  yield { kind: "item_added", index, item };
  yield { kind: "item_done", index, item };
}

export async function* sayText(turn: Turn, text: string): AsyncGenerator<TurnEvent> {
  const id = turn.desks.world.newId("msg");
  const index = turn.output.length;
  const begun: Message = { kind: "message", id, role: "assistant", status: "in_progress", content: [] };
  const item: Message = {
    ...begun,
    status: "completed",
    content: [{ kind: "output_text", text, annotations: [], logprobs: [] }],
  };
  turn.output.push(item);
  yield { kind: "item_added", index, item: begun };
  yield { kind: "part_added", index, itemId: id, part: 0, of: "output_text" };
  yield { kind: "text_delta", index, itemId: id, part: 0, of: "output_text", delta: text };
  yield { kind: "part_done", index, itemId: id, part: 0, of: "output_text", text };
  yield { kind: "item_done", index, item };
}

const TOO_MUCH: CallError = {
  kind: "http",
  code: 507,
  message: "The tool ran, but its result does not fit into this response any more.",
};
