import type { Item, ToolCall } from "./items.ts";
import type { TurnEvent } from "./request.ts";
import { type Judged, judgeNow, runJudged, type Todo } from "./turn-calls.ts";
import type { Turn } from "./turn-say.ts";

/** Explicit calls (DESIGN 8): judged together, run in parallel, answered in the order in which they were given. */
export async function* runExplicit(turn: Turn): AsyncGenerator<TurnEvent> {
  const { plan } = turn;
  const judged = await Promise.all(
    plan.explicit.map(async (call): Promise<Judged> => {
      const server = plan.servers.find(({ label }) => label === call.label);
      if (!server) throw new Error(`no server for the planned call ${call.id}`);
      return { call, server, todo: (await answered(turn, call)) ?? (await judgeNow(turn, server, call)) };
    }),
  );
  yield* runJudged(turn, judged);
}

/** What the chain already has for this id: its stored result, or the question that still stands. */
async function answered({ desks, plan }: Turn, call: ToolCall): Promise<Todo | null> {
  const before = plan.chain?.items ?? [];
  const done = before.findLast((item) => isEnded(item, call.id));
  if (done?.kind === "mcp_call") return { kind: "end", end: { output: done.output, error: done.error } };
  const asked = new Set(before.flatMap((item) => (item.kind === "mcp_approval_request" ? [item.id] : [])));
  const standing = plan.undecided.find((held) => held.callId === call.id && asked.has(held.id));
  return standing && (await desks.world.crypto.sha256(call.arguments)) === standing.argumentsDigest
    ? { kind: "asked", held: standing }
    : null;
}

function isEnded(item: Item, id: string): boolean {
  return (
    item.kind === "mcp_call" && item.id === id && (item.status === "completed" || item.status === "failed")
  );
}
