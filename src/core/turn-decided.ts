import { requestItem } from "./approval.ts";
import { asTheyGo, type Task } from "./as-they-end.ts";
import {
  asItsAgent,
  askAgain,
  awaitEnd,
  claimCall,
  endOf,
  failClaimed,
  refusedReview,
  type Review,
  review,
  runClaimed,
} from "./approved.ts";
import { type CallEnd, callUnderWay } from "./calls.ts";
import type { Context } from "./context.ts";
import type { CallProgress } from "./ports.ts";
import type { TurnEvent } from "./request.ts";
import { revokedSince } from "./standing.ts";
import type { HeldCall } from "./storage.ts";
import { left, mayLeave } from "./turn-journal.ts";
import { finishCall, noteConsent, say, sayText, tellProgress, type Turn } from "./turn-say.ts";

/** An approved call that is made; `heard.by` hears of its progress. */
type Begun = {
  end: Promise<CallEnd>;
  arguments: string;
  heard: { by: ((progress: CallProgress) => void) | null };
};

type Reviewed = { call: HeldCall; context: Context; todo: Review };

/** Calls that were approved: claimed once, the stored call run. All at once, told in the order of the decisions. */
export async function* runDecided(turn: Turn): AsyncGenerator<TurnEvent> {
  const { desks, plan } = turn;
  const approved = plan.decided.filter((call) => call.status === "approved");
  const revoked = await revokedSince(desks.world, plan.context, plan.response.createdAt);
  const reviewed = await Promise.all(
    approved.map(async (call): Promise<Reviewed> => {
      const context = await asItsAgent(desks.world, plan.context, call);
      if (revoked !== null) return { call, context, todo: refusedReview(revoked) };
      const asked = plan.servers.find(({ label }) => label === call.label)?.tool ?? null;
      return { call, context, todo: await review(desks, context, call, asked) };
    }),
  );
  const running: (Begun & { index: number; itemId: string })[] = [];
  for (const each of reviewed) {
    const { call } = each;
    const ready = await claim(turn, each);
    if (!ready) continue;
    const id = freshCallId(turn, call);
    const index = turn.output.length;
    const shown = { id, label: call.label, name: call.tool, approvalRequestId: call.id };
    const item = callUnderWay(shown);
    turn.output.push(item);
    turn.calls++;
    running.push({ ...ready, index, itemId: id });
    yield { kind: "item_added", index, item };
    yield { kind: "call_progress", index, itemId: id, state: "in_progress" };
    yield { kind: "call_arguments", index, itemId: id, arguments: ready.arguments };
    turn.output[index] = { ...item, arguments: ready.arguments };
  }
  yield* finishInOrder(turn, running);
  yield* askedAgain(turn, reviewed);
  yield* reportUnknown(turn);
}

/** Tells progress as it comes, and the ends in the order of the decisions. */
async function* finishInOrder(
  turn: Turn,
  running: (Begun & { index: number; itemId: string })[],
): AsyncGenerator<TurnEvent> {
  const tasks = running.map(({ end, heard }, at): Task<{ at: number; end: CallEnd }, CallProgress> => {
    return async (tell) => {
      heard.by = tell;
      return { at, end: await end };
    };
  });
  const ended = new Map<number, CallEnd>();
  let told = 0;
  for await (const step of asTheyGo(tasks, tasks.length)) {
    if (!("end" in step)) {
      yield* tellProgress(running[step.of], step.news);
      continue;
    }
    ended.set(step.end.at, step.end.end);
    for (let end = ended.get(told); end; end = ended.get(++told)) {
      const place = running[told];
      if (place) yield* finishCall(turn, place.index, end);
    }
  }
}

async function claim(turn: Turn, { call, context, todo }: Reviewed): Promise<Begun | null> {
  const { desks } = turn;
  const { world } = desks;
  switch (todo.kind) {
    case "ask_again":
      return null;
    case "consent":
      noteConsent(turn, todo.request);
      return null;
    case "fail": {
      const { arguments: text } = await requestItem(world, call);
      const won = await failClaimed(world, context, call, todo.end);
      return won ? { end: Promise.resolve(todo.end), arguments: text, heard: { by: null } } : null;
    }
    case "run": {
      if (!(await mayLeave(turn.journal, call.id))) throw left();
      const won = await claimCall(world, context, call, todo.server.timeoutMs);
      if (!won) return null;
      const heard: Begun["heard"] = { by: null };
      const end = runClaimed(desks, context, call, { ...todo, report: (progress) => heard.by?.(progress) });
      // Awaited in its turn; a fault that comes earlier must not end the process.
      end.catch(() => {});
      return { end, arguments: todo.arguments, heard };
    }
  }
}

async function* askedAgain(turn: Turn, reviewed: Reviewed[]): AsyncGenerator<TurnEvent> {
  const { desks, plan } = turn;
  const { response } = plan;
  const asking = { id: response.store ? response.id : null, model: response.model, agent: response.agent };
  for (const { call, context, todo } of reviewed) {
    if (todo.kind !== "ask_again") continue;
    const again = await askAgain(desks.world, context, call, todo, asking);
    if (!again) continue;
    turn.asksAgain = true;
    yield* say(turn, await requestItem(desks.world, again));
  }
}

/**
 * A call whose runner died: reported once per chain, as failed, and never run again. One that this response had claimed
 * before its process died has its end here.
 */
async function* reportUnknown(turn: Turn): AsyncGenerator<TurnEvent> {
  const { desks, plan } = turn;
  const before = [...(plan.chain?.items ?? []), ...plan.input, ...turn.output];
  for (const call of plan.decided) {
    if (before.some((item) => item.kind === "mcp_call" && item.approvalRequestId === call.id)) continue;
    if (call.status === "denied" || call.status === "cancelled") continue;
    const ended = await awaitEnd(desks.world, plan.context, call);
    const isOurs = ended.status === "done" && turn.resumed?.begun.has(call.id) === true;
    if (ended.status !== "unknown" && !isOurs) continue;
    const end = await endOf(desks.world, ended);
    const { arguments: text } = await requestItem(desks.world, ended);
    const shown = {
      id: freshCallId(turn, call),
      label: call.label,
      name: call.tool,
      approvalRequestId: call.id,
    };
    const index = turn.output.length;
    const item = callUnderWay(shown);
    turn.output.push({ ...item, arguments: text });
    yield { kind: "item_added", index, item };
    yield { kind: "call_progress", index, itemId: item.id, state: "in_progress" };
    yield { kind: "call_arguments", index, itemId: item.id, arguments: text };
    if (end) yield* finishCall(turn, index, end);
  }
}

/** The id that the call was promised, unless something in this response has it. */
function freshCallId(turn: Turn, call: HeldCall): string {
  const isTaken = turn.output.some((item) => item.id === call.callId);
  return isTaken ? turn.desks.world.newId("mcp") : call.callId;
}

/** Without a model, a decision that made nothing run is answered by one message. */
export async function* tellDecided(turn: Turn): AsyncGenerator<TurnEvent> {
  if (turn.output.length > 0) return;
  const lines = turn.plan.decided.map(
    (call) => `${call.tool} on ${call.label} (${call.id}): ${standing(call)}`,
  );
  yield* sayText(turn, lines.join("\n"));
}

function standing(call: HeldCall): string {
  if (call.status === "denied") return "denied, not run.";
  if (call.status === "cancelled") return "already decided; it was asked for again and did not run.";
  return "already decided; the call runs once and its result belongs to the response that ran it.";
}
