import { and, asc, eq, gt, ne, sql } from "drizzle-orm";
import type { Grant, Grants } from "../core/grants.ts";
import { type Engine, type Statement, given, newMark, step } from "./engine.ts";
import { keyOf, withChunks } from "./grant-boxes.ts";
import { type GrantRows, grantId } from "./grant-rows.ts";
import { TAKEN_BACK } from "./grants-taken.ts";
import { failOpen } from "./open-consents.ts";
import { listed } from "./paging.ts";
import { dropRetired } from "./registrations.ts";

type Revocations = Pick<Grants, "revoke" | "emptied" | "unrevoked">;

/** Taking grants back: here at once, and at the authorization server as soon as it can be told. */
export function createGrantRevocations(engine: Engine, rows: GrantRows): Revocations {
  const { consents, grants, registrations } = engine.tables;
  const { audited, boxes, fields, found, isAt, mark, one, wholePage } = rows;
  const isNotRevoked = ne(grants.status, "revoked");

  const revoke: Statement<Grant[]> = (db) =>
    db
      .update(grants)
      .set({ ...TAKEN_BACK, ...mark })
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

  const dropRegistrations = dropRetired(
    engine.tables,
    and(
      eq(registrations.project, given(registrations.project, "project")),
      eq(registrations.connectionId, given(registrations.connectionId, "connectionId")),
    ),
  );

  // First, for whoever finishes a consent locks it before the grant. Of racers that find a grant here all mean the same.
  const failConsent = failOpen(
    engine.tables,
    and(
      eq(consents.project, given(consents.project, "project")),
      eq(consents.connectionId, given(consents.connectionId, "connectionId")),
      eq(consents.user, given(consents.user, "user")),
      sql`exists (select 1 from ${grants} where ${and(one, isNotRevoked)})`,
    ),
  );

  const revokeOne: Grants["revoke"] = async (key, at, audit) => {
    const writeId = newMark();
    const [, revoked, read] = await engine.atomic([
      step(failConsent, { ...keyOf(key), outcome: "disconnected", at, consentMark: newMark() }),
      step(revoke, { ...keyOf(key), mark: writeId }),
      boxes.chunks(key),
      ...audited(audit, found(key, writeId)),
    ]);
    return revoked[0] ? withChunks(revoked[0], read) : null;
  };

  return {
    revoke: revokeOne,

    emptied: async (key, version, reason) => {
      const writeId = newMark();
      await engine.atomic([
        step(empty, { ...keyOf(key), expected: version, reason, mark: writeId }),
        boxes.removed(key, found(key, writeId)),
        step(dropRegistrations, keyOf(key)),
      ]);
    },

    unrevoked: async (page, of) => {
      const untold = await engine.run((db) =>
        db
          .select(fields)
          .from(grants)
          .where(
            and(
              eq(grants.untold, true),
              of && eq(grants.project, of.project),
              of && ("user" in of ? eq(grants.user, of.user) : eq(grants.connectionId, of.connectionId)),
              page.after === null ? undefined : gt(grants.id, grantId(page.after)),
            ),
          )
          .orderBy(asc(grants.id))
          .limit(page.limit + 1),
      );
      return wholePage(listed(untold, page.limit));
    },
  };
}
