import * as z from "zod";
import { AUDIT_EVENTS, type AuditEntry } from "../../core/audit.ts";
import type { AuditFilter } from "../../core/storage.ts";
import { userIdIn } from "../../core/administration/users.ts";
import { moment, pageQuery, strictQuery, writeMoment } from "./common.ts";

const OUTCOMES = ["ok", "failed", "refused"] as const;

export const auditQuery = strictQuery({
  ...pageQuery.shape,
  event: z.enum(AUDIT_EVENTS).optional(),
  outcome: z.enum(OUTCOMES).optional(),
  user: z.string().min(1).optional(),
  principal: z.string().optional(),
  connection: z.string().optional(),
  tool: z.string().optional(),
  responseId: z.string().optional(),
  approvalId: z.string().optional(),
  requestId: z.string().optional(),
  since: moment.optional(),
  until: moment.optional(),
});

/** The query without its paging. A bare user name means `app:`. */
export function readAuditFilter(query: z.infer<typeof auditQuery>): AuditFilter {
  const { limit: _, after: __, "api-version": ___, user, ...filter } = query;
  const given = Object.entries(filter).filter(([, value]) => value !== undefined);
  // Only members that are there, each as its shape made it.
  const present = Object.fromEntries(given) as Omit<AuditFilter, "user">;
  return user === undefined ? present : { ...present, user: userIdIn(user) };
}

export const auditBody = z.object({
  id: z.string(),
  at: z.string(),
  event: z.enum(AUDIT_EVENTS),
  outcome: z.enum(OUTCOMES),
  principal: z.string().nullable(),
  user: z.string().nullable(),
  connection: z.string().nullable(),
  tool: z.string().nullable(),
  agent: z.string().nullable(),
  responseId: z.string().nullable(),
  approvalId: z.string().nullable(),
  requestId: z.string().nullable(),
  durationMs: z.number().nullable(),
  detail: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])),
});

export function writeAuditEntry(entry: AuditEntry): z.infer<typeof auditBody> {
  const { project: _, at, ...facts } = entry;
  return { ...facts, at: writeMoment(at) };
}
