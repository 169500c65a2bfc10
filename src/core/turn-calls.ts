import { holdCalls, requestItem } from "./approval.ts";
import { type CallEnd, callUnderWay, errorOf, failed, makeCall, unknownTool } from "./calls.ts";
import { auditEntry } from "./context.ts";
import type { ToolCall } from "./items.ts";
import type { TurnEvent } from "./request.ts";
import type { Server } from "./servers.ts";
import type { HeldCall } from "./storage.ts";
import { judge, type KnownTool, type Verdict } from "./tools.ts";
import { finishCall, say, type Turn } from "./turn-say.ts";

/** A call and its server, with what is to be done about it. */
export type Judged = { call: ToolCall; server: Server; todo: Todo };

export type Todo =
  | Exclude<Verdict, { kind: "unknown" }>
  | { kind: "end"; end: CallEnd }
  | { kind: "asked"; held: HeldCall };

/** The same door for explicit calls and for the model's: listed, allowed, unchanged, approved? */
export async function judgeNow({ desks, plan }: Turn, server: Server, call: ToolCall): Promise<Todo> {
  const listing = await desks.tools.list(plan.context, server);
  if (!listing.ok) return { kind: "end", end: failed(errorOf(listing.failure)) };
  const verdict = judge(server, listing, call.name);
  if (verdict.kind !== "unknown") return verdict;
  await desks.world.audit.record(
    auditEntry(desks.world, plan.context, "tool_refused", {
      outcome: "refused",
      connection: server.record?.connection.name ?? null,
      tool: call.name,
      agent: plan.response.agent?.name ?? null,
      responseId: plan.response.id,
      detail: { why: "unknown_or_not_allowed" },
    }),
  );
  return { kind: "end", end: unknownTool(call.name) };
}

/**
 * Runs what may run, in parallel, and asks about the rest. Every call has its place in the output before the first one
 * runs; what must wait is stored before anybody is told.
 */
export async function* runJudged(turn: Turn, judged: Judged[]): AsyncGenerator<TurnEvent> {
  const held = await hold(turn, judged);
  const running = new Map<number, Promise<{ index: number; end: CallEnd }>>();
  for (const { call, server, todo } of judged) {
    turn.calls++;
    const waiting = held.get(call) ?? (todo.kind === "asked" ? todo.held : null);
    if (waiting) {
      yield* say(turn, await requestItem(turn.desks.world, waiting));
      continue;
    }
    const index = turn.output.length;
    const item = callUnderWay({ id: call.id, label: call.label, name: call.name, approvalRequestId: null });
    turn.output.push({ ...item, arguments: call.arguments });
    const end = todo.kind === "run" ? start(turn, call, server, todo.tool) : Promise.resolve(endOfTodo(todo));
    const ended = end.then((value) => ({ index, end: value }));
    // Awaited below; a fault that comes before that must not end the process.
    ended.catch(() => {});
    running.set(index, ended);
    yield { kind: "item_added", index, item };
    yield { kind: "call_progress", index, itemId: item.id, state: "in_progress" };
    yield { kind: "call_arguments", index, itemId: item.id, arguments: call.arguments };
  }
  while (running.size > 0) {
    const { index, end } = await Promise.race(running.values());
    running.delete(index);
    yield* finishCall(turn, index, end);
  }
}

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

function start({ desks, plan }: Turn, call: ToolCall, server: Server, tool: KnownTool): Promise<CallEnd> {
  const facts = { agent: plan.response.agent?.name ?? null, responseId: plan.response.id, approvalId: null };
  return makeCall(
    desks.world,
    desks.access,
    plan.context,
    { server, tool, arguments: call.arguments },
    facts,
  );
}

function endOfTodo(todo: Todo): CallEnd {
  if (todo.kind === "end") return todo.end;
  throw new Error(`a call to ${todo.kind} reached the runner`);
}
