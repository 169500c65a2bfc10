import type { AccessDesk, Failure } from "./access.ts";
import { type Asking, factsOf, holdCalls, isSomebodyElse, openHeld } from "./approval.ts";
import { type CallEnd, failed, failureText, makeCall, type ReadyCall, unknownTool } from "./calls.ts";
import { auditEntry, type Context } from "./context.ts";
import { longestCallMs } from "./call-progress.ts";
import { isRefusal } from "./errors.ts";
import { isJsonObject, type Json } from "./json.ts";
import type { CallError } from "./items.ts";
import type { World } from "./ports.ts";
import type { McpTool } from "./request.ts";
import { findByUrl, type Server, serverOf } from "./servers.ts";
import { type HeldCall, heldCallAad } from "./storage.ts";
import { judge, type KnownTool, type ToolDesk } from "./tools.ts";
import { untilKept } from "./until-kept.ts";

export type Desks = { world: World; access: AccessDesk; tools: ToolDesk };

/** What is to be done about an approved call, judged anew at the moment of running it. */
export type Review =
  | { kind: "run"; server: Server; tool: KnownTool; arguments: string }
  /** Target, auth or definition are not what was approved: the person is asked about what would run now. */
  | { kind: "ask_again"; server: Server; tool: KnownTool; arguments: string }
  | { kind: "fail"; end: CallEnd }
  /** It stays approved: the person must connect an account first. */
  | { kind: "consent"; request: (Failure & { kind: "consent" })["request"] };

/**
 * The request as the agent's whose call it is: an approval that is answered by its id alone names no agent, and the call
 * must not run as another identity for that. Reads only where the two differ. An agent that is gone, disabled, or another one
 * under its name acts as nobody: what others share was not its own.
 */
export async function asItsAgent(
  { store }: Pick<World, "store">,
  context: Context,
  call: HeldCall,
): Promise<Context> {
  const name = call.agent?.name ?? null;
  if (name === null) return { ...context, agent: null, agentIdentity: null, agentMadeAt: null };
  if (name === context.agent) return wasThere(context.agentMadeAt, call) ? context : asNobody(context, name);
  const agent = await store.agents.get(call.project, name);
  if (!agent || agent.state === "disabled" || !wasThere(agent.createdAt, call))
    return asNobody(context, name);
  return { ...context, agent: name, agentIdentity: agent.identity, agentMadeAt: agent.createdAt };
}

const wasThere = (madeAt: number | null | undefined, { createdAt }: HeldCall) =>
  madeAt != null && madeAt <= createdAt;

const asNobody = (context: Context, agent: string): Context => ({
  ...context,
  agent,
  agentIdentity: "own",
  agentMadeAt: null,
});

/**
 * Compares an approved call with the world as it is: connection, target, auth, definition, allow-lists, approver, age. The
 * stored call is the one that runs, at the stored place with the stored credentials; of today's request only its
 * allow-list counts (`asked`).
 */
export async function review(
  desks: Desks,
  context: Context,
  call: HeldCall,
  asked: McpTool | null,
): Promise<Review> {
  const held = await openHeld(desks.world, call);
  const found = await serverOfHeld(desks.world, context, call, {
    kind: "mcp",
    label: call.label,
    connection: call.connection?.name ?? null,
    serverUrl: call.target,
    description: null,
    requireApproval: "always",
    allowedTools: asked?.allowedTools ?? null,
    authorization: held.authorization,
    headers: held.headers,
  });
  if ("gone" in found) return fail(found.gone);
  const { server } = found;
  const listing = await desks.tools.list(context, server, { fresh: true });
  if (!listing.ok && listing.failure.kind === "consent")
    return { kind: "consent", request: listing.failure.request };
  if (!listing.ok)
    return fail(`the call was not made, the server could not be asked: ${failureText(listing.failure)}`);
  const verdict = judge(server, listing, call.tool);
  if (verdict.kind === "unknown") return { kind: "fail", end: unknownTool(call.tool) };
  const isSame =
    server.record?.connection.generation === call.connection?.generation &&
    server.url === call.target &&
    verdict.tool.hash === call.definitionHash &&
    isStillGiven(desks.world, context, call, server);
  return { kind: isSame ? "run" : "ask_again", server, tool: verdict.tool, arguments: held.arguments };
}

/** An approval does not keep for ever, and not beyond a rule that asks for somebody else's. */
function isStillGiven(world: World, context: Context, call: HeldCall, server: Server): boolean {
  const { expireAfterMs } = context.project.settings.approvals;
  if (call.decidedAt !== null && call.decidedAt + expireAfterMs <= world.clock.now()) return false;
  const byRole = server.policies.some((policy) => policy.approvers === "role");
  return !byRole || call.decidedBy === null || isSomebodyElse(call.decidedBy, call);
}

function fail(message: string): Review {
  return { kind: "fail", end: failed({ kind: "http", code: 502, message }) };
}

/** What comes of an approved call whose caller or user was taken away meanwhile. */
export function refusedReview(why: string): Review {
  return { kind: "fail", end: failed({ kind: "http", code: 403, message: `the call was not made: ${why}` }) };
}

