import { type DecisionInput, decideAsOwner } from "./approval.ts";
import type { Desks } from "./approved.ts";
import { resumeOf } from "./resume.ts";
import type { Context } from "./context.ts";
import { claimConversation, findConversation } from "./conversation-turn.ts";
import type { ConversationId } from "./conversations.ts";
import { BrokerError, type Fault, invalid } from "./errors.ts";
import { viewer } from "./identity.ts";
import type { Item, ToolCall } from "./items.ts";
import { resolveInput } from "./input.ts";
import { chooseModel } from "./model-upstreams.ts";
import { type ReadDefinition, settle, type Settled } from "./recover.ts";
import { type FunctionTool, NO_USAGE, type Response, type TurnRequest } from "./request.ts";
import { requireSignIn, requireUser } from "./required-user.ts";
import { findServer, type Server, serverOf, toolFor } from "./servers.ts";
import type { HeldCall } from "./storage.ts";
import { type Chain, withoutSecrets } from "./thread.ts";
import { findChain } from "./turn-chain.ts";

/** What a turn is about, settled before its first event: everything that can be refused was not. */
export type Plan = {
  /** With the user that a follow-up inherited. */
  context: Context;
  /** As it begins. */
  response: Response;
  chain: Chain | null;
  /** The conversation that the request names: the response becomes part of it. */
  conversation: ConversationId | null;
  /** What this request adds to the chain, references resolved, every item with an id. */
  input: Item[];
  settled: Settled;
  servers: Server[];
  functions: FunctionTool[];
  /** Calls that somebody decided: by this request, or by REST since the last one. */
  decided: HeldCall[];
  /** Calls that the person was asked about last and did not decide. */
  undecided: HeldCall[];
  /** Calls that the caller wants made (no model). */
  explicit: ToolCall[];
  /** What the caller wants to see beside what everybody sees. */
  include: string[];
};

/**
 * Reads the world around a request: the response it answers, the agent, the servers, the decisions. Decisions are
 * recorded here, last of all, when nothing else can be refused.
 *
 * Throws refusals only; a turn that has a plan answers 200.
 */
export async function planTurn(
  { world, access }: Desks,
  caller: Context,
  request: TurnRequest,
  read: ReadDefinition,
): Promise<Plan> {
  const named = await findConversation(world, caller, request);
  const { context: known, chain } = await findChain({ world }, caller, request, named);
  const settled = await settle(world, known, { request, chain, read });
  const servers = await findServers({ world }, known, settled);
  requireUser(known, servers, request);
  await requireSignIn(access, known, servers);
  const functions = settled.tools.filter((tool) => tool.kind === "function");
  const agent = settled.agent?.name ?? null;
  const { input, anew, declined } = await resumeOf(
    world,
    chain,
    await resolveInput(world, known, request.input, chain),
  );
  const held = await heldServers({ world }, known, chain, input);
  requireUser(known, held, request);
  await requireSignIn(access, known, held);
  const { agentIdentity, agentMadeAt } = settled;
  const context = { ...known, agent, agentIdentity, agentMadeAt, declined };
  const explicit = explicitCalls(anew, settled.model, servers);
  requireWork({ world }, { request, chain, settled, servers, input, explicit, context });
  if (named) await claimConversation(world, context, named, "conversation");
  const { decided, undecided } = await takeDecisions({ world }, context, chain, input);
  const response = beginResponse({ world }, context, request, settled, chain);
  const { include } = request;
  return {
    context,
    response,
    chain,
    conversation: named?.id ?? null,
    input,
    settled,
    servers,
    functions,
    decided,
    undecided,
    explicit,
    include,
  };
}

type Only = Pick<Desks, "world">;

/** The servers of the tools. Throws `invalid` with every fault. */
export async function findServers({ world }: Only, context: Context, { tools }: Settled): Promise<Server[]> {
  const mcp = tools.flatMap((tool, at) => (tool.kind === "mcp" ? [{ tool, param: `tools[${at}]` }] : []));
  const labels = new Set<string>();
  const twice = mcp.find(({ tool: { label } }) => labels.size === labels.add(label).size);
  if (twice) {
    throw invalid({
      param: `${twice.param}.server_label`,
      message: `'${twice.tool.label}' is the label of two tools`,
    });
  }
  const found = await Promise.allSettled(
    mcp.map(({ tool, param }) => findServer(world, context, tool, param)),
  );
  return unwrap(found);
}

/** All values, or every fault at once. */
function unwrap<T>(results: PromiseSettledResult<T>[]): T[] {
  const faults: Fault[] = [];
  for (const result of results) {
    if (result.status === "fulfilled") continue;
    const refusal: unknown = result.reason;
    if (!(refusal instanceof BrokerError) || refusal.code !== "invalid") throw refusal;
    faults.push(...(refusal as BrokerError<"invalid">).details.faults);
  }
  if (faults.length > 0) throw invalid(...faults.slice(0, MAX_FAULTS));
  return results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
}

const MAX_FAULTS = 20;
/** Explicit calls of one request. */
const MAX_EXPLICIT_CALLS = 128;

/** Nothing but an item with status `calling` is ever executed from input, and only where no model decides. */
function explicitCalls(input: Item[], model: string | null, servers: Server[]): ToolCall[] {
  const faults: Fault[] = [];
  const calls: ToolCall[] = [];
  const labels = new Set(servers.map(({ label }) => label));
  for (const item of input) {
    if (item.kind !== "mcp_call" || item.status !== "calling") continue;
    if (model !== null) {
      throw invalid({
        param: "input",
        message: `an explicit call (mcp_call ${item.id}) cannot stand beside a model or an agent`,
      });
    }
    if (!labels.has(item.label)) {
      faults.push({
        param: "input",
        message:
          `the call ${item.id} names server_label '${item.label}', which no tool has: ` +
          `add ${JSON.stringify({ type: "mcp", server_label: item.label })} to tools`,
      });
    }
    calls.push(item);
  }
  if (faults.length > 0) throw invalid(...faults.slice(0, MAX_FAULTS));
  if (calls.length <= MAX_EXPLICIT_CALLS) return calls;
  throw invalid({
    param: "input",
    message: `may ask for at most ${MAX_EXPLICIT_CALLS} calls, this asks for ${calls.length}`,
  });
}

