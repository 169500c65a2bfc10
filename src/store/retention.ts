import { type Column, type SQL, and, asc, eq, inArray, lt, or, sql } from "drizzle-orm";
import type { Retention, TimePoint } from "../core/expiry.ts";
import type { ConversationId } from "../core/conversations.ts";
import type { ResponseId, UserId } from "../core/ids.ts";
import { type Engine, type Statement, given, newMark, step } from "./engine.ts";

type Owned = { ownerUser: UserId | null; ownerPrincipal: string };
type Timed<Id> = Owned & { id: Id; createdAt: number };

export function createRetention(engine: Engine): Retention {
  const { boxChunks, conversations, heldCalls, items, responses } = engine.tables;
  const limit = sql.placeholder("limit");

  // Among what is selected Drizzle names columns without their tables.
  const conversation = sql<
    string | null
  >`(select held.id from ${conversations} as held where held.id = responses.thread_id)`;
  const oldResponses: Statement<(Timed<ResponseId> & { conversation: string | null })[]> = (db) =>
    db
      .select({
        id: responses.id,
        createdAt: responses.createdAt,
        conversation,
        ownerUser: responses.ownerUser,
        ownerPrincipal: responses.ownerPrincipal,
      })
      .from(responses)
      .where(and(madeBefore(responses), isBehind(responses, "after")))
      .orderBy(asc(responses.createdAt), asc(responses.id))
      .limit(limit);
  const lastUse = sql<number>`coalesce((select max(used.created_at) from ${responses} as used
    where used.thread_id = conversations.id), ${conversations.createdAt})`.mapWith(Number);
  const oldConversations: Statement<(Timed<ConversationId> & { usedAt: number })[]> = (db) =>
    db
      .select({
        id: conversations.id,
        ownerUser: conversations.ownerUser,
        ownerPrincipal: conversations.ownerPrincipal,
        createdAt: conversations.createdAt,
        usedAt: lastUse,
      })
      .from(conversations)
      .where(and(madeBefore(conversations), isBehind(conversations, "after")))
      .orderBy(asc(conversations.createdAt), asc(conversations.id))
      .limit(limit);
  const oldCalls: Statement<TimePoint[]> = (db) =>
    db
      .select({ createdAt: heldCalls.createdAt, id: heldCalls.id })
      .from(heldCalls)
      .where(and(madeBefore(heldCalls), isBehind(heldCalls, "after")))
      .orderBy(asc(heldCalls.createdAt), asc(heldCalls.id))
      .limit(limit);
  // An id of ours is its own index key.
  const isSpokenOf = sql`exists (select 1 from ${items} where ${items.project} = ${heldCalls.project} and ${items.id} = ${heldCalls.id})`;
  const isOver = and(
    madeBefore(heldCalls),
    isBehind(heldCalls, "after"),
    sql`not ${isBehind(heldCalls, "last")}`,
    or(
      inArray(heldCalls.status, ["done", "unknown", "denied", "expired", "cancelled"]),
      and(
        eq(heldCalls.status, "approved"),
        lt(heldCalls.decidedAt, given(heldCalls.decidedAt, "decidedBefore")),
      ),
    ),
    sql`not ${isSpokenOf}`,
  );
  // Marked first: each statement by itself would find others, as calls end in between.
  const markCalls: Statement<{ id: string }[]> = (db) =>
    db
      .update(heldCalls)
      .set({ writeId: given(heldCalls.writeId, "mark") })
      .where(isOver)
      .returning({ id: heldCalls.id });
  const isMarked = and(
    madeBefore(heldCalls),
    isBehind(heldCalls, "after"),
    sql`not ${isBehind(heldCalls, "last")}`,
    eq(heldCalls.writeId, given(heldCalls.writeId, "mark")),
  );
  const removeChunks: Statement<unknown> = (db) =>
    db
      .delete(boxChunks)
      .where(
        and(
          eq(boxChunks.project, given(boxChunks.project, "project")),
          sql`${boxChunks.owner} in (select ${heldCalls.id} from ${heldCalls} where ${isMarked})`,
        ),
      );
  const removeCalls: Statement<unknown> = (db) => db.delete(heldCalls).where(isMarked);

  return {
    responses: async ({ project, before, after }, most) => {
      const of = { project, before, ...pointValues("after", after) };
      const found = await engine.run(oldResponses, { ...of, limit: most });
      return found.map(({ id, createdAt, conversation: within, ...owner }) => ({
        id,
        createdAt,
        isInConversation: within !== null,
        owner: ownerOf(owner),
      }));
    },

    conversations: async ({ project, before, after }, most) =>
      (
        await engine.run(oldConversations, { project, before, limit: most, ...pointValues("after", after) })
      ).map(({ id, createdAt, usedAt, ...owner }) => ({ id, createdAt, usedAt, owner: ownerOf(owner) })),

    heldCalls: async ({ project, before, decidedBefore, after }, most) => {
      const of = { project, before, ...pointValues("after", after) };
      const found = await engine.run(oldCalls, { ...of, limit: most });
      const last = found.at(-1);
      if (!last) return { deleted: 0, next: null };
      const values = { ...of, decidedBefore, mark: newMark(), ...pointValues("last", last) };
      const [gone] = await engine.atomic([
        step(markCalls, values),
        step(removeChunks, values),
        step(removeCalls, values),
      ]);
      return { deleted: gone.length, next: found.length < most ? null : last };
    },
  };
}

type TimedTable = { project: Column; createdAt: Column; id: Column };

function madeBefore({ project, createdAt }: TimedTable): SQL | undefined {
  return and(eq(project, given(project, "project")), lt(createdAt, given(createdAt, "before")));
}

function isBehind({ createdAt, id }: TimedTable, name: "after" | "last"): SQL {
  return sql`(${createdAt}, ${id}) > (${given(createdAt, `${name}At`)}, ${given(id, `${name}Id`)})`;
}

/** Before everything, where there is no point yet. */
function pointValues(name: "after" | "last", point: TimePoint | null) {
  return { [`${name}At`]: point?.createdAt ?? -1, [`${name}Id`]: point?.id ?? "" };
}

const ownerOf = ({ ownerUser, ownerPrincipal }: Owned) => ({
  user: ownerUser,
  principal: ownerPrincipal,
});
