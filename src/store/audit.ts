import { and, desc, eq, gte, lt } from "drizzle-orm";
import type { AuditEntry } from "../core/audit.ts";
import type { AuditLog } from "../core/storage.ts";
import {
  type Engine,
  MAX_PARAMETERS,
  type Marked,
  type Statement,
  type Step,
  type Values,
  byCount,
  insertIfMarked,
  pieces,
  placeholderRows,
  rowValues,
  step,
} from "./engine.ts";
import { listed } from "./paging.ts";
import type { Tables } from "./tables.ts";

export function createAuditLog(engine: Engine): AuditLog {
  const { audit } = engine.tables;
  const unconditional = createAuditInsert(engine.tables);
  return {
    append: async (entries) => {
      if (entries.length > 0) await engine.atomic(unconditional(entries));
    },

    list: async (project, filter, page) => {
      const is = <K extends keyof typeof filter & keyof typeof audit>(name: K) =>
        filter[name] === undefined ? undefined : eq(audit[name], filter[name]);
      const rows = await engine.run((db) =>
        db
          .select()
          .from(audit)
          .where(
            and(
              eq(audit.project, project),
              page.after === null ? undefined : lt(audit.id, auditId(page.after)),
              is("event"),
              is("outcome"),
              is("user"),
              is("principal"),
              is("connection"),
              is("tool"),
              is("responseId"),
              is("approvalId"),
              is("requestId"),
              filter.since === undefined ? undefined : gte(audit.at, filter.since),
              filter.until === undefined ? undefined : lt(audit.at, filter.until),
            ),
          )
          .orderBy(desc(audit.id))
          .limit(page.limit + 1),
      );
      return listed(rows, page.limit);
    },
  };
}

/**
 * Inserts entries, many in a statement. An entry that is there already stays as it is, so that a batch whose answer
 * was lost can be written again.
 */
export function createAuditInsert(tables: Tables): (entries: AuditEntry[]) => Step<unknown>[] {
  const { audit } = tables;
  const insert = byCount<Statement<unknown>>(
    (count) => (db) => db.insert(audit).values(placeholderRows(audit, count)).onConflictDoNothing(),
  );
  return (entries) =>
    pieces(entries, ROWS_PER_STATEMENT).map((piece) =>
      step(insert(piece.length), rowValues(piece.map(auditRow))),
    );
}

/** Inserts entries as later statements of a list: only if the marked row is there. */
export function createMarkedAudit(tables: Tables, row: Marked) {
  const insert = insertIfMarked(tables.audit, row);
  return (entries: AuditEntry[], markedValues: Values): Step<unknown>[] =>
    entries.map((entry) => step(insert, { ...auditRow(entry), ...markedValues }));
}

const AUDIT_COLUMNS = 15;
const ROWS_PER_STATEMENT = Math.floor(MAX_PARAMETERS / AUDIT_COLUMNS);

/** The values of an entry, by the columns' names. */
export function auditRow(entry: AuditEntry): Values {
  return {
    id: entry.id,
    project: entry.project,
    at: entry.at,
    event: entry.event,
    outcome: entry.outcome,
    principal: entry.principal,
    user: entry.user,
    connection: entry.connection,
    tool: entry.tool,
    agent: entry.agent,
    responseId: entry.responseId,
    approvalId: entry.approvalId,
    requestId: entry.requestId,
    // PostgreSQL's integers refuse a fraction, and clocks of high resolution give them.
    durationMs: entry.durationMs === null ? null : Math.round(entry.durationMs),
    detail: entry.detail,
  };
}

// `after` is what a caller sent. Any text may be compared with an id.
const auditId = (text: string) => text as AuditEntry["id"];
