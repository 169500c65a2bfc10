import { principalOfUser } from "./callers.ts";
import { auditEntry, type Context } from "./context.ts";
import { BrokerError } from "./errors.ts";
import { type Viewer, viewer } from "./identity.ts";
import type { HeldCallId, ResponseId } from "./ids.ts";
import type { ApprovalRequest } from "./items.ts";
import { isJsonObject, textMembers } from "./json.ts";
import type { HeaderValues } from "./connection.ts";
import type { World } from "./ports.ts";
import type { Server } from "./servers.ts";
import { type HeldCall, heldCallAad } from "./storage.ts";
import type { KnownTool } from "./tools.ts";

/** A call that must wait, as it is about to be stored. */
export type Hold = {
  server: Server;
  tool: KnownTool;
  /** The id of the `mcp_call` item to be. */
  callId: string;
  arguments: string;
  why: "policy" | "changed";
};

/** The response that asks. `id` null with `store:false`: then the held call keeps no context. */
export type Asking = {
  id: ResponseId | null;
  model: string | null;
  agent: { name: string; version: number } | null;
};

/** The part of a held call that only the one who runs or decides it reads. */
export type HeldSecrets = { arguments: string; authorization: string | null; headers: HeaderValues };

/** Stores calls whole, before anybody is asked about them. Gives them in the same order. */
export async function holdCalls(
  world: World,
  context: Context,
  holds: Hold[],
  asking: Asking,
): Promise<HeldCall[]> {
  if (holds.length === 0) return [];
  const now = world.clock.now();
  const calls = await Promise.all(holds.map((hold) => heldCallOf(world, context, hold, asking, now)));
  const entries = calls.map((call, at) =>
    auditEntry(world, context, "approval_requested", {
      ...factsOf(call),
      detail: {
        argumentsDigest: call.argumentsDigest,
        definitionHash: call.definitionHash,
        why: holds[at]?.why ?? null,
      },
    }),
  );
  await world.store.heldCalls.insert(calls, entries);
  world.observer.approvalBecame("requested", calls.length);
  return calls;
}

async function heldCallOf(
  world: World,
  context: Context,
  { server, tool, callId, arguments: text }: Hold,
  asking: Asking,
  now: number,
): Promise<HeldCall> {
  const id = world.newId("mcpr");
  const connection = server.record?.connection ?? null;
  const secrets: HeldSecrets = {
    arguments: text,
    authorization: connection ? null : server.tool.authorization,
    headers: connection ? {} : server.tool.headers,
  };
  const project = context.project.name;
  return {
    id,
    project,
    owner: { user: context.user, principal: context.caller.principal },
    responseId: asking.id,
    model: asking.model,
    agent: asking.agent,
    callId,
    label: server.label,
    connection: connection && {
      name: connection.name,
      id: connection.id,
      generation: connection.generation,
      version: connection.version,
    },
    target: server.url,
    tool: tool.definition.name,
    argumentsDigest: await world.crypto.sha256(text),
    definitionHash: tool.hash,
    approvers: server.policies.some((policy) => policy.approvers === "role") ? "role" : "caller",
    sealed: await world.sealer.seal(JSON.stringify(secrets), heldCallAad(project, id, "call")),
    status: "pending",
    createdAt: now,
    expiresAt: now + context.project.settings.approvals.expireAfterMs,
    decidedAt: null,
    decidedBy: null,
    sealedReason: null,
    leaseUntil: null,
    sealedOutcome: null,
  };
}

export async function openHeld(world: World, call: HeldCall): Promise<HeldSecrets> {
  const body: unknown = JSON.parse(
    await world.sealer.open(call.sealed, heldCallAad(call.project, call.id, "call")),
  );
  if (!isJsonObject(body) || typeof body["arguments"] !== "string")
    throw new Error("a held call's box holds no call");
  const { authorization, headers } = body;
  return {
    arguments: body["arguments"],
    authorization: typeof authorization === "string" ? authorization : null,
    headers: textMembers(headers),
  };
}

export async function openReason(world: World, call: HeldCall): Promise<string | null> {
  if (!call.sealedReason) return null;
  return world.sealer.open(call.sealedReason, heldCallAad(call.project, call.id, "reason"));
}

/** The item that asks; the same each time it is shown. */
export async function requestItem(world: World, call: HeldCall): Promise<ApprovalRequest> {
  const { arguments: text } = await openHeld(world, call);
  return { kind: "mcp_approval_request", id: call.id, label: call.label, name: call.tool, arguments: text };
}

export type DecisionInput = { id: string; approve: boolean; reason: string | null };

