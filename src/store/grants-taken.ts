import { type SQL, and, eq, ne, sql } from "drizzle-orm";
import type { AuditEntry } from "../core/audit.ts";
import { auditRow } from "./audit.ts";
import { type Marked, type Statement, type Step, type Values, given, ifMarked, step } from "./engine.ts";
import type { Tables } from "./tables.ts";

/** What a revoked grant is from now on, until its authorization server was told. */
export const TAKEN_BACK = {
  status: "revoked",
  reason: null,
  untold: true,
  lease: null,
  leaseUntil: null,
} as const;

/**
 * Later statements of a list, after those that fail consents, for a consent that was finished just before has made a grant:
 * the grants that `which` names are taken back, if the marked row is there, each with an audit row made of `each`. Values:
 * those of the mark and of `which`, named unlike the columns of the audit, and `grantMark`.
 */
export function takeGrantsIfMarked(tables: Tables, row: Marked, which: SQL | undefined) {
  const { grants, connections, audit } = tables;
  const take: Statement<unknown> = (db) =>
    db
      .update(grants)
      .set({ ...TAKEN_BACK, writeId: given(grants.writeId, "grantMark") })
      .where(and(which, ne(grants.status, "revoked"), ifMarked(row)));
  const nameOf = sql`(select ${connections.name} from ${connections} where ${connections.project} = ${grants.project} and ${connections.id} = ${grants.connectionId})`;
  const columns: Record<keyof AuditEntry, SQL> = {
    // Time and count of the template, and what is the grant's own.
    id: sql`substr(${given(audit.id, "id")}, 1, ${sql.raw(`${TIMED_CHARS}`)}) || substr(${grants.id}, ${sql.raw(`${RANDOM_FROM}`)})`,
    project: given(audit.project, "project"),
    at: given(audit.at, "at"),
    event: given(audit.event, "event"),
    outcome: given(audit.outcome, "outcome"),
    principal: given(audit.principal, "principal"),
    user: sql`${grants.user}`,
    connection: nameOf,
    tool: given(audit.tool, "tool"),
    agent: given(audit.agent, "agent"),
    responseId: given(audit.responseId, "responseId"),
    approvalId: given(audit.approvalId, "approvalId"),
    requestId: given(audit.requestId, "requestId"),
    durationMs: given(audit.durationMs, "durationMs"),
    detail: sql`replace(${given(audit.detail, "detail")}, ${sql.raw(`'${OWN_ID}'`)}, ${grants.id})`,
  };
  const record: Statement<unknown> = (db) =>
    db
      .insert(audit)
      .select(
        sql`select ${sql.join(Object.values(columns), sql`, `)} from ${grants} where ${and(which, eq(grants.writeId, given(grants.writeId, "grantMark")))}`,
      );

  return (values: Values & { grantMark: string }, each: AuditEntry | undefined): Step<unknown>[] => {
    const taken = step(take, values);
    if (!each) return [taken];
    const detail = { ...each.detail, grant: OWN_ID };
    return [taken, step(record, { ...values, ...auditRow({ ...each, detail }) })];
  };
}

/** `evt_`, 12 digits of time and 4 of count; then 34 random digits, here the last of the grant's id. */
const TIMED_CHARS = 20;
const RANDOM_FROM = "grant_".length + 50 - 34 + 1;
const OWN_ID = "{grant}";
