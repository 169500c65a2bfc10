import { and, asc, eq, getTableColumns, gt, isNull, lt, or, sql } from "drizzle-orm";
import type { Grant, Grants } from "../core/grants.ts";
import { headOf } from "./boxes.ts";
import { type Engine, type Statement, allGiven, given, marked, newMark, step } from "./engine.ts";
import { keyOf, withChunks } from "./grant-boxes.ts";
import { createGrantRevocations } from "./grant-revocations.ts";
import { createGrantRows, grantId } from "./grant-rows.ts";
import { OVER } from "./open-consents.ts";
import { listed } from "./paging.ts";

export function createGrants(engine: Engine): Grants {
  const { grants, consents } = engine.tables;
  const rows = createGrantRows(engine);
  const { audited, boxes, current, fields, inProject, isAt, mark, noLease, one, wholePage } = rows;
  const consentRow = marked(consents, [consents.id]);
  const isActive = eq(grants.status, "active");

  const find: Statement<Grant[]> = (db) =>
    db
      .select(fields)
      .from(grants)
      .where(and(inProject, eq(grants.id, given(grants.id, "id"))));
  const connect: Statement<{ id: string }[]> = (db) =>
    db
      .update(consents)
      .set({
        ...OVER,
        status: "connected",
        endedAt: given(consents.endedAt, "at"),
        writeId: given(consents.writeId, "mark"),
      })
      .where(
        and(
          eq(consents.id, given(consents.id, "consent")),
          eq(consents.status, "authorizing"),
          eq(consents.attempt, given(consents.attempt, "attempt")),
          // A consent is for nothing but its own grant.
          eq(consents.project, given(consents.project, "project")),
          eq(consents.connectionId, given(consents.connectionId, "connectionId")),
          eq(consents.user, given(consents.user, "user")),
        ),
      )
      .returning({ id: consents.id });
  const { project: _p, connectionId: _c, user: _u, ...replaced } = getTableColumns(grants);
  const put: Statement<Grant[]> = (db) =>
    db
      .insert(grants)
      .select(sql`select ${allGiven(grants)} from ${consents} where ${consentRow.where}`)
      .onConflictDoUpdate({
        target: [grants.project, grants.connectionId, grants.user],
        set: Object.fromEntries(
          Object.entries(replaced).map(([field, column]) => [
            field,
            sql`excluded.${sql.identifier(column.name)}`,
          ]),
        ),
      })
      .returning(fields);
  const lease: Statement<Grant[]> = (db) =>
    db
      .update(grants)
      .set({ lease: given(grants.lease, "lease"), leaseUntil: given(grants.leaseUntil, "leaseUntil") })
      .where(
        and(
          one,
          isAt,
          isActive,
          or(isNull(grants.leaseUntil), lt(grants.leaseUntil, given(grants.leaseUntil, "now"))),
        ),
      )
      .returning(fields);
  // The version alone would not do: `fail` leaves it, and of a refresh and a failure only one may count.
  const refreshed: Statement<Grant[]> = (db) =>
    db
      .update(grants)
      .set({
        sealed: given(grants.sealed, "sealed"),
        expiresAt: given(grants.expiresAt, "expiresAt"),
        hasRefreshToken: given(grants.hasRefreshToken, "hasRefreshToken"),
        scopes: given(grants.scopes, "scopes"),
        refreshedAt: given(grants.refreshedAt, "at"),
        version: given(grants.version, "version"),
        ...noLease,
        ...mark,
      })
      .where(and(one, isAt, isActive))
      .returning(fields);
  const release: Statement<unknown> = (db) =>
    db
      .update(grants)
      .set(noLease)
      .where(and(one, eq(grants.lease, given(grants.lease, "lease"))));
  const fail: Statement<Grant[]> = (db) =>
    db
      .update(grants)
      .set({ status: "needs_consent", reason: given(grants.reason, "reason"), ...noLease, ...mark })
      .where(and(one, isAt, isActive))
      .returning(fields);
  const used: Statement<unknown> = (db) =>
    db
      .update(grants)
      .set({
        lastUsedAt: given(grants.lastUsedAt, "at"),
        lastUsedBy: given(grants.lastUsedBy, "by"),
      })
      .where(one);

  return {
    get: current,

    find: async (project, id) => {
      const [found] = await engine.run(find, { project, id });
      return found ? ((await boxes.whole(found)) ?? current(found)) : null;
    },

    list: async (project, { connectionId, user }, page) => {
      const found = await engine.run((db) =>
        db
          .select(fields)
          .from(grants)
          .where(
            and(
              eq(grants.project, project),
              connectionId === undefined ? undefined : eq(grants.connectionId, connectionId),
              user === undefined ? undefined : eq(grants.user, user),
              page.after === null ? undefined : gt(grants.id, grantId(page.after)),
            ),
          )
          .orderBy(asc(grants.id))
          .limit(page.limit + 1),
      );
      return wholePage(listed(found, page.limit));
    },

    put: async (grant, consent, audit) => {
      const writeId = newMark();
      const key = keyOf(grant);
      const found = rows.found(grant, writeId);
      const values = { ...grant, ...noLease, untold: false, sealed: headOf(grant.sealed), writeId };
      const [, stored] = await engine.atomic([
        step(connect, {
          ...key,
          consent: consent.id,
          attempt: consent.attempt,
          at: consent.at,
          mark: writeId,
        }),
        step(put, { ...values, ...consentRow.values([consent.id], writeId) }),
        ...boxes.replaced(grant, found),
        ...audited(audit, found),
      ]);
      return stored[0] ? { ...stored[0], sealed: grant.sealed } : null;
    },

    lease: async ({ key, version, ...take }) => {
      const [leased] = await engine.run(lease, { ...keyOf(key), expected: version, ...take });
      return leased ? boxes.whole(leased) : null;
    },

    refreshed: async (key, version, tokens, audit) => {
      const writeId = newMark();
      const found = rows.found(key, writeId);
      const [changed] = await engine.atomic([
        step(refreshed, {
          ...keyOf(key),
          ...tokens,
          sealed: headOf(tokens.sealed),
          expected: version,
          version: version + 1,
          mark: writeId,
        }),
        ...boxes.replaced({ ...keyOf(key), version: version + 1, sealed: tokens.sealed }, found),
        ...audited(audit, found),
      ]);
      return changed[0] ? { ...changed[0], sealed: tokens.sealed } : null;
    },

    release: async (key, lease) => {
      await engine.run(release, { ...keyOf(key), lease });
    },

    fail: async (key, version, reason, audit) => {
      const writeId = newMark();
      const [failed, read] = await engine.atomic([
        step(fail, { ...keyOf(key), expected: version, reason, mark: writeId }),
        boxes.chunks(key),
        ...audited(audit, rows.found(key, writeId)),
      ]);
      return failed[0] ? withChunks(failed[0], read) : null;
    },

    ...createGrantRevocations(engine, rows),

    used: async (key, { at, by }) => {
      await engine.run(used, { ...keyOf(key), at, by });
    },
  };
}