/**
 * Records a decision that came with the owner's request, once, and gives the call as it stands afterwards. A decision
 * that is recorded already is history if it was the same: clients resend their past with every turn.
 *
 * Throws `approval_not_found` (unknown and foreign alike), `approval_expired`, `approval_cancelled`,
 * `approval_contradicted`, `approval_needs_role`.
 */
export async function decideAsOwner(world: World, context: Context, input: DecisionInput): Promise<HeldCall> {
  const seenBy = viewer(context.caller, context.user);
  return decide(world, context, input, () =>
    world.store.heldCalls.getOwned(context.project.name, input.id, seenBy),
  );
}

/**
 * `…/approvals/{id}:decide`: only decides; the stored call runs on the owner's next request. An approver decides every
 * call of the project, a runtime those that its own requests asked for.
 */
export async function decideByRest(world: World, context: Context, input: DecisionInput): Promise<HeldCall> {
  const { name } = context.project;
  if (context.caller.roles.includes("approver")) {
    return decide(world, context, input, () => world.store.heldCalls.get(name, input.id));
  }
  return decideAsOwner(world, context, input);
}

async function decide(
  world: World,
  context: Context,
  { id, approve, reason }: DecisionInput,
  read: () => Promise<HeldCall | null>,
): Promise<HeldCall> {
  const call = await read();
  if (!call) throw new BrokerError("approval_not_found", { id });
  const recorded = recordedDecision(call);
  if (recorded !== null) {
    if (recorded === approve) return call;
    throw new BrokerError("approval_contradicted", { id, recorded: recorded ? "approve" : "deny" });
  }
  const now = world.clock.now();
  if (call.status === "cancelled") throw new BrokerError("approval_cancelled", { id });
  if (call.status === "expired" || call.expiresAt <= now) throw new BrokerError("approval_expired", { id });
  await requireApprover(world, context, call);
  const sealedReason =
    reason === null ? null : await world.sealer.seal(reason, heldCallAad(call.project, call.id, "reason"));
  const decided = await world.store.heldCalls.decide(
    { project: call.project, id: call.id, approve, decidedBy: context.caller.principal, sealedReason, now },
    [auditEntry(world, context, approve ? "approval_approved" : "approval_denied", factsOf(call))],
  );
  if (decided) world.observer.approvalBecame(approve ? "approved" : "denied");
  // Somebody else was first, or it ended meanwhile: what is recorded now decides, by the same rules.
  return decided ?? decide(world, context, { id, approve, reason }, read);
}

/** True approved, false denied, null undecided. */
function recordedDecision(call: HeldCall): boolean | null {
  switch (call.status) {
    case "approved":
    case "dispatched":
    case "done":
    case "unknown":
      return true;
    case "denied":
      return false;
    case "cancelled":
      // Superseded after its approval, or cancelled before anybody decided.
      return call.decidedBy === null ? null : true;
    case "pending":
    case "expired":
      return null;
  }
}

/** Four eyes where the connection asks for them, at the time of the call or since. */
async function requireApprover(world: World, context: Context, call: HeldCall): Promise<void> {
  const record = call.connection && (await world.store.connections.get(call.project, call.connection.name));
  const byRole = call.approvers === "role" || record?.connection.approvers === "role";
  if (!byRole) return;
  if (context.caller.roles.includes("approver") && isSomebodyElse(context.caller.principal, call)) {
    if (context.user === null || context.user !== call.owner.user) return;
  }
  throw new BrokerError("approval_needs_role", { id: call.id });
}

/** Whether a principal is another caller than the call's, and not the very person whom the call is for. */
export function isSomebodyElse(principal: string, { owner }: HeldCall): boolean {
  if (principal === owner.principal) return false;
  return owner.user === null || principal !== principalOfUser(owner.user);
}

export async function getApproval(world: World, context: Context, id: string): Promise<HeldCall | null> {
  const seenBy = approvalViewer(context);
  const { name } = context.project;
  return seenBy === null
    ? world.store.heldCalls.get(name, id)
    : world.store.heldCalls.getOwned(name, id, seenBy);
}

/** Null: sees all of the project's. */
export function approvalViewer({ caller, user }: Context): Viewer | null {
  const seesAll = caller.roles.includes("approver") || caller.roles.includes("admin");
  return seesAll ? null : viewer(caller, user);
}

export function factsOf(call: HeldCall): {
  connection: string | null;
  tool: string;
  agent: string | null;
  responseId: ResponseId | null;
  approvalId: HeldCallId;
} {
  return {
    connection: call.connection?.name ?? null,
    tool: call.tool,
    agent: call.agent?.name ?? null,
    responseId: call.responseId,
    approvalId: call.id,
  };
}
