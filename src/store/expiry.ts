import { type Column, type SQL, and, eq, isNotNull, isNull, lt, lte, or, sql } from "drizzle-orm";
import type { SQLiteTable } from "drizzle-orm/sqlite-core";
import type { Expiry } from "../core/expiry.ts";
import { type Engine, type Statement, given, newMark, step } from "./engine.ts";
import { OVER } from "./open-consents.ts";

/** The first `limit` rows of those, by one column, for the WHERE of a statement that changes no more than them. */
export function firstOf(table: SQLiteTable, columns: readonly Column[], where: SQL, order: Column): SQL {
  const key = sql.join(
    columns.map((column) => sql`${column}`),
    sql`, `,
  );
  return sql`(${key}) in (select ${key} from ${table} where ${where} order by ${order} limit ${sql.placeholder("limit")})`;
}

/** Every WHERE says again what is over, for whatever has changed since the rows were chosen. */
export function createExpiry(engine: Engine): Expiry {
  const { boxChunks, consents, handles, heldCalls, idempotency, redirects } = engine.tables;

  const isUnused = sql`${isNotNull(consents.slot)} and ${lte(consents.expiresAt, given(consents.expiresAt, "now"))} and ${or(
    isNull(consents.stateExpiresAt),
    lte(consents.stateExpiresAt, given(consents.stateExpiresAt, "now")),
  )}`;
  const expireConsents: Statement<{ id: string }[]> = (db) =>
    db
      .update(consents)
      .set({
        ...OVER,
        status: "expired",
        outcome: "expired",
        endedAt: given(consents.endedAt, "now"),
        writeId: given(consents.writeId, "mark"),
      })
      .where(and(isUnused, firstOf(consents, [consents.id], isUnused, consents.expiresAt)))
      .returning({ id: consents.id });
  const hasEnded = sql`${lt(consents.endedAt, given(consents.endedAt, "before"))}`;
  const removeConsents: Statement<{ id: string }[]> = (db) =>
    db
      .delete(consents)
      .where(firstOf(consents, [consents.id], hasEnded, consents.endedAt))
      .returning({ id: consents.id });

  const isOverdue = sql`${eq(heldCalls.status, "pending")} and ${lte(heldCalls.expiresAt, given(heldCalls.expiresAt, "now"))}`;
  const expireCalls: Statement<{ id: string }[]> = (db) =>
    db
      .update(heldCalls)
      .set({ status: "expired", writeId: given(heldCalls.writeId, "mark") })
      .where(and(isOverdue, firstOf(heldCalls, [heldCalls.id], isOverdue, heldCalls.expiresAt)))
      .returning({ id: heldCalls.id });
  const isLost = sql`${eq(heldCalls.status, "dispatched")} and ${lt(heldCalls.leaseUntil, given(heldCalls.leaseUntil, "now"))}`;
  const loseCalls: Statement<{ id: string }[]> = (db) =>
    db
      .update(heldCalls)
      .set({ status: "unknown", leaseUntil: null, writeId: given(heldCalls.writeId, "mark") })
      .where(and(isLost, firstOf(heldCalls, [heldCalls.id], isLost, heldCalls.expiresAt)))
      .returning({ id: heldCalls.id });

  const isGone = sql`${lte(handles.expiresAt, given(handles.expiresAt, "now"))}`;
  const removeHandles: Statement<{ hash: string }[]> = (db) =>
    db
      .delete(handles)
      .where(firstOf(handles, [handles.kind, handles.hash], isGone, handles.expiresAt))
      .returning({ hash: handles.hash });

  const isForgotten = sql`${lte(idempotency.expiresAt, given(idempotency.expiresAt, "now"))}`;
  const slot = [idempotency.project, idempotency.slot];
  const markRequests: Statement<{ run: string }[]> = (db) =>
    db
      .update(idempotency)
      .set({ writeId: given(idempotency.writeId, "mark") })
      .where(and(isForgotten, firstOf(idempotency, slot, isForgotten, idempotency.expiresAt)))
      .returning({ run: idempotency.run });
  const isMarked = and(isForgotten, eq(idempotency.writeId, given(idempotency.writeId, "mark")));
  const removeAnswers: Statement<unknown> = (db) =>
    db.delete(boxChunks)
      .where(sql`(${boxChunks.project}, ${boxChunks.owner}) in (select ${idempotency.project}, ${idempotency.run}
        from ${idempotency} where ${isMarked})`);
  const removeRequests: Statement<unknown> = (db) => db.delete(idempotency).where(isMarked);

  const hasAged = sql`${lte(redirects.agedAt, given(redirects.agedAt, "before"))}`;
  const removeRedirects: Statement<{ id: string }[]> = (db) =>
    db
      .delete(redirects)
      .where(and(hasAged, firstOf(redirects, [redirects.ownerKey], hasAged, redirects.agedAt)))
      .returning({ id: redirects.id });

  const count = async (
    statement: Statement<unknown[]>,
    values: { limit: number } & Record<string, unknown>,
  ) => (await engine.run(statement, values)).length;

  return {
    consents: (now, limit) => count(expireConsents, { now, limit, mark: newMark() }),
    endedConsents: (before, limit) => count(removeConsents, { before, limit }),
    heldCalls: (now, limit) => count(expireCalls, { now, limit, mark: newMark() }),
    dispatchedCalls: (now, limit) => count(loseCalls, { now, limit, mark: newMark() }),
    handles: (now, limit) => count(removeHandles, { now, limit }),
    redirects: (before, limit) => count(removeRedirects, { before, limit }),

    idempotency: async (now, limit) => {
      const values = { now, limit, mark: newMark() };
      const [marked] = await engine.atomic([
        step(markRequests, values),
        step(removeAnswers, values),
        step(removeRequests, values),
      ]);
      return marked.length;
    },
  };
}
