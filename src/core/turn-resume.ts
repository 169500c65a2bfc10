import { requestItem } from "./approval.ts";
import { awaitEnd, endOf, MAY_HAVE_RUN } from "./approved.ts";
import { type CallEnd, failed, type ReadyCall } from "./calls.ts";
import { consentLink } from "./consent-asking.ts";
import { BrokerError, isRefusal } from "./errors.ts";
import type { CallError, Item, ToolCall } from "./items.ts";
import type { ModelExchange } from "./ports.ts";
import type { TurnEvent } from "./request.ts";
import type { HeldCall } from "./storage.ts";
import { type CallTask, finishAll, judgeNow, start } from "./turn-calls.ts";
import { fold, type Folded } from "./turn-fold.ts";
import type { Entry } from "./turn-journal.ts";
import { reasoningBody } from "./turn-reasoning.ts";
import type { Said } from "./turn-round.ts";
import { noteConsent, say, type Turn } from "./turn-say.ts";

/** What others have done of a turn, as far as whoever goes on with it must know. */
export type Resumed = {
  /** Calls that may have run; of approved ones the approvals. */
  begun: ReadonlySet<string>;
  /** The calls of this response that wait for an approval, by the call's id. Their items need not have been said. */
  asked: ReadonlyMap<string, HeldCall>;
  /** Rounds of the model that were heard whole, and the last of them if its calls are not all made. */
  rounds: number;
  heard: Said | null;
  mistaken: ModelExchange[];
  /** Items of a round that was cut off: readers have seen them, the model that is asked anew does not. */
  cut: ReadonlySet<string>;
};

/** `entries`: what was kept of a turn. `refusal`: why it may not go on, and null if it may. */
export type Left = { entries: readonly Entry[]; refusal: unknown };

/**
 * Puts a turn where others left it, and ends what they had begun: an item that was cut off is incomplete; a call that may have
 * left is not made again and says so; one that had not is made now, if it still may and nothing refuses the turn.
 *
 * Throws `model_failed` where the model had called a function of the client's and may not have said all: nobody must run it.
 */
export async function* takeUp(turn: Turn, { entries, refusal }: Left): AsyncGenerator<TurnEvent> {
  const folded = fold(entries);
  const { desks, plan } = turn;
  const { world } = desks;
  const { id, project } = plan.response;
  const held = await world.store.heldCalls.ofResponse(project, id);
  const asked = new Map(held.map((call) => [call.callId, call]));
  const { begun, rounds, heard, mistaken, cutFrom, usage, output } = folded;
  const cut = cutFrom === null ? [] : output.slice(cutFrom);
  turn.output = output;
  turn.usage = usage;
  turn.incomplete = heard?.incomplete ?? null;
  turn.calls = output.filter(({ kind }) => kind === "mcp_call" || kind === "mcp_approval_request").length;
  turn.saidChars = output.reduce((chars, item) => chars + charsOf(item), 0);
  turn.outputChars = output.reduce((chars, item) => chars + outputCharsOf(item), 0);
  turn.asksAgain = plan.decided.some((call) => asked.has(call.callId));
  turn.resumed = { begun, asked, rounds, heard, mistaken, cut: new Set(cut.map((item) => item.id)) };
  for (const item of output) {
    if (item.kind !== "mcp_call" || item.awaits === undefined) continue;
    const link = await consentLink(world, item.awaits);
    noteConsent(turn, { id: item.awaits, label: item.label, link });
  }
  for (const index of folded.open) yield* endCutOff(turn, folded, index);
  if (cut.some(({ kind }) => kind === "function_call")) throw new BrokerError("model_failed", CUT_OFF);
  yield* endCalls(turn, folded, refusal);
  yield* sayUnheard(turn, asked);
}

/** Of calls that are due those that this response has not said yet; `asked`: it has asked about it already. */
export function leftToDo(
  { resumed, output }: Turn,
  calls: ToolCall[],
): { call: ToolCall; asked: HeldCall | null }[] {
  const told = new Set(output.map(({ id }) => id));
  return calls.flatMap((call) => {
    const asked = resumed?.asked.get(call.id) ?? null;
    return told.has(call.id) || (asked && told.has(asked.id)) ? [] : [{ call, asked }];
  });
}

/** What was asked again about an approved call, where the process died before it said so. */
async function* sayUnheard(turn: Turn, asked: ReadonlyMap<string, HeldCall>): AsyncGenerator<TurnEvent> {
  const told = new Set(turn.output.map(({ id }) => id));
  for (const { callId } of turn.plan.decided) {
    const again = asked.get(callId);
    if (again && !told.has(again.id)) yield* say(turn, await requestItem(turn.desks.world, again));
  }
}

