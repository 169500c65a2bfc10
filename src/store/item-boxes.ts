import { sql } from "drizzle-orm";
import type { ItemRow } from "../core/storage.ts";
import { createBoxReader } from "./boxes.ts";
import { type Engine, given } from "./engine.ts";
import type { Tables } from "./tables.ts";

/** Rows of items as they are known outside, with their whole boxes. */
export function createItemReader(engine: Engine): (row: Tables["items"]["$inferSelect"]) => Promise<ItemRow> {
  const { items } = engine.tables;
  const whole = createBoxReader(engine, {
    table: items,
    head: items.sealed,
    where: sql`${items.threadId} = ${given(items.threadId, "owner")} and ${items.position} = ${given(items.position, "part")}`,
  });
  return async ({ id, position, threadId, project, sealed }) => ({
    id,
    position,
    sealed: await whole({ project, owner: threadId, part: position }, sealed),
  });
}
