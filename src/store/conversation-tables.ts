import type { AnySQLiteColumn } from "drizzle-orm/sqlite-core";
import type { ConversationId } from "../core/conversations.ts";
import type { UserId } from "../core/ids.ts";
import type { Columns } from "./columns.ts";

/** A conversation is a name and an owner for the thread of the same id; its items are the thread's. */
export const defineConversationTables = (
  c: Columns,
  { projects, threads }: { projects: { name: AnySQLiteColumn }; threads: { id: AnySQLiteColumn } },
) => {
  const conversations = c.table(
    "conversations",
    {
      id: c
        .text("id")
        .$type<ConversationId>()
        .primaryKey()
        .references(() => threads.id, { onDelete: "cascade" }),
      project: c
        .text("project")
        .notNull()
        .references(() => projects.name, { onDelete: "cascade" }),
      ownerUser: c.text("owner_user").$type<UserId>(),
      ownerPrincipal: c.text("owner_principal").notNull(),
      createdAt: c.millis("created_at").notNull(),
      metadata: c.json<Record<string, string>>("metadata").notNull(),
      writeId: c.text("write_id").notNull(),
    },
    (t) => [
      c.index("conversations_by_user").on(t.project, t.ownerUser),
      c.index("conversations_by_time").on(t.project, t.createdAt, t.id),
    ],
  );
  return { conversations };
};
