import { holdCalls, requestItem } from "./approval.ts";
import {
  type CallEnd,
  callUnderWay,
  errorOf,
  failed,
  makeCall,
  type ReadyCall,
  unknownTool,
} from "./calls.ts";
import { auditEntry } from "./context.ts";
import { asTheyGo, type Task } from "./as-they-end.ts";
import type { CallError, ToolCall } from "./items.ts";
import type { CallProgress } from "./ports.ts";
import type { TurnEvent } from "./request.ts";
import type { Server } from "./servers.ts";
import { standingOf } from "./standing.ts";
import type { HeldCall } from "./storage.ts";
import { judge, type Verdict } from "./tools.ts";
import { left, mayLeave } from "./turn-journal.ts";
import { finishCall, noteConsent, say, tellProgress, type Turn } from "./turn-say.ts";

/** A call and its server, with what is to be done about it. */
export type Judged = { call: ToolCall; server: Server; todo: Todo };

export type Todo =
  | Exclude<Verdict, { kind: "unknown" }>
  /** This response says it already: its approval came with it. */
  | { kind: "told" }
  | { kind: "end"; end: CallEnd }
  | { kind: "asked"; held: HeldCall }
  /** Not run, and no item of its own: the person must connect an account first. */
  | { kind: "consent"; request: Turn["consents"][number] };

/** The same door for explicit calls and for the model's: still there, listed, allowed, unchanged, approved? */
export async function judgeNow({ desks, plan }: Turn, planned: Server, call: ToolCall): Promise<Judged> {
  const { world } = desks;
  const { context, response } = plan;
  const standing = await standingOf(world, context, { server: planned, readAt: response.createdAt });
  if ("revoked" in standing)
    return { call, server: planned, todo: { kind: "end", end: failed(revoked(standing)) } };
  const { server } = standing;
  const listing = await desks.tools.list(context, server);
  if (!listing.ok) {
    const { failure } = listing;
    if (failure.kind === "consent")
      return { call, server, todo: { kind: "consent", request: failure.request } };
    return { call, server, todo: { kind: "end", end: failed(errorOf(failure)) } };
  }
  const verdict = judge(server, listing, call.name);
  if (verdict.kind !== "unknown") return { call, server, todo: verdict };
  await world.audit.record(
    auditEntry(world, context, "tool_refused", {
      outcome: "refused",
      connection: server.record?.connection.name ?? null,
      tool: call.name,
      agent: response.agent?.name ?? null,
      responseId: response.id,
      detail: { why: "unknown_or_not_allowed" },
    }),
  );
  return { call, server, todo: { kind: "end", end: unknownTool(call.name) } };
}

function revoked({ revoked: message }: { revoked: string }): CallError {
  return { kind: "http", code: 403, message: `the call was not made: ${message}` };
}

/**
 * Runs what may run, in parallel, and asks about the rest. Every call has its place in the output before the first one
 * runs; what must wait is stored before anybody is told.
 */
export async function* runJudged(turn: Turn, judged: Judged[]): AsyncGenerator<TurnEvent> {
  const held = await hold(turn, judged);
  const tasks: CallTask[] = [];
  const places: Place[] = [];
  for (const { call, server, todo } of judged) {
    if (todo.kind === "told") continue;
    if (todo.kind === "consent") {
      noteConsent(turn, todo.request);
      continue;
    }
    turn.calls++;
    const waiting = held.get(call) ?? (todo.kind === "asked" ? todo.held : null);
    if (waiting) {
      yield* say(turn, await requestItem(turn.desks.world, waiting));
      continue;
    }
    const index = turn.output.length;
    const item = callUnderWay({ id: call.id, label: call.label, name: call.name, approvalRequestId: null });
    turn.output.push({ ...item, arguments: call.arguments });
    places.push({ index, itemId: item.id });
    tasks.push(async (report) => {
      const ready = { server, arguments: call.arguments, report };
      const end =
        todo.kind === "run" ? await start(turn, call.id, { ...ready, tool: todo.tool }) : endOfTodo(todo);
      return { index, end };
    });
    yield { kind: "item_added", index, item };
    yield { kind: "call_progress", index, itemId: item.id, state: "in_progress" };
    yield { kind: "call_arguments", index, itemId: item.id, arguments: call.arguments };
  }
  yield* finishAll(turn, tasks, places);
}

/** A call that has its place in the output. Null: it did not begin, the turn is left. */
export type CallTask = Task<{ index: number; end: CallEnd | null }, CallProgress>;
type Place = { index: number; itemId: string };

/** Runs calls, tells their progress, and says how each ended. */
export async function* finishAll(
  turn: Turn,
  tasks: CallTask[],
  places: readonly Place[],
): AsyncGenerator<TurnEvent> {
  let isLeft = false;
  for await (const step of asTheyGo(tasks, MAX_AT_ONCE)) {
    if (!("end" in step)) yield* tellProgress(places[step.of], step.news);
    else if (step.end.end) yield* finishCall(turn, step.end.index, step.end.end);
    else isLeft = true;
  }
  if (isLeft) throw left();
}

/** Calls of one response that run at the same time. */
const MAX_AT_ONCE = 32;

async function hold({ desks, plan }: Turn, judged: Judged[]): Promise<Map<ToolCall, HeldCall>> {
  const { response, context } = plan;
  const waiting = judged.flatMap(({ call, server, todo }) =>
    todo.kind === "hold" ? [{ call, server, todo }] : [],
  );
  const asking = { id: response.store ? response.id : null, model: response.model, agent: response.agent };
  const holds = waiting.map(({ call, server, todo }) => ({
    server,
    tool: todo.tool,
    callId: call.id,
    arguments: call.arguments,
    why: todo.why,
  }));
  const held = await holdCalls(desks.world, context, holds, asking);
  return new Map(waiting.flatMap(({ call }, at) => (held[at] ? [[call, held[at]] as const] : [])));
}

/** Makes a call. Null: it must not leave, since the turn is left. */
export async function start(
  { desks, plan, journal }: Turn,
  id: string,
  ready: ReadyCall,
): Promise<CallEnd | null> {
  if (!(await mayLeave(journal, id))) return null;
  // Told while it waited to leave.
  if (journal && plan.context.signal.aborted) return failed(CANCELLED);
  const facts = { agent: plan.response.agent?.name ?? null, responseId: plan.response.id, approvalId: null };
  return makeCall(desks.world, desks.access, plan.context, ready, facts);
}

const CANCELLED: CallError = { kind: "http", code: 499, message: "the response was cancelled" };

function endOfTodo(todo: Todo): CallEnd {
  if (todo.kind === "end") return todo.end;
  throw new Error(`a call to ${todo.kind} reached the runner`);
}
