import { and, eq, gt, lte, sql } from "drizzle-orm";
import type { Idempotency } from "../core/idempotency.ts";
import { createBoxReader, createMarkedRest, headOf } from "./boxes.ts";
import { type Engine, type Statement, given, marked, newMark, placeholderRows, step } from "./engine.ts";
import type { Tables } from "./tables.ts";

type Row = Tables["idempotency"]["$inferSelect"];

/** An answer's chunks are the attempt's, so that those of another one in the same slot are never read for its. */
export function createIdempotency(engine: Engine): Idempotency {
  const { idempotency, boxChunks } = engine.tables;
  const whole = createBoxReader(engine, {
    table: idempotency,
    head: idempotency.sealed,
    where: sql`${idempotency.project} = ${given(idempotency.project, "project")} and ${idempotency.run} = ${given(idempotency.run, "owner")}`,
  });
  const row = marked(idempotency, [idempotency.project, idempotency.slot]);
  const rest = createMarkedRest(engine.tables, row);
  const slot = and(
    eq(idempotency.project, given(idempotency.project, "project")),
    eq(idempotency.slot, given(idempotency.slot, "slot")),
  );
  const own = and(
    slot,
    eq(idempotency.run, given(idempotency.run, "run")),
    eq(idempotency.status, "running"),
  );
  const now = given(idempotency.expiresAt, "now");

  const begin: Statement<{ run: string }[]> = (db) =>
    db
      .insert(idempotency)
      .values(placeholderRows(idempotency, 1))
      .onConflictDoUpdate({
        target: [idempotency.project, idempotency.slot],
        set: {
          digest: given(idempotency.digest, "digest"),
          run: given(idempotency.run, "run"),
          status: "running",
          responseId: null,
          leaseUntil: given(idempotency.leaseUntil, "leaseUntil"),
          expiresAt: given(idempotency.expiresAt, "expiresAt"),
          sealed: null,
          writeId: given(idempotency.writeId, "writeId"),
        },
        setWhere: sql`${idempotency.expiresAt} <= ${now} or (${idempotency.status} = 'running'
          and ${idempotency.responseId} is null and ${idempotency.leaseUntil} <= ${now})`,
      })
      .returning({ run: idempotency.run });
  const get: Statement<Row[]> = (db) =>
    db
      .select()
      .from(idempotency)
      .where(and(slot, gt(idempotency.expiresAt, now)));
  const renew: Statement<{ run: string }[]> = (db) =>
    db
      .update(idempotency)
      .set({
        leaseUntil: given(idempotency.leaseUntil, "leaseUntil"),
        responseId: given(idempotency.responseId, "responseId"),
        writeId: given(idempotency.writeId, "mark"),
      })
      .where(own)
      .returning({ run: idempotency.run });
  const finish: Statement<{ run: string }[]> = (db) =>
    db
      .update(idempotency)
      .set({
        status: "done",
        sealed: given(idempotency.sealed, "sealed"),
        writeId: given(idempotency.writeId, "mark"),
      })
      .where(own)
      .returning({ run: idempotency.run });
  const release: Statement<unknown> = (db) => db.delete(idempotency).where(own);
  const expired = lte(idempotency.expiresAt, now);
  // Of an attempt that is about to be replaced in its slot: afterwards nobody knows its name.
  const removeReplaced: Statement<unknown> = (db) =>
    db
      .delete(boxChunks)
      .where(
        and(
          eq(boxChunks.project, given(boxChunks.project, "project")),
          sql`${boxChunks.owner} in (select ${idempotency.run} from ${idempotency} where ${and(slot, expired)})`,
        ),
      );

  return {
    begin: async (request) => {
      const values = {
        ...request,
        status: "running",
        responseId: null,
        sealed: null,
        writeId: newMark(),
      };
      const [, begun] = await engine.atomic([step(removeReplaced, values), step(begin, values)]);
      return begun.length > 0;
    },

    get: async (project, key, at) => {
      const [found] = await engine.run(get, { project, slot: key, now: at });
      if (!found) return null;
      const { writeId: _, sealed, ...request } = found;
      const place = { project, owner: found.run, part: 0 };
      return { ...request, sealed: sealed && (await whole(place, sealed)) };
    },

    renew: async (attempt) => (await engine.run(renew, { ...attempt, mark: newMark() })).length > 0,

    finish: async ({ project, slot: key, run, sealed }) => {
      const mark = newMark();
      const [done] = await engine.atomic([
        step(finish, { project, slot: key, run, mark, sealed: sealed && headOf(sealed) }),
        ...rest({ project, owner: run, part: 0 }, sealed, row.values([project, key], mark)),
      ]);
      return done.length > 0;
    },

    release: async (attempt) => {
      await engine.run(release, attempt);
    },
  };
}
