import type { RawColumn, RawDatabase, RawReference, RawRow } from "./raw-databases.ts";

/** Rows of each table, by its name. */
export type Filling = Map<string, RawRow[]>;

/** How many rows there are in each table: one for each way to fill a column. */
export const ROWS = 4;

/**
 * Fills tables with rows that are as odd as their columns take. Which there are is asked of the database, so that a table of a later
 * version is filled without anybody thinking of it; what refers to another table refers to the row of the same number. `from`: the number
 * of the first row; `into`: where they go, if that is a database of another version; `has`: what is there already, and stays as it is.
 */
export async function fill(
  database: RawDatabase,
  { from = 0, into = database, has = new Map() }: { from?: number; into?: RawDatabase; has?: Filling } = {},
): Promise<Filling> {
  const filling = rowsFor(await database.columns(), await database.references(), { from, has });
  for (const [table, rows] of filling) {
    if (!has.has(table)) await into.insert(table, rows);
  }
  return filling;
}

function rowsFor(
  columns: RawColumn[],
  references: RawReference[],
  { from, has }: { from: number; has: Filling },
): Filling {
  const made: Filling = new Map(has);
  const waiting = new Set(columns.map(({ table }) => table).filter((table) => !made.has(table)));
  while (waiting.size > 0) {
    const table = [...waiting].find((name) =>
      references.every((to) => to.table !== name || to.ofTable === name || made.has(to.ofTable)),
    );
    if (table === undefined) throw new Error(`these refer to each other: ${[...waiting].join(", ")}`);
    waiting.delete(table);
    const own = columns.filter((column) => column.table === table);
    const out = references.filter((to) => to.table === table);
    made.set(
      table,
      Array.from({ length: ROWS }, (_, at) => {
        const row = Object.fromEntries(own.map((column) => [column.name, valueOf(column, from + at)]));
        for (const { column, ofTable, ofColumn } of out) {
          if (row[column] !== null) row[column] = made.get(ofTable)?.[at]?.[ofColumn];
        }
        return row;
      }),
    );
  }
  return made;
}

/** The largest, what can be left out, the least, and something odd, in turn. */
function valueOf({ name, type, notNull, isIndexed }: RawColumn, n: number): unknown {
  const way = n % ROWS;
  if (way === 1 && !notNull) return null;
  switch (type) {
    case "text":
      // What is indexed differs from row to row, and is not longer than PostgreSQL indexes.
      if (isIndexed) return `${name}-${n}-Grüße 🙂 '"\\ \u001A`;
      return [`${"Grüße 🙂 ".repeat(300)}${n}`, "x", "", `{"${n}": ["'\\"\\\\", null, "\u001A0"]}`][way];
    case "blob":
    case "bytea":
      return bytesOf([10_000, 1, 0, 256][way] ?? 0, n);
    case "integer":
      return isIndexed ? n : [2 ** 31 - 1, 1, 0, -(2 ** 31)][way];
    case "bigint":
      return isIndexed ? 2 ** 53 - 1 - n : [2 ** 53 - 1, 1, 0, -(2 ** 53 - 1)][way];
    case "boolean":
      return way % 2 === 0;
    default:
      throw new Error(`${name} has the type ${type}, for which nobody has written a value`);
  }
}

const bytesOf = (length: number, n: number) =>
  Uint8Array.from({ length }, (_, at) => (at * 31 + (at >> 8) + n) & 0xff);
