import { and, eq, gte, inArray, sql } from "drizzle-orm";
import type { Conversations } from "../core/conversations.ts";
import { createMarkedAudit } from "./audit.ts";
import {
  type Engine,
  type Marked,
  type Statement,
  given,
  ifMarked,
  marked,
  newMark,
  step,
} from "./engine.ts";
import { indexKey } from "./text.ts";
import { viewerValues, visible } from "./viewer.ts";

/**
 * Deletes a conversation with what only it needed: its thread stays as far as the last response in it, and goes where there
 * is none.
 */
export function createDeleteConversation(engine: Engine): Conversations["delete"] {
  const { threads, responses, conversations, items, boxChunks } = engine.tables;
  const row = marked(conversations, [conversations.id]);
  const audited = createMarkedAudit(engine.tables, row);
  const isIt = and(eq(threads.id, given(threads.id, "id")), ifMarked(row));
  const itsResponses = sql`select 1 from ${responses} where ${responses.threadId} = ${threads.id}`;
  const neededEnd = sql`coalesce((select max(${responses.end}) from ${responses} where ${responses.threadId} = ${threads.id}), 0)`;
  const neededLength = sql`(select ${threads.length} from ${threads} where ${threads.id} = ${given(threads.id, "id")})`;

  const mark = createMark(
    engine,
    sql`not exists (select 1 from ${responses} where ${responses.threadId} = ${conversations.id}
      and ${responses.createdAt} >= ${given(responses.createdAt, "unusedSince")})`,
  );
  // Whoever appends a response holds the conversation first. Behind them, the next statement sees what they have appended.
  const hold: Statement<unknown> = (db) =>
    db
      .update(conversations)
      .set({ writeId: given(conversations.writeId, "holding") })
      .where(
        and(
          eq(conversations.id, given(conversations.id, "id")),
          eq(conversations.project, given(conversations.project, "project")),
          visible(conversations),
        ),
      );
  // Locks the thread against whoever continues it; only after that is it known what its responses need.
  const lockThread: Statement<unknown> = (db) =>
    db
      .update(threads)
      .set({ writeId: given(threads.writeId, "mark") })
      .where(isIt);
  const shorten: Statement<unknown> = (db) => db.update(threads).set({ length: neededEnd }).where(isIt);
  const removeChunks: Statement<unknown> = (db) =>
    db
      .delete(boxChunks)
      .where(
        and(
          eq(boxChunks.project, given(boxChunks.project, "project")),
          eq(boxChunks.owner, given(boxChunks.owner, "id")),
          gte(boxChunks.part, neededLength),
          ifMarked(row),
        ),
      );
  const removeItems: Statement<unknown> = (db) =>
    db
      .delete(items)
      .where(
        and(
          eq(items.threadId, given(items.threadId, "id")),
          gte(items.position, neededLength),
          ifMarked(row),
        ),
      );
  const remove: Statement<unknown> = (db) => db.delete(conversations).where(row.where);
  // The conversation is gone by now, so its mark cannot be asked for: the thread has the same one.
  const removeThreadIfAlone: Statement<unknown> = (db) =>
    db
      .delete(threads)
      .where(
        and(
          eq(threads.id, given(threads.id, "id")),
          eq(threads.writeId, given(threads.writeId, "mark")),
          sql`not exists (${itsResponses})`,
        ),
      );

  return async ({ project, id, viewer, unusedSince = Number.MAX_SAFE_INTEGER }, audit) => {
    const writeId = newMark();
    const found = row.values([id], writeId);
    const values = { project, id, mark: writeId, ...found };
    const [, gone] = await engine.atomic([
      step(hold, { project, id, holding: newMark(), ...viewerValues(viewer) }),
      step(mark, { ...values, unusedSince, ...viewerValues(viewer) }),
      ...audited(audit, found),
      step(lockThread, values),
      step(shorten, values),
      step(removeChunks, values),
      step(removeItems, values),
      step(remove, values),
      step(removeThreadIfAlone, values),
    ]);
    return gone.length > 0;
  };
}

/** Deletes an item wherever it stands in its conversation. Positions stay as they are. */
export function createDeleteItem(engine: Engine): Conversations["deleteItem"] {
  const { conversations, items, boxChunks } = engine.tables;
  const row = marked(conversations, [conversations.id]);
  const audited = createMarkedAudit(engine.tables, row);
  const isIt = and(
    eq(items.project, given(items.project, "project")),
    eq(items.threadId, given(items.threadId, "id")),
    eq(items.id, given(items.id, "itemId")),
  );
  const mark = createMark(engine, sql`exists (select 1 from ${items} where ${isIt})`);
  const removeChunks: Statement<unknown> = (db) =>
    db
      .delete(boxChunks)
      .where(
        and(
          eq(boxChunks.project, given(boxChunks.project, "project")),
          eq(boxChunks.owner, given(boxChunks.owner, "id")),
          inArray(boxChunks.part, sql`(select ${items.position} from ${items} where ${isIt})`),
          ifMarked(row),
        ),
      );
  const remove: Statement<unknown> = (db) => db.delete(items).where(and(isIt, ifMarked(row)));

  return async ({ project, id, viewer }, itemId, audit) => {
    const writeId = newMark();
    const found = row.values([id], writeId);
    const values = { project, id, itemId: await indexKey(itemId), mark: writeId, ...found };
    const [changed] = await engine.atomic([
      step(mark, { ...values, ...viewerValues(viewer) }),
      step(removeChunks, values),
      step(remove, values),
      ...audited(audit, found),
    ]);
    return changed.length > 0;
  };
}

/** What both do only then: the conversation, if the viewer may see it, gets the mark. */
function createMark({ tables }: Engine, also: ReturnType<typeof sql>): Statement<{ id: string }[]> {
  const { conversations } = tables;
  return (db) =>
    db
      .update(conversations)
      .set({ writeId: given(conversations.writeId, "mark") })
      .where(
        and(
          eq(conversations.id, given(conversations.id, "id")),
          eq(conversations.project, given(conversations.project, "project")),
          visible(conversations),
          also,
        ),
      )
      .returning({ id: conversations.id });
}

/** A user's conversations with all that is in them, as later statements of a list: only if the marked row is there. */
export function removeConversationsIfMarked(engine: Engine, row: Marked): Statement<unknown>[] {
  const { threads, responses, conversations, boxChunks } = engine.tables;
  const theirs = sql`(select ${conversations.id} from ${conversations}
    where ${conversations.project} = ${given(conversations.project, "project")}
    and ${conversations.ownerUser} = ${given(conversations.ownerUser, "id")})`;
  const theirResponses = sql`(select ${responses.id} from ${responses} where ${responses.threadId} in ${theirs})`;
  const inProject = eq(boxChunks.project, given(boxChunks.project, "project"));
  return [
    (db) =>
      db.delete(boxChunks).where(and(inProject, sql`${boxChunks.owner} in ${theirResponses}`, ifMarked(row))),
    (db) => db.delete(boxChunks).where(and(inProject, sql`${boxChunks.owner} in ${theirs}`, ifMarked(row))),
    // Takes conversations, responses and items with it.
    (db) => db.delete(threads).where(and(sql`${threads.id} in ${theirs}`, ifMarked(row))),
  ];
}
