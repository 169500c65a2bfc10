import type { Item, ToolCall } from "./items.ts";
import { failed } from "./calls.ts";
import type { TurnEvent } from "./request.ts";
import type { HeldCall } from "./storage.ts";
import { type Judged, judgeNow, runJudged, type Todo } from "./turn-calls.ts";
import type { Turn } from "./turn-say.ts";

/** Explicit calls (DESIGN 8): judged together, run in parallel, answered in the order in which they were given. */
export async function* runExplicit(turn: Turn): AsyncGenerator<TurnEvent> {
  const { plan } = turn;
  const servers = new Map(plan.servers.map((server) => [server.label, server]));
  const known = await knownCalls(turn);
  const judged = await Promise.all(
    plan.explicit.map(async (call): Promise<Judged> => {
      const server = servers.get(call.label);
      if (!server) throw new Error(`no server for the planned call ${call.id}`);
      const todo = await known(call);
      return todo ? { call, server, todo } : judgeNow(turn, server, call);
    }),
  );
  yield* runJudged(turn, judged);
}

/**
 * What is known of a call by its id: its result in the chain, the approval that came with it, or the question that still
 * stands. An id stands for one call: it is run once and asked about once.
 */
async function knownCalls({
  desks,
  plan,
  output,
  resumed,
}: Turn): Promise<(call: ToolCall) => Promise<Todo | null>> {
  const ended = new Map(
    [...(plan.chain?.items ?? []), ...output].flatMap((item) => (isEnded(item) ? [[item.id, item]] : [])),
  );
  const told = new Set(output.map((item) => item.id));
  const byCall = new Map([...plan.undecided, ...plan.decided].map((held) => [held.callId, held]));
  return async (call) => {
    if (told.has(call.id)) return { kind: "told" };
    const asked = resumed?.asked.get(call.id);
    if (asked) return told.has(asked.id) ? { kind: "told" } : { kind: "asked", held: asked };
    const done = ended.get(call.id);
    if (done) return { kind: "end", end: { output: done.output, error: done.error } };
    const held = byCall.get(call.id);
    const isSame = held && held.argumentsDigest === (await desks.world.crypto.sha256(call.arguments));
    return isSame ? todoOf(held) : null;
  };
}

function todoOf(held: HeldCall): Todo | null {
  switch (held.status) {
    case "pending":
      return { kind: "asked", held };
    case "denied":
      return {
        kind: "end",
        end: failed({ kind: "protocol", code: DENIED, message: "the user denied this call" }),
      };
    case "approved":
    case "dispatched":
    case "done":
    case "unknown":
      // It ran, or somebody else has it: this response says so elsewhere.
      return { kind: "told" };
    case "expired":
    case "cancelled":
      return null;
  }
}

const DENIED = -32000;

function isEnded(item: Item): item is ToolCall {
  if (item.kind !== "mcp_call" || item.awaits !== undefined) return false;
  return item.status === "completed" || item.status === "failed";
}
