import { type SQL, and, asc, eq, getTableColumns, gte, inArray, isNull, lte, sql } from "drizzle-orm";
import type { Background, BackgroundState, BackgroundWork, Due } from "../core/background.ts";
import type { Response } from "../core/request.ts";
import { createMarkedAudit } from "./audit.ts";
import {
  createBoxReader,
  createBoxes,
  createMarkedRest,
  headOf,
  jsonBytes,
  parseJsonBytes,
} from "./boxes.ts";
import {
  type Engine,
  type Statement,
  allGiven,
  given,
  insertIfMarked,
  marked,
  newMark,
  step,
} from "./engine.ts";
import { firstOf } from "./expiry.ts";
import type { Tables } from "./tables.ts";
import { viewerValues, visible } from "./viewer.ts";

type ClaimedRow = Tables["background"]["$inferSelect"];
type Row = Omit<ClaimedRow, "sealed">;
type Batch = { seq: number; sealed: Uint8Array };

export function createBackground(engine: Engine): Background {
  const { background, backgroundBatches, boxChunks } = engine.tables;
  const boxes = createBoxes(engine);
  const wholePlan = createBoxReader(engine, {
    table: background,
    head: background.sealed,
    where: sql`${background.id} = ${given(background.id, "id")}`,
  });
  const wholeBatch = createBoxReader(engine, {
    table: backgroundBatches,
    head: backgroundBatches.sealed,
    where: sql`${backgroundBatches.id} = ${given(backgroundBatches.id, "id")} and ${backgroundBatches.seq} = ${given(backgroundBatches.seq, "seq")}`,
  });
  const row = marked(background, [background.id]);
  const rest = createMarkedRest(engine.tables, row);
  const audited = createMarkedAudit(engine.tables, row);
  const insertBatch = insertIfMarked(backgroundBatches, row);
  const one = and(
    eq(background.id, given(background.id, "id")),
    eq(background.project, given(background.project, "project")),
  );
  const unfinished = inArray(background.status, ["queued", "running"]);
  const own = and(one, unfinished, eq(background.run, given(background.run, "run")));
  const owned = and(one, visible(background));
  const mark = given(background.writeId, "mark");
  const leaseUntil = given(background.leaseUntil, "leaseUntil");
  const seen = { cancelledAt: background.cancelledAt };

  // Several at once may count before another one is there: a few too many are no harm, and a lock would let one of them hold up all.
  const begin: Statement<{ id: string }[]> = (db) =>
    db
      .insert(background)
      .select(
        sql`select ${allGiven(background)} where (select count(*) from ${background}
          where ${background.project} = ${given(background.project, "project")} and ${unfinished})
          < ${given(background.batches, "ofProject")} and (select count(*) from ${background}
          where ${background.project} = ${given(background.project, "project")} and ${unfinished}
          and ${background.ownerPrincipal} = ${given(background.ownerPrincipal, "ownerPrincipal")})
          < ${given(background.batches, "ofCaller")}`,
      )
      .returning({ id: background.id });
  // Readers ask many times, and what is to be done is not for them.
  const { sealed: _, ...shown } = getTableColumns(background);
  const get: Statement<Row[]> = (db) => db.select(shown).from(background).where(owned);
  const state: Statement<BackgroundState[]> = (db) =>
    db
      .select({
        status: background.status,
        batches: background.batches,
        leaseUntil: background.leaseUntil,
      })
      .from(background)
      .where(one);
  const due: Statement<Due[]> = (db) =>
    db
      .select({
        project: background.project,
        id: background.id,
        status: background.status,
        createdAt: background.createdAt,
      })
      .from(background)
      .where(and(unfinished, lte(background.leaseUntil, given(background.leaseUntil, "now"))))
      .orderBy(asc(background.leaseUntil), asc(background.createdAt))
      .limit(sql.placeholder("limit"));
  const claim: Statement<ClaimedRow[]> = (db) =>
    db
      .update(background)
      .set({
        run: given(background.run, "run"),
        leaseUntil,
        attempts: sql`${background.attempts} + 1`,
        writeId: mark,
      })
      .where(and(one, unfinished, lte(background.leaseUntil, given(background.leaseUntil, "now"))))
      .returning();
  const extend: Statement<{ cancelledAt: number | null }[]> = (db) =>
    db
      .update(background)
      .set({
        status: "running",
        leaseUntil,
        batches: sql`${background.batches} + 1`,
        bytes: sql`${background.bytes} + ${given(background.bytes, "size")}`,
        writeId: mark,
      })
      .where(and(own, eq(background.batches, given(background.batches, "seq"))))
      .returning(seen);
  const renew: Statement<{ cancelledAt: number | null }[]> = (db) =>
    db.update(background).set({ leaseUntil, writeId: mark }).where(own).returning(seen);
  const batches: Statement<Batch[]> = (db) =>
    db
      .select({ seq: backgroundBatches.seq, sealed: backgroundBatches.sealed })
      .from(backgroundBatches)
      .where(
        and(
          eq(backgroundBatches.id, given(backgroundBatches.id, "id")),
          eq(backgroundBatches.project, given(backgroundBatches.project, "project")),
          gte(backgroundBatches.seq, given(backgroundBatches.seq, "from")),
        ),
      )
      .orderBy(asc(backgroundBatches.seq))
      .limit(sql.placeholder("limit"));
  const giveBack: Statement<unknown> = (db) =>
    db
      .update(background)
      .set({
        run: null,
        leaseUntil,
        attempts: sql`${background.attempts} - ${given(background.attempts, "less")}`,
        writeId: mark,
      })
      .where(own);
  const finish: Statement<{ id: string }[]> = (db) =>
    db
      .update(background)
      .set({
        status: given(background.status, "status"),
        expiresAt: given(background.expiresAt, "expiresAt"),
        run: null,
        writeId: mark,
      })
      .where(own)
      .returning({ id: background.id });
  const cancel: Statement<{ id: string }[]> = (db) =>
    db
      .update(background)
      .set({ cancelledAt: given(background.cancelledAt, "at"), writeId: mark })
      .where(and(owned, unfinished, isNull(background.cancelledAt)))
      .returning({ id: background.id });
  // By the project, too: their key begins with it.
  const chunksOf = (which: SQL | undefined) =>
    sql`(${boxChunks.project}, ${boxChunks.owner}) in (select ${background.project}, 'background:' || ${background.id} from ${background} where ${which})`;
  // Chunks first: afterwards nobody knows whose they were.
  const removeChunks: Statement<unknown> = (db) => db.delete(boxChunks).where(chunksOf(owned));
  const remove: Statement<unknown> = (db) => db.delete(background).where(owned);
  const expired = sql`${background.status} in ('done', 'lost') and ${lte(
    background.expiresAt,
    given(background.expiresAt, "now"),
  )}`;
  // Marked first: each statement by itself would find others, where somebody deletes one in between.
  const markExpired: Statement<{ id: string }[]> = (db) =>
    db
      .update(background)
      .set({ writeId: mark })
      .where(firstOf(background, [background.id], expired, background.expiresAt))
      .returning({ id: background.id });
  const isMarked = and(expired, eq(background.writeId, mark));
  const sweepChunks: Statement<unknown> = (db) => db.delete(boxChunks).where(chunksOf(isMarked));
  const sweep: Statement<unknown> = (db) => db.delete(background).where(isMarked);

  const whole = async (found: Row): Promise<BackgroundWork> => {
    const { ownerUser, ownerPrincipal, body, writeId: _, ...work } = found;
    const bytes = await boxes.whole(placeOf(found, BODY), body);
    return {
      ...work,
      owner: { user: ownerUser, principal: ownerPrincipal },
      response: parseJsonBytes<Response>(bytes),
    };
  };

  return {
    begin: async ({ response, owner, ...work }, sealed, most) => {
      const writeId = newMark();
      const found = row.values([work.id], writeId);
      const body = jsonBytes(response);
      const values = {
        ...work,
        ownerUser: owner.user,
        ownerPrincipal: owner.principal,
        status: "queued",
        attempts: work.run === null ? 0 : 1,
        cancelledAt: null,
        batches: 0,
        bytes: 0,
        body: headOf(body),
        sealed: headOf(sealed),
        writeId,
        ...most,
      };
      const [begun] = await engine.atomic([
        step(begin, values),
        ...rest(placeOf(work, BODY), body, found),
        ...rest(placeOf(work, PLAN), sealed, found),
      ]);
      return begun.length > 0;
    },

    get: async (project, id, viewer) => {
      const [found] = await engine.run(get, { project, id, ...viewerValues(viewer) });
      return found ? whole(found) : null;
    },

    state: async (project, id) => (await engine.run(state, { project, id }))[0] ?? null,

    due: async (now, limit) => engine.run(due, { now, limit }),

    claim: async (hold) => {
      const [found] = await engine.run(claim, { ...hold, mark: newMark() });
      if (!found) return null;
      const { sealed, ...work } = found;
      const { id } = work;
      return { ...(await whole(work)), sealed: await wholePlan(placeOf(found, PLAN), sealed, { id }) };
    },

    append: async ({ sealed, ...hold }) => {
      const writeId = newMark();
      const found = row.values([hold.id], writeId);
      const [extended] = await engine.atomic([
        step(extend, { ...hold, size: sealed.length, mark: writeId }),
        step(insertBatch, { ...hold, sealed: headOf(sealed), ...found }),
        ...rest(placeOf(hold, FIRST_BATCH + hold.seq), sealed, found),
      ]);
      return answerOf(extended);
    },

    renew: async (hold) => answerOf(await engine.run(renew, { ...hold, mark: newMark() })),

    batches: async (project, id, from, limit) => {
      const found = await engine.run(batches, { project, id, from, limit });
      return Promise.all(
        found.map(async ({ seq, sealed }) => ({
          seq,
          sealed: await wholeBatch(placeOf({ project, id }, FIRST_BATCH + seq), sealed, { id, seq }),
        })),
      );
    },

    giveBack: async ({ at, counts, ...hold }) => {
      await engine.run(giveBack, { ...hold, leaseUntil: at, less: counts ? 0 : 1, mark: newMark() });
    },

    finish: async (hold) => (await engine.run(finish, { ...hold, mark: newMark() })).length > 0,

    cancel: async ({ viewer, ...query }, audit) => {
      const writeId = newMark();
      const found = row.values([query.id], writeId);
      const [told] = await engine.atomic([
        step(cancel, { ...query, ...viewerValues(viewer), mark: writeId }),
        ...audited(audit, found),
      ]);
      return told.length > 0;
    },

    delete: async (project, id, viewer) => {
      const values = { project, id, ...viewerValues(viewer) };
      await engine.atomic([step(removeChunks, values), step(remove, values)]);
    },

    sweep: async (now, limit) => {
      const values = { now, limit, mark: newMark() };
      const [gone] = await engine.atomic([
        step(markExpired, values),
        step(sweepChunks, values),
        step(sweep, values),
      ]);
      return gone.length;
    },
  };
}

// The boxes of a work.
const BODY = 0;
export const PLAN = 1;
export const FIRST_BATCH = 2;

/** Beside those of the response, which has the same id. */
export const placeOf = ({ project, id }: { project: string; id: string }, part: number) => ({
  project,
  owner: `background:${id}`,
  part,
});

function answerOf([found]: { cancelledAt: number | null }[]): { cancelled: boolean } | null {
  return found ? { cancelled: found.cancelledAt !== null } : null;
}
