import { and, asc, eq, getTableColumns, gt, isNull, lt, ne, or, sql } from "drizzle-orm";
import type { Grant, GrantId, GrantKey, Grants } from "../core/grants.ts";
import { createMarkedAudit } from "./audit.ts";
import { headOf } from "./boxes.ts";
import { type Engine, type Statement, given, marked, newMark, placeholderRows, step } from "./engine.ts";
import { createGrantBoxes, keyOf, withChunks } from "./grant-boxes.ts";
import { listed } from "./paging.ts";

export function createGrants(engine: Engine): Grants {
  const { grants } = engine.tables;
  const row = marked(grants, [grants.project, grants.connectionId, grants.user]);
  const audited = createMarkedAudit(engine.tables, row);
  const boxes = createGrantBoxes(engine, row);
  const { writeId, ...fields } = getTableColumns(grants);
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

  const get: Statement<Grant[]> = (db) => db.select(fields).from(grants).where(one);
  const find: Statement<Grant[]> = (db) =>
    db
      .select(fields)
      .from(grants)
      .where(and(inProject, eq(grants.id, given(grants.id, "id"))));
  const insert: Statement<Grant[]> = (db) =>
    db
      .insert(grants)
      .values(placeholderRows(grants, 1))
      .onConflictDoNothing({ target: [grants.project, grants.connectionId, grants.user] })
      .returning(fields);
  const replace: Statement<Grant[]> = (db) =>
    db
      .update(grants)
      .set({ ...placeholderRows(grants, 1)[0] })
      .where(and(one, isAt))
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
  // Locks the row and gives it as it was: the statement that changes it could only say what it became.
  const markToRevoke: Statement<Grant[]> = (db) =>
    db
      .update(grants)
      .set(mark)
      .where(and(one, ne(grants.status, "revoked")))
      .returning(fields);
  // The box was sealed for the version before, so nobody could open it any more.
  const revoke: Statement<unknown> = (db) =>
    db
      .update(grants)
      .set({
        status: "revoked",
        reason: null,
        version: sql`${grants.version} + 1`,
        sealed: new Uint8Array(),
        hasRefreshToken: false,
        ...noLease,
      })
      .where(row.where);
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
      const { rows: shown, more } = listed(rows, page.limit);
      const found = await Promise.all(shown.map(async (each) => (await boxes.whole(each)) ?? current(each)));
      return { rows: found.filter((grant) => grant !== null), more };
    },

    put: async (grant, after, audit) => {
      const writeId = newMark();
      const found = row.values(keyValues(grant), writeId);
      const version = after + 1;
      const values = { ...grant, version, sealed: headOf(grant.sealed), writeId };
      const [put] = await engine.atomic([
        after === 0 ? step(insert, values) : step(replace, { ...values, expected: after }),
        ...boxes.replaced({ ...grant, version }, found),
        ...audited(audit, found),
      ]);
      return put[0] ? { ...put[0], sealed: grant.sealed } : null;
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

    revoke: async (key, audit) => {
      const writeId = newMark();
      const found = row.values(keyValues(key), writeId);
      const [before, read] = await engine.atomic([
        step(markToRevoke, { ...keyOf(key), mark: writeId }),
        boxes.chunks(key),
        boxes.removed(key, found),
        step(revoke, found),
        ...audited(audit, found),
      ]);
      return before[0] ? withChunks(before[0], read) : null;
    },

    used: async (key, { at, by }) => {
      await engine.run(used, { ...keyOf(key), at, by });
    },
  };
}

const keyValues = ({ project, connectionId, user }: GrantKey) => [project, connectionId, user];

// `after` is what a caller sent. Any text may be compared with an id.
const grantId = (text: string) => text as GrantId;
