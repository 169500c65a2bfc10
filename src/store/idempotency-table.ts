import type { AnySQLiteColumn } from "drizzle-orm/sqlite-core";
import type { IdempotentRequest } from "../core/idempotency.ts";
import type { ResponseId } from "../core/ids.ts";
import type { Columns } from "./columns.ts";

/** Requests that came with an `Idempotency-Key`, for a day. Without a foreign key to responses: a deleted one frees no key. */
export const defineIdempotencyTable = (c: Columns, projects: { name: AnySQLiteColumn }) => {
  const idempotency = c.table(
    "idempotency",
    {
      project: c
        .text("project")
        .notNull()
        .references(() => projects.name, { onDelete: "cascade" }),
      slot: c.text("slot").notNull(),
      digest: c.text("digest").notNull(),
      run: c.text("run").$type<IdempotentRequest["run"]>().notNull(),
      status: c.text("status").$type<IdempotentRequest["status"]>().notNull(),
      responseId: c.text("response_id").$type<ResponseId>(),
      leaseUntil: c.millis("lease_until").notNull(),
      expiresAt: c.millis("expires_at").notNull(),
      sealed: c.bytes("sealed"),
      writeId: c.text("write_id").notNull(),
    },
    (t) => [
      c.primaryKey({ name: "idempotency_pk", columns: [t.project, t.slot] }),
      c.index("idempotency_by_expiry").on(t.expiresAt),
    ],
  );
  return { idempotency };
};
