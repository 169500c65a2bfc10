import * as lite from "drizzle-orm/sqlite-core";
import { escapeNul, unescapeNul } from "./text.ts";

/**
 * The columns that the three engines share, here SQLite's and in `columns.pg.ts` PostgreSQL's: who runs on one does not read the
 * other's package. Each set builds genuine tables of its dialect, so that drizzle-kit makes both migrations; statements see
 * SQLite's types only.
 *
 * - `text` may hold U+0000, which PostgreSQL refuses: it is escaped on the way in (text.ts). Compared byte by byte.
 * - `json` is text, because jsonb sorts keys and refuses U+0000.
 * - `int` has 32 bits on PostgreSQL: times and sizes are `millis`.
 * - `bool` must not be null: Drizzle's encoder would write false.
 */
export const sqliteColumns = {
  table: lite.sqliteTable,
  text: (name: string) => liteText(name),
  int: (name: string) => lite.integer(name),
  millis: (name: string) => lite.integer(name),
  bool: (name: string) => lite.integer(name, { mode: "boolean" }),
  json: <T>(name: string) => liteJson(name).$type<T>(),
  bytes: (name: string) => liteBytes(name),
  index: lite.index,
  uniqueIndex: lite.uniqueIndex,
  primaryKey: lite.primaryKey,
  foreignKey: lite.foreignKey,
};

export type Columns = typeof sqliteColumns;

export const text = { toDriver: orNull(escapeNul), fromDriver: unescapeNul };
export const json = { toDriver: orNull((value: unknown) => JSON.stringify(value)), fromDriver: parse };
export const bytes = { fromDriver: plainBytes };

const liteText = lite.customType<{ data: string; driverData: string }>({ dataType: () => "text", ...text });
const liteJson = lite.customType<{ data: unknown; driverData: string }>({ dataType: () => "text", ...json });
const liteBytes = lite.customType<{ data: Uint8Array; driverData: Uint8Array }>({
  dataType: () => "blob",
  ...bytes,
});

// Drizzle hands null to the encoder when the value comes by a placeholder. The driver takes null for every type.
function orNull<In>(encode: (value: In) => string): (value: In) => string {
  return (value) => (value === null ? (null as unknown as string) : encode(value));
}

function parse(value: string): unknown {
  return JSON.parse(value);
}

/** Drivers give a Buffer (D1: an array of numbers). The core knows plain bytes only. */
function plainBytes(value: Uint8Array | number[]): Uint8Array {
  if (Array.isArray(value)) return Uint8Array.from(value);
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}
