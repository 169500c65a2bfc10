import type { Json } from "../core/json.ts";
import type { Columns } from "./columns.ts";

/** Who is at what (core/leases). Of no project: the work is the broker's. */
export const defineLeaseTable = (c: Columns) => {
  const leases = c.table("leases", {
    name: c.text("name").primaryKey(),
    holder: c.text("holder").notNull(),
    until: c.millis("until").notNull(),
    /** What whoever takes it next should know. */
    note: c.json<Json>("note"),
  });
  return { leases };
};
