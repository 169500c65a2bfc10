import { and, asc, desc, eq, gt, lt, sql } from "drizzle-orm";
import type { Conversation, Conversations, StoredConversation } from "../core/conversations.ts";
import type { ItemRow } from "../core/storage.ts";
import { createBoxes, createMarkedRest, headOf } from "./boxes.ts";
import { createExtendConversation } from "./conversation-thread.ts";
import { createDeleteConversation, createDeleteItem } from "./conversations-delete.ts";
import {
  type Engine,
  type Statement,
  given,
  insertIfMarked,
  marked,
  newMark,
  placeholderRows,
  step,
} from "./engine.ts";
import { listed } from "./paging.ts";
import type { Tables } from "./tables.ts";
import { indexKey } from "./text.ts";
import { viewerValues, visible } from "./viewer.ts";

type Row = Tables["conversations"]["$inferSelect"];
type ItemTableRow = Tables["items"]["$inferSelect"];

export function createConversations(engine: Engine): Conversations {
  const { threads, conversations, items } = engine.tables;
  const boxes = createBoxes(engine);
  const row = marked(threads, [threads.id]);
  const rest = createMarkedRest(engine.tables, row);
  const insertItem = insertIfMarked(items, row);
  const owned = and(
    eq(conversations.id, given(conversations.id, "id")),
    eq(conversations.project, given(conversations.project, "project")),
    visible(conversations),
  );

  const insertThread: Statement<unknown> = (db) => db.insert(threads).values(placeholderRows(threads, 1));
  const insert = insertIfMarked(conversations, row);
  const get: Statement<{ conversation: Row; end: number }[]> = (db) =>
    db
      .select({ conversation: conversations, end: threads.length })
      .from(conversations)
      .innerJoin(threads, eq(threads.id, conversations.id))
      .where(owned);
  const claim: Statement<{ id: string }[]> = (db) =>
    db
      .update(conversations)
      .set({
        ownerUser: given(conversations.ownerUser, "user"),
        writeId: given(conversations.writeId, "mark"),
      })
      .where(
        and(
          eq(conversations.id, given(conversations.id, "id")),
          eq(conversations.project, given(conversations.project, "project")),
          sql`(${conversations.ownerUser} is null or ${conversations.ownerUser} = ${given(conversations.ownerUser, "user")})`,
        ),
      )
      .returning({ id: conversations.id });
  const setMetadata: Statement<Row[]> = (db) =>
    db
      .update(conversations)
      .set({
        metadata: given(conversations.metadata, "metadata"),
        writeId: given(conversations.writeId, "mark"),
      })
      .where(owned)
      .returning();
  const extend = createExtendConversation(engine);

  const inThread = and(
    eq(items.threadId, given(items.threadId, "id")),
    eq(items.project, given(items.project, "project")),
  );
  // The last of those that share an id. By the index of ids, so that a page costs what it holds.
  const isLast = sql`not exists (select 1 from ${items} as later where later.project = ${items.project}
    and later.id = ${items.id} and later.thread_id = ${items.threadId} and later.position > ${items.position})`;
  const cursor = sql`(select max(mark.position) from ${items} as mark where mark.project = ${given(items.project, "project")}
    and mark.id = ${given(items.id, "after")} and mark.thread_id = ${given(items.threadId, "id")})`;
  const limit = sql.placeholder("limit");
  const oldest: Statement<ItemTableRow[]> = (db) =>
    db.select().from(items).where(and(inThread, isLast)).orderBy(asc(items.position)).limit(limit);
  const newest: Statement<ItemTableRow[]> = (db) =>
    db.select().from(items).where(and(inThread, isLast)).orderBy(desc(items.position)).limit(limit);
  const later: Statement<ItemTableRow[]> = (db) =>
    db
      .select()
      .from(items)
      .where(and(inThread, isLast, gt(items.position, cursor)))
      .orderBy(asc(items.position))
      .limit(limit);
  const earlier: Statement<ItemTableRow[]> = (db) =>
    db
      .select()
      .from(items)
      .where(and(inThread, isLast, lt(items.position, cursor)))
      .orderBy(desc(items.position))
      .limit(limit);
  const one: Statement<ItemTableRow[]> = (db) =>
    db
      .select()
      .from(items)
      .where(and(inThread, eq(items.id, given(items.id, "itemId")), isLast));

  const whole = async ({ id, position, threadId, project, sealed }: ItemTableRow): Promise<ItemRow> => ({
    id,
    position,
    sealed: await boxes.whole({ project, owner: threadId, part: position }, sealed),
  });
  const itemSteps = async (project: string, threadId: string, rows: ItemRow[], mark: string) => {
    const found = row.values([threadId], mark);
    const keyed = await Promise.all(rows.map(async (item) => ({ ...item, id: await indexKey(item.id) })));
    return keyed.flatMap((item) => [
      step(insertItem, { ...item, sealed: headOf(item.sealed), project, threadId, ...found }),
      ...rest({ project, owner: threadId, part: item.position }, item.sealed, found),
    ]);
  };
  const item: Conversations["item"] = async (project, id, itemId) => {
    const [found] = await engine.run(one, { project, id, itemId: await indexKey(itemId) });
    return found ? whole(found) : null;
  };

  return {
    insert: async ({ id, project, owner, createdAt, metadata }, rows) => {
      const writeId = newMark();
      const values = {
        id,
        project,
        ownerUser: owner.user,
        ownerPrincipal: owner.principal,
        createdAt,
        metadata,
      };
      await engine.atomic([
        step(insertThread, { id, project, length: rows.length, writeId }),
        step(insert, { ...values, writeId, ...row.values([id], writeId) }),
        ...(await itemSteps(project, id, rows, writeId)),
      ]);
    },

    get: async ({ project, id, viewer }) => {
      const [found] = await engine.run(get, { project, id, ...viewerValues(viewer) });
      return found ? storedOf(found) : null;
    },

    claim: async (project, id, user) =>
      (await engine.run(claim, { project, id, user, mark: newMark() })).length > 0,

    setMetadata: async ({ project, id, viewer }, metadata) => {
      const values = { project, id, metadata, mark: newMark(), ...viewerValues(viewer) };
      const [found] = await engine.run(setMetadata, values);
      return found ? conversationOf(found) : null;
    },

    append: async (project, id, from, rows) => {
      const writeId = newMark();
      const [, extended] = await engine.atomic([
        ...extend({ id, project, from, length: from + rows.length, writeId }),
        ...(await itemSteps(project, id, rows, writeId)),
      ]);
      return extended.length > 0;
    },

    items: async ({ project, id, after, limit: most, order }) => {
      const values = { project, id, limit: most + 1 };
      if (after === null) {
        const rows = await engine.run(order === "asc" ? oldest : newest, values);
        return listed(await Promise.all(rows.map(whole)), most);
      }
      const rows = await engine.run(order === "asc" ? later : earlier, {
        ...values,
        after: await indexKey(after),
      });
      if (rows.length === 0 && !(await item(project, id, after))) return null;
      return listed(await Promise.all(rows.map(whole)), most);
    },

    item,
    deleteItem: createDeleteItem(engine),
    delete: createDeleteConversation(engine),
  };
}

function storedOf({ conversation, end }: { conversation: Row; end: number }): StoredConversation {
  return { conversation: conversationOf(conversation), end };
}

function conversationOf({ id, project, ownerUser, ownerPrincipal, createdAt, metadata }: Row): Conversation {
  return { id, project, owner: { user: ownerUser, principal: ownerPrincipal }, createdAt, metadata };
}
