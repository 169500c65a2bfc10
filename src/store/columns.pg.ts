import * as pg from "drizzle-orm/pg-core";
import { bytes, type Columns, json, text } from "./columns.ts";

/** PostgreSQL's set; what its columns promise is written at SQLite's. */
export const pgColumns = {
  table: pg.pgTable,
  text: (name: string) => pgText(name),
  int: (name: string) => pg.integer(name),
  millis: (name: string) => pg.bigint(name, { mode: "number" }),
  bool: (name: string) => pg.boolean(name),
  json: <T>(name: string) => pgJson(name).$type<T>(),
  bytes: (name: string) => pgBytes(name),
  index: pg.index,
  uniqueIndex: pg.uniqueIndex,
  primaryKey: pg.primaryKey,
  foreignKey: pg.foreignKey,
  // The one cast: from here on PostgreSQL's tables pass for SQLite's. The contract suite runs on both.
} satisfies Record<keyof Columns, unknown> as unknown as Columns;

// Collation "C" is SQLite's order (bytes), whatever the database was made with.
const pgText = pg.customType<{ data: string; driverData: string }>({
  dataType: () => 'text COLLATE "C"',
  ...text,
});
const pgJson = pg.customType<{ data: unknown; driverData: string }>({ dataType: () => "text", ...json });
const pgBytes = pg.customType<{ data: Uint8Array; driverData: Uint8Array }>({
  dataType: () => "bytea",
  ...bytes,
});
