import * as z from "zod";
import { HELD_CALL_STATUSES, type HeldCall } from "../../core/storage.ts";
import { pageQuery, strictQuery, writeMoment } from "./common.ts";

export const approvalQuery = strictQuery({
  ...pageQuery.shape,
  status: z.enum(HELD_CALL_STATUSES).optional(),
});

export const decision = z.object({
  approve: z.boolean(),
  reason: z.string().max(4_096).nullable().default(null),
});

export const approvalBody = z.object({
  id: z.string(),
  status: z.enum(HELD_CALL_STATUSES),
  serverLabel: z.string(),
  connection: z.string().nullable(),
  target: z.string(),
  tool: z.string(),
  /** The exact text that runs if this is approved. */
  arguments: z.string(),
  argumentsDigest: z.string(),
  definitionHash: z.string(),
  user: z.string().nullable(),
  principal: z.string(),
  agent: z.string().nullable(),
  responseId: z.string().nullable(),
  approvers: z.enum(["caller", "role"]),
  createdAt: z.string(),
  expiresAt: z.string(),
  decidedAt: z.string().nullable(),
  decidedBy: z.string().nullable(),
  reason: z.string().nullable(),
});

/** `opened`: what was sealed in the row. A row past its expiry is `expired`, whether or not it was swept. */
export function writeApproval(
  call: HeldCall,
  opened: { arguments: string; reason: string | null; now: number },
): z.infer<typeof approvalBody> {
  const isOver = call.status === "pending" && call.expiresAt <= opened.now;
  return {
    id: call.id,
    status: isOver ? "expired" : call.status,
    serverLabel: call.label,
    connection: call.connection?.name ?? null,
    target: call.target,
    tool: call.tool,
    arguments: opened.arguments,
    argumentsDigest: call.argumentsDigest,
    definitionHash: call.definitionHash,
    user: call.owner.user,
    principal: call.owner.principal,
    agent: call.agent?.name ?? null,
    responseId: call.responseId,
    approvers: call.approvers,
    createdAt: writeMoment(call.createdAt),
    expiresAt: writeMoment(call.expiresAt),
    decidedAt: call.decidedAt === null ? null : writeMoment(call.decidedAt),
    decidedBy: call.decidedBy,
    reason: opened.reason,
  };
}
