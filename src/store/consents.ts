import { and, desc, eq, getTableColumns, gt, gte, isNotNull, isNull, lte, ne, or } from "drizzle-orm";
import type { Consent, Consents } from "../core/consents.ts";
import { createMarkedAudit } from "./audit.ts";
import { type Engine, type Statement, given, marked, newMark, placeholderRows, step } from "./engine.ts";
import { OVER, isOpen } from "./open-consents.ts";
import { indexKey } from "./text.ts";

export function createConsents(engine: Engine): Consents {
  const { consents } = engine.tables;
  const row = marked(consents, [consents.id]);
  const audited = createMarkedAudit(engine.tables, row);
  const { writeId, slot, ...fields } = getTableColumns(consents);
  const mark = { writeId: given(writeId, "mark") };
  const one = eq(consents.id, given(consents.id, "id"));
  const inSlot = eq(slot, given(slot, "slot"));
  const open = isOpen(engine.tables);
  const isThisBrowser = eq(consents.browserHash, given(consents.browserHash, "browserHash"));
  const hasTime = gt(consents.expiresAt, given(consents.expiresAt, "now"));

  // These two are no part of the race: what they end is over, whoever opens the next.
  const expire: Statement<{ id: string }[]> = (db) =>
    db
      .update(consents)
      .set({
        ...OVER,
        status: "expired",
        outcome: "expired",
        endedAt: given(consents.endedAt, "createdAt"),
        ...mark,
      })
      .where(and(inSlot, lte(consents.expiresAt, given(consents.expiresAt, "createdAt"))))
      .returning({ id: consents.id });
  const failOther: Statement<{ id: string }[]> = (db) =>
    db
      .update(consents)
      .set({
        ...OVER,
        status: "failed",
        outcome: "connection_changed",
        endedAt: given(consents.endedAt, "createdAt"),
        ...mark,
      })
      .where(and(inSlot, ne(consents.generation, given(consents.generation, "generation"))))
      .returning({ id: consents.id });
  // Those that nobody asks for again. Who is on the way back from an authorization server is waited for.
  const expireAll: Statement<{ id: string }[]> = (db) =>
    db
      .update(consents)
      .set({
        ...OVER,
        status: "expired",
        outcome: "expired",
        endedAt: given(consents.endedAt, "now"),
        ...mark,
      })
      .where(
        and(
          isNotNull(slot),
          lte(consents.expiresAt, given(consents.expiresAt, "before")),
          or(
            isNull(consents.stateExpiresAt),
            lte(consents.stateExpiresAt, given(consents.stateExpiresAt, "before")),
          ),
        ),
      )
      .returning({ id: consents.id });
  const insert: Statement<{ id: string }[]> = (db) =>
    db
      .insert(consents)
      .values(placeholderRows(consents, 1))
      .onConflictDoNothing({ target: slot })
      .returning({ id: consents.id });
  const standing: Statement<Consent[]> = (db) => db.select(fields).from(consents).where(inSlot);
  const find: Statement<Consent[]> = (db) => db.select(fields).from(consents).where(one);
  const since: Statement<Consent[]> = (db) =>
    db
      .select(fields)
      .from(consents)
      .where(
        and(
          eq(consents.project, given(consents.project, "project")),
          eq(consents.connectionId, given(consents.connectionId, "connectionId")),
          eq(consents.user, given(consents.user, "user")),
          gte(consents.createdAt, given(consents.createdAt, "createdAt")),
        ),
      )
      .orderBy(desc(consents.createdAt), desc(consents.id))
      .limit(SHOWN);
  const findByState: Statement<Consent[]> = (db) =>
    db
      .select(fields)
      .from(consents)
      .where(eq(consents.stateHash, given(consents.stateHash, "stateHash")));
  const widen: Statement<Consent[]> = (db) =>
    db
      .update(consents)
      .set({
        scopes: given(consents.scopes, "scopes"),
        newScopes: given(consents.newScopes, "newScopes"),
        why: given(consents.why, "why"),
        ...mark,
      })
      .where(and(one, eq(consents.status, "open")))
      .returning(fields);
  const readdress: Statement<Consent[]> = (db) =>
    db
      .update(consents)
      .set({
        confirmUrl: given(consents.confirmUrl, "confirmUrl"),
        doneUrl: given(consents.doneUrl, "doneUrl"),
        ...mark,
      })
      .where(and(one, eq(consents.status, "open")))
      .returning(fields);
  const show: Statement<{ id: string }[]> = (db) =>
    db
      .update(consents)
      .set({ shownAt: given(consents.shownAt, "at"), ...mark })
      .where(and(one, isNull(consents.shownAt)))
      .returning({ id: consents.id });
  const prove = (rebind: "never" | "while open"): Statement<Consent[]> => {
    const isFree =
      rebind === "never"
        ? and(eq(consents.status, "open"), or(isNull(consents.browserHash), isThisBrowser))
        : open;
    return (db) =>
      db
        .update(consents)
        .set({
          browserHash: given(consents.browserHash, "browserHash"),
          provenBy: given(consents.provenBy, "by"),
          ...NOTHING_UNDER_WAY,
          ...mark,
        })
        .where(and(one, hasTime, isFree))
        .returning(fields);
  };
  const proofs = { never: prove("never"), "while open": prove("while open") };
  const authorize: Statement<Consent[]> = (db) =>
    db
      .update(consents)
      .set({
        status: "authorizing",
        redirectId: given(consents.redirectId, "redirectId"),
        stateHash: given(consents.stateHash, "stateHash"),
        stateExpiresAt: given(consents.stateExpiresAt, "stateExpiresAt"),
        attempt: given(consents.attempt, "attempt"),
        sealedFlow: given(consents.sealedFlow, "sealedFlow"),
        ...mark,
      })
      .where(and(one, open, hasTime, isThisBrowser))
      .returning(fields);
  // The state has a time of its own: who allowed in the last minute may still come back.
  const claim: Statement<Consent[]> = (db) =>
    db
      .update(consents)
      .set({ stateHash: null, ...mark })
      .where(
        and(
          eq(consents.stateHash, given(consents.stateHash, "stateHash")),
          eq(consents.redirectId, given(consents.redirectId, "redirectId")),
          isThisBrowser,
          eq(consents.status, "authorizing"),
          gt(consents.stateExpiresAt, given(consents.stateExpiresAt, "now")),
        ),
      )
      .returning(fields);

  return {
    open: async (consent, audit) => {
      const { generation, createdAt } = consent;
      const slot = await slotOf(consent);
      const ended = { expired: 0, failed: 0 };
      for (;;) {
        const mark = newMark();
        const [expired, failed, made, found] = await engine.atomic([
          step(expire, { slot, createdAt, mark }),
          step(failOther, { slot, generation, createdAt, mark }),
          step(insert, { ...consent, slot, writeId: mark }),
          step(standing, { slot }),
          ...audited(audit, row.values([consent.id], mark)),
        ]);
        ended.expired += expired.length;
        ended.failed += failed.length;
        // None: the one that was in the way has ended since, so there is room now.
        if (found[0]) return { consent: found[0], isNew: made.length > 0, ended };
      }
    },

    expire: async (times) => (await engine.run(expireAll, { ...times, mark: newMark() })).length,

    find: async (id) => (await engine.run(find, { id }))[0] ?? null,

    since: ({ project, connectionId, user }, createdAt) =>
      engine.run(since, { project, connectionId, user, createdAt }),

    findByState: async (stateHash) => (await engine.run(findByState, { stateHash }))[0] ?? null,

    widen: async (id, { scopes, newScopes, why }) => {
      const [widened] = await engine.run(widen, { id, scopes, newScopes, why, mark: newMark() });
      return widened ?? null;
    },

    readdress: async (id, { confirmUrl, doneUrl }) =>
      (await engine.run(readdress, { id, confirmUrl, doneUrl, mark: newMark() }))[0] ?? null,

    shown: async (id, at, audit) => {
      const mark = newMark();
      const [shown] = await engine.atomic([
        step(show, { id, at, mark }),
        ...audited(audit, row.values([id], mark)),
      ]);
      return shown.length > 0;
    },

    prove: async ({ rebind, ...proof }, audit) => {
      const mark = newMark();
      const [proven] = await engine.atomic([
        step(proofs[rebind], { ...proof, mark }),
        ...audited(audit, row.values([proof.id], mark)),
      ]);
      return proven[0] ?? null;
    },

    authorize: async (start, audit) => {
      const mark = newMark();
      const [started] = await engine.atomic([
        step(authorize, { ...start, mark }),
        ...audited(audit, row.values([start.id], mark)),
      ]);
      return started[0] ?? null;
    },

    claim: async (callback) => (await engine.run(claim, { ...callback, mark: newMark() }))[0] ?? null,

    end: async ({ id, status, outcome, attempt, browserHash, at }, audit) => {
      const mark = newMark();
      const end: Statement<Consent[]> = (db) =>
        db
          .update(consents)
          .set({ ...OVER, status, outcome, endedAt: at, writeId: mark })
          .where(
            and(
              eq(consents.id, id),
              open,
              attempt === null ? undefined : eq(consents.attempt, attempt),
              browserHash === null ? undefined : eq(consents.browserHash, browserHash),
            ),
          )
          .returning(fields);
      const [ended] = await engine.atomic([step(end), ...audited(audit, row.values([id], mark))]);
      return ended[0] ?? null;
    },
  };
}

const SHOWN = 20;
/** An open consent before anybody has allowed it. */
const NOTHING_UNDER_WAY = {
  status: "open",
  redirectId: null,
  stateHash: null,
  stateExpiresAt: null,
  attempt: null,
  sealedFlow: null,
} as const;

/** As JSON, because ids of users may hold anything. */
function slotOf({ project, connectionId, user }: Consent): Promise<string> {
  return indexKey(JSON.stringify([project, connectionId, user]));
}
