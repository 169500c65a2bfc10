import type { AgentIdentity } from "./agents.ts";
import { backgroundAad, type BackgroundWork } from "./background.ts";
import type { Context } from "./context.ts";
import type { ConversationId } from "./conversations.ts";
import { BrokerError } from "./errors.ts";
import { type Caller, viewer } from "./identity.ts";
import type { ConnectionId, HeldCallId, ResponseId, ThreadId, UserId } from "./ids.ts";
import type { Item, ToolCall } from "./items.ts";
import { findServers, type Plan } from "./plan.ts";
import type { World } from "./ports.ts";
import type { Settled } from "./recover.ts";
import { type Chain, chainOf } from "./thread.ts";

/**
 * A plan as it is kept for whoever has to go on with it. It holds the tools' own credentials and what was said, so it is sealed.
 * A user's own token is not in it: that is never stored.
 */
type KeptPlan = {
  caller: Caller;
  user: UserId | null;
  requestId: string;
  agent: string | null;
  agentIdentity: AgentIdentity | null;
  agentMadeAt: number | null;
  declined: ConnectionId[];
  input: Item[];
  settled: Settled;
  conversation: ConversationId | null;
  decided: HeldCallId[];
  undecided: HeldCallId[];
  explicit: ToolCall[];
  include: string[];
  chain: {
    threadId: ThreadId;
    end: number;
    stored: ResponseId | null;
    conversation: ConversationId | null;
  } | null;
};

export function sealPlan(world: World, plan: Plan): Promise<Uint8Array> {
  const { context, chain, input, settled, conversation, explicit, include, response } = plan;
  const kept: KeptPlan = {
    caller: context.caller,
    user: context.user,
    requestId: context.requestId,
    agent: context.agent ?? null,
    agentIdentity: context.agentIdentity ?? null,
    agentMadeAt: context.agentMadeAt ?? null,
    // Written by `resumeOf`, of ids of connections.
    declined: [...(context.declined ?? [])] as ConnectionId[],
    input,
    settled,
    conversation,
    decided: plan.decided.map(({ id }) => id),
    undecided: plan.undecided.map(({ id }) => id),
    explicit,
    include,
    chain: chain && {
      threadId: chain.threadId,
      end: chain.end,
      stored: chain.stored?.response.id ?? null,
      conversation: chain.conversation,
    },
  };
  return world.sealer.seal(JSON.stringify(kept), backgroundAad(response.project, response.id, "plan"));
}

/** A plan for going on, and why it cannot be gone on with (`fault`): then it serves for nothing but its end. */
export type Recalled = { plan: Plan; fault: unknown };

/**
 * The plan of a work that another process began, in the world as it is by now. Null: its project is gone.
 *
 * Throws `unavailable` only: whatever else has changed is a fault of the turn.
 */
export async function recallPlan(
  world: World,
  work: BackgroundWork & { sealed: Uint8Array },
  signal: AbortSignal,
): Promise<Recalled | null> {
  const { project: name, id } = work;
  const project = await world.store.projects.get(name);
  if (!project) return null;
  // Written by `sealPlan`, opened under its own name.
  const kept = JSON.parse(await world.sealer.open(work.sealed, backgroundAad(name, id, "plan"))) as KeptPlan;
  const { caller, user, requestId, agent, agentIdentity, agentMadeAt, settled } = kept;
  const context: Context = {
    project,
    caller,
    user,
    userToken: null,
    requestId,
    agent,
    agentIdentity,
    agentMadeAt,
    declined: new Set(kept.declined),
    signal,
  };
  const bare: Plan = {
    context,
    response: { ...work.response, status: "in_progress" },
    chain: null,
    conversation: kept.conversation,
    input: kept.input,
    settled,
    servers: [],
    functions: settled.tools.filter((tool) => tool.kind === "function"),
    decided: [],
    undecided: [],
    explicit: kept.explicit,
    include: kept.include,
  };
  try {
    const held = async (ids: HeldCallId[]) => {
      const found = await Promise.all(ids.map((one) => world.store.heldCalls.get(name, one)));
      return found.filter((call) => call !== null);
    };
    const whole: Plan = {
      ...bare,
      chain: await recallChain(world, context, kept.chain),
      servers: await findServers({ world }, context, settled),
      decided: await held(kept.decided),
      undecided: await held(kept.undecided),
    };
    return { plan: whole, fault: null };
  } catch (fault) {
    if (!(fault instanceof BrokerError) || fault.code === "unavailable") throw fault;
    return { plan: bare, fault };
  }
}

async function recallChain(
  world: World,
  { project, caller, user }: Context,
  kept: KeptPlan["chain"],
): Promise<Chain | null> {
  if (!kept) return null;
  const { threadId, end, conversation } = kept;
  const seenBy = viewer(caller, user);
  const stored = kept.stored && (await world.store.responses.get(project.name, kept.stored, seenBy));
  if (kept.stored !== null && !stored)
    throw new BrokerError("revoked", { why: "the response that it answers was deleted" });
  return chainOf(world, { project: project.name, threadId, end, stored, conversation });
}
