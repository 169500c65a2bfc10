import { and, eq, gte, sql } from "drizzle-orm";
import type { Responses } from "../core/storage.ts";
import { createMarkedAudit } from "./audit.ts";
import { type Engine, type Statement, given, ifMarked, marked, newMark, step } from "./engine.ts";
import { viewerValues, visible } from "./viewer.ts";

/**
 * Deletes a response with what only it needed. A response needs the items of its thread up to its end, so an item goes
 * when no other response of the thread ends behind it; a thread goes with its last response. A conversation keeps its
 * items, and its thread.
 */
export function createDeleteResponse(engine: Engine): Responses["delete"] {
  const { threads, responses, conversations, items, heldCalls, boxChunks } = engine.tables;
  const row = marked(responses, [responses.id]);
  const audited = createMarkedAudit(engine.tables, row);
  const itsThread = sql`(select ${responses.threadId} from ${responses} where ${row.where})`;
  // The other responses of the thread, seen beside the marked one.
  const others = sql`${responses.threadId} = ${threads.id} and ${responses.id} <> ${given(responses.id, "id")}`;
  const inConversation = sql`exists (select 1 from ${conversations} where ${conversations.id} = ${threads.id})`;
  const neededEnd = sql`case when ${inConversation} then ${threads.length}
    else coalesce((select max(${responses.end}) from ${responses} where ${others}), 0) end`;
  const neededLength = sql`(select ${threads.length} from ${threads} where ${threads.id} = ${itsThread})`;

  const mark: Statement<{ threadId: string }[]> = (db) =>
    db
      .update(responses)
      .set({ writeId: given(responses.writeId, "mark") })
      .where(
        and(
          eq(responses.id, given(responses.id, "id")),
          eq(responses.project, given(responses.project, "project")),
          visible(responses),
        ),
      )
      .returning({ threadId: responses.threadId });
  const cancelHeldCalls: Statement<unknown> = (db) =>
    db
      .update(heldCalls)
      .set({
        status: "cancelled",
        decidedAt: given(heldCalls.decidedAt, "at"),
        writeId: given(heldCalls.writeId, "mark"),
      })
      .where(
        and(
          eq(heldCalls.project, given(heldCalls.project, "project")),
          eq(heldCalls.responseId, given(heldCalls.responseId, "id")),
          eq(heldCalls.status, "pending"),
          ifMarked(row),
        ),
      );
  // Locks the thread against whoever continues it; only after that is it known what the others need.
  const lockThread: Statement<unknown> = (db) =>
    db
      .update(threads)
      .set({ writeId: given(threads.writeId, "mark") })
      .where(sql`${threads.id} = ${itsThread}`);
  const shorten: Statement<unknown> = (db) =>
    db
      .update(threads)
      .set({ length: neededEnd })
      .where(sql`${threads.id} = ${itsThread}`);
  const removeItems: Statement<unknown> = (db) =>
    db.delete(items).where(and(sql`${items.threadId} = ${itsThread}`, gte(items.position, neededLength)));
  const removeItemChunks: Statement<unknown> = (db) =>
    db
      .delete(boxChunks)
      .where(
        and(
          eq(boxChunks.project, given(boxChunks.project, "project")),
          sql`${boxChunks.owner} = ${itsThread}`,
          gte(boxChunks.part, neededLength),
        ),
      );
  const removeOwnChunks: Statement<unknown> = (db) =>
    db
      .delete(boxChunks)
      .where(
        and(
          eq(boxChunks.project, given(boxChunks.project, "project")),
          eq(boxChunks.owner, given(boxChunks.owner, "id")),
          ifMarked(row),
        ),
      );
  // Takes the response and the items with it.
  const removeThreadIfAlone: Statement<unknown> = (db) =>
    db.delete(threads).where(sql`${threads.id} = ${itsThread} 
          and not ${inConversation} and not exists (select 1 from ${responses} where ${others})`);
  const remove: Statement<unknown> = (db) => db.delete(responses).where(row.where);

  return async ({ project, id, viewer, at }, audit) => {
    const writeId = newMark();
    const found = row.values([id], writeId);
    const values = { project, id, at, mark: writeId, ...found };
    const [gone] = await engine.atomic([
      step(mark, { ...values, ...viewerValues(viewer) }),
      step(cancelHeldCalls, values),
      ...audited(audit, found),
      step(lockThread, values),
      step(shorten, values),
      step(removeItemChunks, values),
      step(removeItems, values),
      step(removeOwnChunks, values),
      step(removeThreadIfAlone, values),
      step(remove, values),
    ]);
    return gone.length > 0;
  };
}
