import type { AnySQLiteColumn } from "drizzle-orm/sqlite-core";
import type { BackgroundWork } from "../core/background.ts";
import type { ResponseId, UserId } from "../core/ids.ts";
import type { Columns } from "./columns.ts";

/**
 * Responses that are made without their caller, and what was said of them so far, in batches. Without a foreign key to
 * responses: there is none before its end.
 */
export const defineBackgroundTables = (c: Columns, projects: { name: AnySQLiteColumn }) => {
  const background = c.table(
    "background",
    {
      id: c.text("id").$type<ResponseId>().primaryKey(),
      project: c
        .text("project")
        .notNull()
        .references(() => projects.name, { onDelete: "cascade" }),
      ownerUser: c.text("owner_user").$type<UserId>(),
      ownerPrincipal: c.text("owner_principal").notNull(),
      status: c.text("status").$type<BackgroundWork["status"]>().notNull(),
      run: c.text("run").$type<BackgroundWork["run"]>(),
      leaseUntil: c.millis("lease_until").notNull(),
      attempts: c.int("attempts").notNull(),
      cancelledAt: c.millis("cancelled_at"),
      batches: c.int("batches").notNull(),
      bytes: c.millis("bytes").notNull(),
      createdAt: c.millis("created_at").notNull(),
      expiresAt: c.millis("expires_at").notNull(),
      body: c.bytes("body").notNull(),
      sealed: c.bytes("sealed").notNull(),
      writeId: c.text("write_id").notNull(),
    },
    (t) => [
      c.index("background_by_lease").on(t.status, t.leaseUntil),
      c.index("background_by_project").on(t.project, t.status),
      c.index("background_by_expiry").on(t.expiresAt),
    ],
  );
  const backgroundBatches = c.table(
    "background_batches",
    {
      id: c
        .text("id")
        .$type<ResponseId>()
        .notNull()
        .references(() => background.id, { onDelete: "cascade" }),
      seq: c.int("seq").notNull(),
      project: c.text("project").notNull(),
      sealed: c.bytes("sealed").notNull(),
    },
    (t) => [c.primaryKey({ name: "background_batches_pk", columns: [t.id, t.seq] })],
  );
  return { background, backgroundBatches };
};
