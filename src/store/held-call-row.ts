import type { HeldCall } from "../core/storage.ts";
import { headOf } from "./boxes.ts";
import type { Values } from "./engine.ts";
import type { Tables } from "./tables.ts";

export type HeldCallRow = Tables["heldCalls"]["$inferSelect"];

// The boxes of a held call.
export const CALL = 0;
export const REASON = 1;
export const OUTCOME = 2;

/** `position`: the place among those asked at the same time. */
export function rowOf(call: HeldCall, position: number, writeId: string): Values {
  const { owner, agent, connection, ...rest } = call;
  return {
    ...rest,
    ownerUser: owner.user,
    ownerPrincipal: owner.principal,
    position,
    agentName: agent?.name ?? null,
    agentVersion: agent?.version ?? null,
    connectionName: connection?.name ?? null,
    connectionId: connection?.id ?? null,
    connectionGeneration: connection?.generation ?? null,
    connectionVersion: connection?.version ?? null,
    sealed: headOf(call.sealed),
    sealedReason: call.sealedReason && headOf(call.sealedReason),
    sealedOutcome: call.sealedOutcome && headOf(call.sealedOutcome),
    writeId,
  };
}

/** A row with its whole boxes. */
export function callOf(
  row: HeldCallRow,
  boxes: Pick<HeldCall, "sealed" | "sealedReason" | "sealedOutcome">,
): HeldCall {
  return {
    id: row.id,
    project: row.project,
    owner: { user: row.ownerUser, principal: row.ownerPrincipal },
    responseId: row.responseId,
    model: row.model,
    agent:
      row.agentName === null || row.agentVersion === null
        ? null
        : { name: row.agentName, version: row.agentVersion },
    callId: row.callId,
    label: row.label,
    connection: connectionOf(row),
    target: row.target,
    tool: row.tool,
    argumentsDigest: row.argumentsDigest,
    definitionHash: row.definitionHash,
    approvers: row.approvers,
    status: row.status,
    createdAt: row.createdAt,
    expiresAt: row.expiresAt,
    decidedAt: row.decidedAt,
    decidedBy: row.decidedBy,
    leaseUntil: row.leaseUntil,
    ...boxes,
  };
}

function connectionOf(row: HeldCallRow): HeldCall["connection"] {
  const { connectionName, connectionId, connectionGeneration, connectionVersion } = row;
  if (connectionName === null || connectionId === null) return null;
  if (connectionGeneration === null || connectionVersion === null) return null;
  return {
    name: connectionName,
    id: connectionId,
    generation: connectionGeneration,
    version: connectionVersion,
  };
}
