import { and, asc, eq, getTableColumns, gt, isNull, lt, ne, or, sql } from "drizzle-orm";
import type { AuditEntry } from "../core/audit.ts";
import type { Grant, GrantId, GrantKey, Grants } from "../core/grants.ts";
import type { Listed } from "../core/storage.ts";
import { createMarkedAudit } from "./audit.ts";
import { headOf } from "./boxes.ts";
import { type Engine, type Statement, allGiven, given, marked, newMark, step } from "./engine.ts";
import { createGrantBoxes, keyOf, withChunks } from "./grant-boxes.ts";
import { OVER } from "./open-consents.ts";
import { listed } from "./paging.ts";

export function createGrants(engine: Engine): Grants {
  const { grants, consents } = engine.tables;
  const row = marked(grants, [grants.project, grants.connectionId, grants.user]);
  const audited = createMarkedAudit(engine.tables, row);
  const boxes = createGrantBoxes(engine, row);
  const consentRow = marked(consents, [consents.id]);
  const { writeId, untold, ...fields } = getTableColumns(grants);
  const mark = { writeId: given(writeId, "mark") };
  const noLease = { lease: null, leaseUntil: null };
  const inProject = eq(grants.project, given(grants.project, "project"));
  const one = and(
    inProject,
    eq(grants.connectionId, given(grants.connectionId, "connectionId")),
    eq(grants.user, given(grants.user, "user")),
  );
  const isAt = eq(grants.version, given(grants.version, "expected"));
  const isActive = eq(grants.status, "active");
  const isNotRevoked = ne(grants.status, "revoked");

  const get: Statement<Grant[]> = (db) => db.select(fields).from(grants).where(one);
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
  const revoke: Statement<Grant[]> = (db) =>
    db
      .update(grants)
      .set({ status: "revoked", reason: null, untold: true, ...noLease, ...mark })
      .where(and(one, isNotRevoked))
      .returning(fields);
  const empty: Statement<unknown> = (db) =>
    db
      .update(grants)
      .set({
        reason: given(grants.reason, "reason"),
        version: sql`${grants.version} + 1`,
        sealed: new Uint8Array(),
        hasRefreshToken: false,
        untold: false,
        ...mark,
      })
      .where(and(one, isAt, eq(grants.status, "revoked")));
  const used: Statement<unknown> = (db) =>
    db
      .update(grants)
      .set({
        lastUsedAt: given(grants.lastUsedAt, "at"),
        lastUsedBy: given(grants.lastUsedBy, "by"),
      })
      .where(one);

  /** The row under a key with its whole box, read again for as long as a large box is replaced meanwhile. */
  const current = async (key: GrantKey): Promise<Grant | null> => {
    for (;;) {
      const [found] = await engine.run(get, keyOf(key));
      if (!found) return null;
      const grant = await boxes.whole(found);
      if (grant) return grant;
    }
  };

  /** Rows with their whole boxes; without those that are gone by now. */
  const wholeOf = async (rows: Grant[]): Promise<Grant[]> => {
    const found = await Promise.all(rows.map(async (each) => (await boxes.whole(each)) ?? current(each)));
    return found.filter((grant) => grant !== null);
  };
  const wholePage = async ({ rows, more }: Listed<Grant>) => ({ rows: await wholeOf(rows), more });

  const revokeOne = async (key: GrantKey, audit: AuditEntry[]): Promise<Grant | null> => {
    const writeId = newMark();
    const [revoked, read] = await engine.atomic([
      step(revoke, { ...keyOf(key), mark: writeId }),
      boxes.chunks(key),
      ...audited(audit, row.values(keyValues(key), writeId)),
    ]);
    return revoked[0] ? withChunks(revoked[0], read) : null;
  };

  return {
    get: current,

    find: async (project, id) => {
      const [found] = await engine.run(find, { project, id });
      return found ? ((await boxes.whole(found)) ?? current(found)) : null;
    },

    list: async (project, { connectionId, user }, page) => {
      const rows = await engine.run((db) =>
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
      return wholePage(listed(rows, page.limit));
    },

    put: async (grant, consent, audit) => {
      const writeId = newMark();
      const key = keyOf(grant);
      const found = row.values(keyValues(grant), writeId);
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
      const found = row.values(keyValues(key), writeId);
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
        ...audited(audit, row.values(keyValues(key), writeId)),
      ]);
      return failed[0] ? withChunks(failed[0], read) : null;
    },

    revoke: revokeOne,

    revokeAll: async (project, of, entryOf) => {
      const which = "user" in of ? eq(grants.user, of.user) : eq(grants.connectionId, of.connectionId);
      const revoked: Grant[] = [];
      for (let after: GrantId | null = null; ;) {
        const rows: Grant[] = await engine.run((db) =>
          db
            .select(fields)
            .from(grants)
            .where(
              and(
                eq(grants.project, project),
                which,
                isNotRevoked,
                after === null ? undefined : gt(grants.id, after),
              ),
            )
            .orderBy(asc(grants.id))
            .limit(TOGETHER),
        );
        const found = await wholeOf(rows);
        const done = await Promise.all(found.map((grant) => revokeOne(grant, [entryOf(grant)])));
        revoked.push(...done.filter((grant) => grant !== null));
        after = rows.at(-1)?.id ?? null;
        if (rows.length < TOGETHER) return revoked;
      }
    },

    emptied: async (key, version, reason) => {
      const writeId = newMark();
      await engine.atomic([
        step(empty, { ...keyOf(key), expected: version, reason, mark: writeId }),
        boxes.removed(key, row.values(keyValues(key), writeId)),
      ]);
    },

    unrevoked: async (page) => {
      const rows = await engine.run((db) =>
        db
          .select(fields)
          .from(grants)
          .where(and(eq(untold, true), page.after === null ? undefined : gt(grants.id, grantId(page.after))))
          .orderBy(asc(grants.id))
          .limit(page.limit + 1),
      );
      return wholePage(listed(rows, page.limit));
    },

    used: async (key, { at, by }) => {
      await engine.run(used, { ...keyOf(key), at, by });
    },
  };
}

const TOGETHER = 20;

const keyValues = ({ project, connectionId, user }: GrantKey) => [project, connectionId, user];

// `after` is what a caller sent. Any text may be compared with an id.
const grantId = (text: string) => text as GrantId;
