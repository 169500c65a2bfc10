import { and, eq, sql } from "drizzle-orm";
import type { ConversationId } from "../core/conversations.ts";
import {
  type Engine,
  type Marked,
  type Statement,
  type Step,
  given,
  ifMarked,
  marked,
  step,
} from "./engine.ts";

/** Where a conversation ends now, where it is to end, and the mark of the list. */
type Extension = { project: string; id: ConversationId; from: number; length: number; writeId: string };

/**
 * The first two statements of every list that appends to a conversation: the conversation is still there, and its thread ends
 * at `from`. The second one returns rows if both are so; the thread then has the mark, by which later statements know.
 *
 * Two, because PostgreSQL checks again only the row that a statement waited for. A deletion holds the conversation first and
 * may leave the thread as long as it was; so who appends has to wait for the conversation, too, and in the same order.
 */
export function createExtendConversation(
  engine: Engine,
): (extension: Extension) => [Step<unknown>, Step<{ id: string }[]>] {
  const { threads, conversations } = engine.tables;
  const conversation: Marked = marked(conversations, [conversations.id]);
  const hold: Statement<unknown> = (db) =>
    db
      .update(conversations)
      .set({ writeId: given(conversations.writeId, "writeId") })
      .where(
        and(
          eq(conversations.id, given(conversations.id, "id")),
          eq(conversations.project, given(conversations.project, "project")),
          sql`exists (select 1 from ${threads} where ${threads.id} = ${conversations.id}
            and ${threads.length} = ${given(threads.length, "from")})`,
        ),
      );
  const extend: Statement<{ id: string }[]> = (db) =>
    db
      .update(threads)
      .set({ length: given(threads.length, "length"), writeId: given(threads.writeId, "writeId") })
      .where(
        and(
          eq(threads.id, given(threads.id, "id")),
          eq(threads.project, given(threads.project, "project")),
          eq(threads.length, given(threads.length, "from")),
          ifMarked(conversation),
        ),
      )
      .returning({ id: threads.id });
  return (extension) => [
    step(hold, extension),
    step(extend, { ...extension, ...conversation.values([extension.id], extension.writeId) }),
  ];
}