function* endCutOff(turn: Turn, { output, parts, thoughts }: Folded, index: number): Generator<TurnEvent> {
  const item = output[index];
  if (!item || item.kind === "mcp_call") return;
  const part = parts.get(index);
  switch (item.kind) {
    case "message": {
      const content = [...item.content];
      if (part && (part.of === "output_text" || part.of === "refusal")) {
        const { of, text, annotations, logprobs } = part;
        const at = { index, itemId: item.id, part: part.part };
        yield { kind: "part_done", ...at, of, text, annotations, logprobs };
        content.push(
          of === "refusal" ? { kind: of, refusal: text } : { kind: of, text, annotations, logprobs },
        );
      }
      return yield* ended(turn, index, { ...item, content, status: "incomplete" });
    }
    case "other": {
      if (part?.of === "summary" || part?.of === "text") {
        const { of, text } = part;
        yield { kind: "reasoning_part_done", index, itemId: item.id, part: part.part, of, text };
      }
      const heard = (thoughts.get(index) ?? []).flatMap(({ of, text }) =>
        of === "summary" || of === "text" ? [{ of, text }] : [],
      );
      return yield* ended(turn, index, { ...item, body: reasoningBody(heard) });
    }
    case "mcp_list_tools":
      yield { kind: "list_progress", index, itemId: item.id, state: "failed" };
      return yield* ended(turn, index, { ...item, error: "the broker stopped while it listed the tools" });
    case "function_call":
      return yield* ended(turn, index, { ...item, status: "incomplete" });
    case "function_call_output":
    case "mcp_approval_request":
    case "mcp_approval_response":
    case "oauth_consent_request":
    case "consent_notice":
      return yield* ended(turn, index, item);
  }
}

function* ended(turn: Turn, index: number, item: Item): Generator<TurnEvent> {
  turn.output[index] = item;
  yield { kind: "item_done", index, item };
}

async function* endCalls(
  turn: Turn,
  { open, begun, argumentsTold, heard }: Folded,
  refusal: unknown,
): AsyncGenerator<TurnEvent> {
  const due = [...(heard?.calls ?? []), ...turn.plan.explicit];
  const tasks: CallTask[] = [];
  const places: { index: number; itemId: string }[] = [];
  for (const index of open) {
    const item = turn.output[index];
    if (item?.kind !== "mcp_call") continue;
    const held = item.approvalRequestId === null ? null : await heldOf(turn, item.approvalRequestId);
    const call = held ? item : (due.find(({ id }) => id === item.id) ?? item);
    const { arguments: text } = held ? await requestItem(turn.desks.world, held) : call;
    turn.output[index] = { ...item, arguments: text };
    if (!argumentsTold.has(index)) yield { kind: "call_arguments", index, itemId: item.id, arguments: text };
    places.push({ index, itemId: item.id });
    tasks.push(async (report) => {
      if (held) return { index, end: await endOfHeld(turn, held) };
      if (begun.has(item.id)) return { index, end: failed(MAY_HAVE_RUN) };
      if (refusal !== null) return { index, end: failed(notMade(whyOf(refusal))) };
      return { index, end: await makeNow(turn, { ...call, arguments: text }, report) };
    });
  }
  yield* finishAll(turn, tasks, places);
}

async function heldOf({ desks, plan }: Turn, id: string): Promise<HeldCall> {
  const held = await desks.world.store.heldCalls.get(plan.response.project, id);
  if (!held) throw new Error(`the approved call ${id} is gone`);
  return held;
}

/** An approved call that was claimed: whoever made it has kept its end, or is dead. */
async function endOfHeld({ desks, plan }: Turn, held: HeldCall): Promise<CallEnd> {
  const over = await awaitEnd(desks.world, plan.context, held);
  return (await endOf(desks.world, over)) ?? failed(MAY_HAVE_RUN);
}

/** A call that readers have seen and that never left. What may not run any more by itself is over: it has its place already. */
async function makeNow(
  turn: Turn,
  call: ToolCall,
  report: NonNullable<ReadyCall["report"]>,
): Promise<CallEnd | null> {
  const server = turn.plan.servers.find(({ label }) => label === call.label);
  if (!server) return failed(notMade("its server is gone"));
  if (turn.plan.context.signal.aborted) return failed(notMade("the response was cancelled"));
  const { server: found, todo } = await judgeNow(turn, server, call);
  switch (todo.kind) {
    case "run":
      return start(turn, call.id, { server: found, tool: todo.tool, arguments: call.arguments, report });
    case "end":
      return todo.end;
    case "consent":
      return { ...failed(notMade("the user must connect an account first")), consent: todo.request };
    case "hold":
    case "asked":
    case "told":
      return failed(notMade("it needs an approval by now: ask for it again"));
  }
}

const notMade = (why: string): CallError => ({
  kind: "http",
  code: 503,
  message: `The broker stopped before this call left, and it was not made afterwards: ${why}.`,
});

const whyOf = (refusal: unknown) =>
  isRefusal(refusal, "revoked") ? refusal.details.why : "its response could not go on";

const CUT_OFF = {
  status: null,
  message: "the broker stopped while the model was calling a function: ask again",
  code: null,
};

function charsOf(item: Item): number {
  if (item.kind === "other") return JSON.stringify(item.body).length;
  if (item.kind === "mcp_call" || item.kind === "function_call") return item.arguments.length;
  if (item.kind !== "message") return 0;
  return item.content.reduce(
    (chars, part) =>
      chars +
      (part.kind === "output_text" ? part.text.length : part.kind === "refusal" ? part.refusal.length : 0),
    0,
  );
}

const outputCharsOf = (item: Item) => (item.kind === "mcp_call" ? (item.output?.length ?? 0) : 0);