function requireWork(
  { world }: Only,
  turn: Pick<Plan, "chain" | "settled" | "servers" | "input" | "explicit" | "context"> & {
    request: TurnRequest;
  },
): void {
  const most = turn.request.maxToolCalls;
  if (most !== null && turn.explicit.length > most) {
    throw invalid({
      param: "max_tool_calls",
      message: `is ${most}, but the input asks for ${turn.explicit.length} calls`,
    });
  }
  if (turn.settled.model !== null) {
    if (!chooseModel(world, turn.context.project, turn.settled.model)) throw new BrokerError("no_model", {});
    if (turn.input.length > 0 || turn.chain?.stored || (turn.chain?.items.length ?? 0) > 0) return;
    throw invalid({ param: "input", message: "is empty: give the model something to answer" });
  }
  const answers = turn.input.some((item) => item.kind === "mcp_approval_response");
  if (turn.explicit.length > 0 || turn.servers.length > 0 || answers || turn.chain?.stored) return;
  const message =
    "name a model or an agent; without one, give MCP tools to list, or explicit calls " +
    '(input items {"type":"mcp_call","status":"calling",…})';
  throw invalid({ param: "model", message });
}

/** The servers of the stored calls that would run now: those that this request approves, and those that others approved. */
async function heldServers(
  { world }: Only,
  context: Context,
  chain: Chain | null,
  input: Item[],
): Promise<Server[]> {
  const project = context.project.name;
  const given = new Set(decisionsIn(input).flatMap(({ id, approve }) => (approve ? [id] : [])));
  const ids = new Set([...given, ...waitingRequests([...(chain?.items ?? []), ...input])]);
  const seenBy = viewer(context.caller, context.user);
  const calls = await Promise.all([...ids].map((id) => world.store.heldCalls.getOwned(project, id, seenBy)));
  const due = calls.flatMap((call) => {
    const isDue = call?.status === "approved" || (call?.status === "pending" && given.has(call.id));
    return isDue && call.connection ? [call.connection] : [];
  });
  const records = await Promise.all(due.map(({ name }) => world.store.connections.get(project, name)));
  return records.flatMap((record, at) =>
    record && record.connection.id === due[at]?.id ? [serverOf(toolFor(record.connection.name), record)] : [],
  );
}

/** The decisions of this request, and those that others took about the calls that the last turn asked for. */
async function takeDecisions(
  { world }: Only,
  context: Context,
  chain: Chain | null,
  input: Item[],
): Promise<Pick<Plan, "decided" | "undecided">> {
  const decided: HeldCall[] = [];
  for (const decision of decisionsIn(input)) decided.push(await decideAsOwner(world, context, decision));
  const undecided: HeldCall[] = [];
  const seenBy = viewer(context.caller, context.user);
  for (const id of waitingRequests([...(chain?.items ?? []), ...input])) {
    if (decided.some((call) => call.id === id)) continue;
    const call = await world.store.heldCalls.getOwned(context.project.name, id, seenBy);
    if (!call) continue;
    if (call.status === "pending" && call.expiresAt > world.clock.now()) undecided.push(call);
    else if (call.status !== "pending") decided.push(call);
  }
  return { decided, undecided };
}

function decisionsIn(input: Item[]): DecisionInput[] {
  const decisions = new Map<string, DecisionInput>();
  for (const item of input) {
    if (item.kind !== "mcp_approval_response") continue;
    const { requestId: id, approve, reason } = item;
    const earlier = decisions.get(id);
    if (earlier && earlier.approve !== approve) {
      throw invalid({ param: "input", message: `the approval ${id} is both given and refused` });
    }
    decisions.set(id, earlier ?? { id, approve, reason });
  }
  return [...decisions.values()];
}

/** Requests that nobody has spoken over: those after the last message of the user. */
function waitingRequests(items: Item[]): Set<string> {
  const lastSaid = items.findLastIndex((item) => item.kind === "message" && item.role === "user");
  const asked = items.slice(lastSaid + 1).filter((item) => item.kind === "mcp_approval_request");
  return new Set(asked.map((item) => item.id));
}

function beginResponse(
  { world }: Only,
  context: Context,
  request: TurnRequest,
  settled: Settled,
  chain: Chain | null,
): Response {
  return {
    id: world.newId("resp"),
    project: context.project.name,
    owner: { user: context.user, principal: context.caller.principal },
    status: "in_progress",
    createdAt: world.clock.now(),
    completedAt: null,
    model: settled.model,
    agent: settled.agent,
    previousResponseId: request.conversation
      ? null
      : (request.previousResponseId ?? chain?.stored?.response.id ?? null),
    conversation: chain?.conversation ?? null,
    instructions: settled.instructions,
    tools: settled.tools.map(withoutSecrets),
    toolChoice: settled.toolChoice,
    parallelToolCalls: request.parallelToolCalls ?? true,
    maxToolCalls: request.maxToolCalls,
    store: request.store,
    sampling: settled.sampling,
    metadata: request.metadata,
    safetyIdentifier: request.safetyIdentifier,
    user: request.user,
    usage: NO_USAGE,
    error: null,
    incompleteReason: null,
  };
}
