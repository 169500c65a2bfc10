import { and, asc, eq, getTableColumns, gt, isNull, lt, ne, or, sql } from "drizzle-orm";
import type { Grant, GrantId, GrantKey, Grants } from "../core/grants.ts";
import { createMarkedAudit } from "./audit.ts";
import { type BoxPlace, HEAD_BYTES, createMarkedRest, headOf, joined } from "./boxes.ts";
import {
  type Engine,
  type Statement,
  given,
  ifMarked,
  marked,
  newMark,
  placeholderRows,
  step,
} from "./engine.ts";
import { listed } from "./paging.ts";

/** The chunks of a box as of the version that its row was at when they were read. */
type Chunk = { version: number; bytes: Uint8Array | null };

export function createGrants(engine: Engine): Grants {
  const { grants, boxChunks } = engine.tables;
  const row = marked(grants, [grants.project, grants.connectionId, grants.user]);
  const audited = createMarkedAudit(engine.tables, row);
  const rest = createMarkedRest(engine.tables, row);
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
  // Locks the row and gives it as it was; a changed row could give what it is only.
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
  const chunks: Statement<Chunk[]> = (db) =>
    db
      .select({ version: grants.version, bytes: boxChunks.bytes })
      .from(grants)
      .leftJoin(
        boxChunks,
        and(
          eq(boxChunks.project, grants.project),
          eq(boxChunks.owner, given(boxChunks.owner, "owner")),
          eq(boxChunks.part, grants.version),
        ),
      )
      .where(one)
      .orderBy(asc(boxChunks.seq));
  const removeChunks: Statement<unknown> = (db) =>
    db
      .delete(boxChunks)
      .where(
        and(
          eq(boxChunks.project, given(boxChunks.project, "project")),
          eq(boxChunks.owner, given(boxChunks.owner, "owner")),
          ifMarked(row),
        ),
      );

  const chunksOf = (key: GrantKey) => step(chunks, { ...keyOf(key), owner: ownerOf(key) });

  /** With its whole box. Null: the row has moved on, and the chunks of its version may be gone. */
  const whole = async (found: Grant): Promise<Grant | null> => {
    if (found.sealed.length < HEAD_BYTES) return found;
    const { statement, values } = chunksOf(found);
    const read = await engine.run(statement, values);
    return read[0]?.version === found.version ? withChunks(found, read) : null;
  };
  const current = async (key: GrantKey): Promise<Grant | null> => {
    for (;;) {
      const [found] = await engine.run(get, keyOf(key));
      if (!found) return null;
      const grant = await whole(found);
      if (grant) return grant;
    }
  };
  const rewriteBox = (place: BoxPlace, sealed: Uint8Array, found: ReturnType<typeof row.values>) => [
    step(removeChunks, { project: place.project, owner: place.owner, ...found }),
    ...rest(place, sealed, found),
  ];

  return {
    get: current,

    find: async (project, id) => {
      const [found] = await engine.run(find, { project, id });
      return found ? ((await whole(found)) ?? current(found)) : null;
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
      const found = await Promise.all(shown.map(async (each) => (await whole(each)) ?? current(each)));
      return { rows: found.filter((grant) => grant !== null), more };
    },

    put: async (grant, after, audit) => {
      const writeId = newMark();
      const found = row.values(keyValues(grant), writeId);
      const version = after + 1;
      const values = { ...grant, version, sealed: headOf(grant.sealed), writeId };
      const [put] = await engine.atomic([
        after === 0 ? step(insert, values) : step(replace, { ...values, expected: after }),
        ...rewriteBox(placeOf(grant, version), grant.sealed, found),
        ...audited(audit, found),
      ]);
      return put[0] ? { ...put[0], sealed: grant.sealed } : null;
    },

    lease: async ({ key, version, ...take }) => {
      const [leased] = await engine.run(lease, { ...keyOf(key), expected: version, ...take });
      return leased ? whole(leased) : null;
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
        ...rewriteBox(placeOf(key, version + 1), tokens.sealed, found),
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
        chunksOf(key),
        ...audited(audit, row.values(keyValues(key), writeId)),
      ]);
      return failed[0] ? withChunks(failed[0], read) : null;
    },

    revoke: async (key, audit) => {
      const writeId = newMark();
      const found = row.values(keyValues(key), writeId);
      const [before, read] = await engine.atomic([
        step(markToRevoke, { ...keyOf(key), mark: writeId }),
        chunksOf(key),
        step(removeChunks, { project: key.project, owner: ownerOf(key), ...found }),
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

const keyOf = ({ project, connectionId, user }: GrantKey) => ({ project, connectionId, user });
const keyValues = ({ project, connectionId, user }: GrantKey) => [project, connectionId, user];

/** By the key, not the id, so that it is known before the row was read. */
const ownerOf = ({ connectionId, user }: GrantKey) => `grant:${connectionId}:${user}`;
const placeOf = (key: GrantKey, version: number): BoxPlace => ({
  project: key.project,
  owner: ownerOf(key),
  part: version,
});

function withChunks(grant: Grant, chunks: Chunk[]): Grant {
  const parts = chunks.flatMap(({ bytes }) => (bytes === null ? [] : [bytes]));
  return parts.length === 0 ? grant : { ...grant, sealed: joined([grant.sealed, ...parts]) };
}

// `after` is what a caller sent. Any text may be compared with an id.
const grantId = (text: string) => text as GrantId;