async function serverOfHeld(
  world: World,
  context: Context,
  call: HeldCall,
  tool: McpTool,
): Promise<{ server: Server } | { gone: string }> {
  if (call.connection) {
    const record = await world.store.connections.get(call.project, call.connection.name);
    if (record?.connection.id !== call.connection.id)
      return { gone: `the connection ${call.connection.name} was deleted` };
    return { server: serverOf(tool, record) };
  }
  try {
    // By its URL alone: a connection that has the label's name by now is another server.
    return { server: await findByUrl(world, context, { ...tool, serverUrl: call.target }, "tools") };
  } catch (error) {
    if (!isRefusal(error, "invalid")) throw error;
    return { gone: `the server of ${call.label} is no longer allowed` };
  }
}

/**
 * `approved` → `dispatched`, committed before anything leaves. False: somebody else has it. The lease outlives
 * whatever time the call may take, so that a live runner is never taken for a dead one.
 */
export async function claimCall(
  world: World,
  context: Context,
  call: HeldCall,
  timeoutMs: number,
): Promise<boolean> {
  const leaseUntil = world.clock.now() + longestCallMs(context, timeoutMs) + LEASE_MARGIN_MS;
  const entry = auditEntry(world, context, "approval_dispatched", factsOf(call));
  const row = await world.store.heldCalls.claim({ project: call.project, id: call.id, leaseUntil }, [entry]);
  return row !== null;
}

const LEASE_MARGIN_MS = 10_000;

/** Runs a claimed call and keeps what came of it. */
export async function runClaimed(
  { world, access }: Desks,
  context: Context,
  call: HeldCall,
  ready: ReadyCall,
): Promise<CallEnd> {
  const facts = { agent: call.agent?.name ?? null, responseId: call.responseId, approvalId: call.id };
  const end = await makeCall(world, access, context, ready, facts);
  await keepEnd(world, call, end);
  return end;
}

/** An approved call that may not run any more: claimed all the same, so that no replayed approval ever runs it. */
export async function failClaimed(
  world: World,
  context: Context,
  call: HeldCall,
  end: CallEnd,
): Promise<boolean> {
  const leaseUntil = world.clock.now() + LEASE_MARGIN_MS;
  const entry = auditEntry(world, context, "tool_refused", { ...factsOf(call), outcome: "refused" });
  const row = await world.store.heldCalls.claim({ project: call.project, id: call.id, leaseUntil }, [entry]);
  if (row) await keepEnd(world, call, end);
  return row !== null;
}

async function keepEnd(world: World, call: HeldCall, end: CallEnd): Promise<void> {
  const sealedOutcome = await world.sealer.seal(
    JSON.stringify(end),
    heldCallAad(call.project, call.id, "outcome"),
  );
  const done = { project: call.project, id: call.id, sealedOutcome };
  await untilKept(world.clock, () => world.store.heldCalls.finish(done, []));
}

/** Asks anew about what would run now. Null: somebody else already took the approval. */
export async function askAgain(
  world: World,
  context: Context,
  call: HeldCall,
  now: { server: Server; tool: KnownTool; arguments: string },
  asking: Asking,
): Promise<HeldCall | null> {
  const entry = auditEntry(world, context, "approval_superseded", factsOf(call));
  const cancelled = await world.store.heldCalls.cancel(call.project, call.id, [entry]);
  if (!cancelled) return null;
  const [again] = await holdCalls(world, context, [{ ...now, callId: call.callId, why: "changed" }], asking);
  return again ?? null;
}

/**
 * Waits until whoever runs the call has an end for it, or counts as dead. Gives the call as it is then; `dispatched`
 * only if the waiting request was given up.
 */
export async function awaitEnd(world: World, context: Context, call: HeldCall): Promise<HeldCall> {
  let current = call;
  while (current.status === "dispatched" || current.status === "approved") {
    if (context.signal.aborted) return current;
    const now = world.clock.now();
    const over = current.leaseUntil !== null && current.leaseUntil <= now;
    const next = over
      ? await world.store.heldCalls.expireLease(current.project, current.id, now)
      : await world.store.heldCalls.get(current.project, current.id);
    if (!next) return current;
    current = next;
    if (current.status === "dispatched") await world.clock.sleep(POLL_MS, context.signal);
    if (current.status === "approved") return current;
  }
  return current;
}

const POLL_MS = 100;

/** What came of a call that ended. Null: nothing, it did not run (denied, superseded, undecided). */
export async function endOf(world: World, call: HeldCall): Promise<CallEnd | null> {
  if (call.status === "unknown") return failed(MAY_HAVE_RUN);
  if (call.status !== "done" || !call.sealedOutcome) return null;
  const plain = await world.sealer.open(call.sealedOutcome, heldCallAad(call.project, call.id, "outcome"));
  const body: Json = JSON.parse(plain);
  if (!isJsonObject(body)) throw new Error("a held call's outcome is not one");
  const { output, error } = body;
  // Written by keepEnd and sealed: the shape is our own.
  return { output: typeof output === "string" ? output : null, error: (error ?? null) as CallError | null };
}

/** What is said of a call whose process died meanwhile. */
export const MAY_HAVE_RUN: CallError = {
  kind: "http",
  code: 504,
  message: "The broker stopped while this call was under way. The tool may have run; it is not run again.",
};
