import { and, asc, desc, eq, gt, inArray, lt, lte, or, sql, type Column, type SQL } from "drizzle-orm";
import type { HeldCall, HeldCalls, HeldCallStatus } from "../core/storage.ts";
import { createAuditInsert, createMarkedAudit } from "./audit.ts";
import { createBoxes, createBoxReader, createMarkedRest, headOf } from "./boxes.ts";
import { type Engine, type Statement, given, marked, newMark, placeholderRows, step } from "./engine.ts";
import { CALL, OUTCOME, REASON, type HeldCallRow, callOf, rowOf } from "./held-call-row.ts";
import { listed } from "./paging.ts";
import { viewerValues, visible } from "./viewer.ts";

export function createHeldCalls(engine: Engine): HeldCalls {
  const { heldCalls } = engine.tables;
  const boxes = createBoxes(engine);
  const row = marked(heldCalls, [heldCalls.id]);
  const unconditional = createAuditInsert(engine.tables);
  const audited = createMarkedAudit(engine.tables, row);
  const rest = createMarkedRest(engine.tables, row);
  const one = and(
    eq(heldCalls.id, given(heldCalls.id, "id")),
    eq(heldCalls.project, given(heldCalls.project, "project")),
  );
  const writeId = given(heldCalls.writeId, "mark");
  const isPending = eq(heldCalls.status, "pending");

  const insert: Statement<unknown> = (db) => db.insert(heldCalls).values(placeholderRows(heldCalls, 1));
  const get: Statement<HeldCallRow[]> = (db) => db.select().from(heldCalls).where(one);
  const getOwned: Statement<HeldCallRow[]> = (db) =>
    db
      .select()
      .from(heldCalls)
      .where(and(one, visible(heldCalls)));
  const ofResponse: Statement<HeldCallRow[]> = (db) =>
    db
      .select()
      .from(heldCalls)
      .where(
        and(
          eq(heldCalls.responseId, given(heldCalls.responseId, "responseId")),
          eq(heldCalls.project, given(heldCalls.project, "project")),
        ),
      )
      .orderBy(asc(heldCalls.createdAt), asc(heldCalls.position), asc(heldCalls.id));
  const decide: Statement<HeldCallRow[]> = (db) =>
    db
      .update(heldCalls)
      .set({
        status: given(heldCalls.status, "status"),
        decidedAt: given(heldCalls.decidedAt, "now"),
        decidedBy: given(heldCalls.decidedBy, "decidedBy"),
        sealedReason: given(heldCalls.sealedReason, "sealedReason"),
        writeId,
      })
      .where(and(one, isPending, gt(heldCalls.expiresAt, given(heldCalls.expiresAt, "now"))))
      .returning();
  const claim: Statement<HeldCallRow[]> = (db) =>
    db
      .update(heldCalls)
      .set({ status: "dispatched", leaseUntil: given(heldCalls.leaseUntil, "leaseUntil"), writeId })
      .where(and(one, eq(heldCalls.status, "approved")))
      .returning();
  const finish: Statement<{ id: string }[]> = (db) =>
    db
      .update(heldCalls)
      .set({
        status: "done",
        leaseUntil: null,
        sealedOutcome: given(heldCalls.sealedOutcome, "sealedOutcome"),
        writeId,
      })
      .where(and(one, inArray(heldCalls.status, ["dispatched", "unknown"])))
      .returning({ id: heldCalls.id });
  const expireLease: Statement<HeldCallRow[]> = (db) =>
    db
      .update(heldCalls)
      .set({ status: "unknown", leaseUntil: null, writeId })
      .where(
        and(
          one,
          eq(heldCalls.status, "dispatched"),
          lt(heldCalls.leaseUntil, given(heldCalls.leaseUntil, "now")),
        ),
      )
      .returning();
  const cancel: Statement<HeldCallRow[]> = (db) =>
    db
      .update(heldCalls)
      .set({ status: "cancelled", writeId })
      .where(and(one, inArray(heldCalls.status, ["pending", "approved"])))
      .returning();

  const readerOf = (head: Column) =>
    createBoxReader(engine, {
      table: heldCalls,
      head,
      where: sql`${heldCalls.id} = ${given(heldCalls.id, "owner")}`,
    });
  const wholeCall = readerOf(heldCalls.sealed);
  const wholeReason = readerOf(heldCalls.sealedReason);
  const wholeOutcome = readerOf(heldCalls.sealedOutcome);
  const whole = async (found: HeldCallRow): Promise<HeldCall> => {
    const { project, id: owner } = found;
    const place = (part: number) => ({ project, owner, part });
    return callOf(found, {
      sealed: await wholeCall(place(CALL), found.sealed),
      sealedReason: found.sealedReason && (await wholeReason(place(REASON), found.sealedReason)),
      sealedOutcome: found.sealedOutcome && (await wholeOutcome(place(OUTCOME), found.sealedOutcome)),
    });
  };
  const first = async (rows: HeldCallRow[]) => (rows[0] ? whole(rows[0]) : null);
  const readOne = async (project: string, id: string) => first(await engine.run(get, { project, id }));

  return {
    insert: async (calls, audit) => {
      const writeId = newMark();
      const steps = calls.flatMap((call, position) => [
        step(insert, rowOf(call, position, writeId)),
        ...boxes.rest({ project: call.project, owner: call.id, part: CALL }, call.sealed),
      ]);
      await engine.atomic([...steps, ...unconditional(audit)]);
    },

    get: readOne,

    getOwned: async (project, id, viewer) =>
      first(await engine.run(getOwned, { project, id, ...viewerValues(viewer) })),

    ofResponse: async (project, responseId) =>
      Promise.all((await engine.run(ofResponse, { project, responseId })).map(whole)),

    list: async ({ project, viewer, status, now }, page) => {
      const rows = await engine.run(
        (db) =>
          db
            .select()
            .from(heldCalls)
            .where(
              and(
                eq(heldCalls.project, project),
                viewer === null ? undefined : visible(heldCalls),
                status === null ? undefined : shownAs(status, now),
                page.after === null ? undefined : olderThan(project, page.after),
              ),
            )
            .orderBy(desc(heldCalls.createdAt), desc(heldCalls.id))
            .limit(page.limit + 1),
        viewer === null ? {} : viewerValues(viewer),
      );
      const { rows: shown, more } = listed(rows, page.limit);
      const calls = await Promise.all(shown.map(whole));
      return { rows: calls.map((call) => asShown(call, now)), more };
    },

    decide: async ({ project, id, approve, decidedBy, sealedReason, now }, audit) => {
      const mark = newMark();
      const found = row.values([id], mark);
      const status: HeldCallStatus = approve ? "approved" : "denied";
      const head = sealedReason && headOf(sealedReason);
      const [decided] = await engine.atomic([
        step(decide, { project, id, status, decidedBy, sealedReason: head, now, mark }),
        ...rest({ project, owner: id, part: REASON }, sealedReason, found),
        ...audited(audit, found),
      ]);
      return first(decided);
    },

    claim: async ({ project, id, leaseUntil }, audit) => {
      const mark = newMark();
      const [claimed] = await engine.atomic([
        step(claim, { project, id, leaseUntil, mark }),
        ...audited(audit, row.values([id], mark)),
      ]);
      return first(claimed);
    },

    finish: async ({ project, id, sealedOutcome }, audit) => {
      const mark = newMark();
      const found = row.values([id], mark);
      await engine.atomic([
        step(finish, { project, id, sealedOutcome: headOf(sealedOutcome), mark }),
        ...rest({ project, owner: id, part: OUTCOME }, sealedOutcome, found),
        ...audited(audit, found),
      ]);
    },

    expireLease: async (project, id, now) => {
      const expired = await engine.run(expireLease, { project, id, now, mark: newMark() });
      return expired.length > 0 ? first(expired) : readOne(project, id);
    },

    cancel: async (project, id, audit) => {
      const mark = newMark();
      const [cancelled] = await engine.atomic([
        step(cancel, { project, id, mark }),
        ...audited(audit, row.values([id], mark)),
      ]);
      return first(cancelled);
    },
  };

  function shownAs(status: HeldCallStatus, now: number): SQL | undefined {
    const overdue = lte(heldCalls.expiresAt, now);
    if (status === "pending") return and(isPending, gt(heldCalls.expiresAt, now));
    if (status === "expired") return or(eq(heldCalls.status, "expired"), and(isPending, overdue));
    return eq(heldCalls.status, status);
  }

  // Newest first, ids break ties. An id that is not there has nothing behind it.
  function olderThan(project: string, after: string): SQL {
    const last = (field: SQL) =>
      sql`(select ${field} from held_calls as last where last.project = ${project} and last.id = ${after})`;
    const at = last(sql`last.created_at`);
    return sql`(${heldCalls.createdAt} < ${at} or (${heldCalls.createdAt} = ${at} and ${heldCalls.id} < ${last(sql`last.id`)}))`;
  }
}

function asShown(call: HeldCall, now: number): HeldCall {
  return call.status === "pending" && call.expiresAt <= now ? { ...call, status: "expired" } : call;
}
