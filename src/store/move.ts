import { asc, count, getTableColumns, sql } from "drizzle-orm";
import { getTableConfig, type SQLiteTable } from "drizzle-orm/sqlite-core";
import type { Db } from "./engine.ts";
import * as schema from "./schema.sqlite.ts";
import type { Tables } from "./tables.ts";

/** A database that nobody else changes meanwhile, in one transaction of ours. */
export type Side = {
  /** Runs one statement. Its faults are the driver's: they tell no row. */
  run: <T>(statement: (db: Db) => PromiseLike<T>) => Promise<T>;
  tables: Tables;
  /** Keeps what was written. Without it nothing has happened. */
  commit: () => Promise<void>;
  /** Ends the transaction, and whatever was not kept with it. */
  close: () => Promise<void>;
};

/** Why nothing was moved, as a sentence that says what to do. */
export class MoveError extends Error {
  override readonly name = "MoveError";
}

export type Moved = { table: string; rows: number };

/**
 * Copies every row of one database into another, which must be empty, table by table and a bounded number of rows at a time.
 * Rows stay as they are, ids, versions and sealed boxes with them, so that every box opens under the same keyring. Both sides are
 * counted afterwards, and then all of it is kept at once: whenever this ends early, the target is as empty as before.
 *
 * `onTable` hears of each table that is done. Throws `MoveError`.
 */
export async function moveRows(from: Side, to: Side, onTable: (moved: Moved) => void): Promise<void> {
  const filled = [];
  for (const name of TABLES) if ((await countRows(to, name)) > 0) filled.push(nameOf(name));
  if (filled.length > 0) {
    throw new MoveError(
      `The target is not empty (${filled.join(", ")}). Give a database without tables, or one that no broker has started on.`,
    );
  }
  for (const name of TABLES) {
    const rows = await copyTable(from, to, name);
    const counts = [await countRows(from, name), await countRows(to, name)];
    if (counts.some((found) => found !== rows))
      throw new MoveError(
        `Of ${nameOf(name)} ${rows} rows were copied, but there are ${counts.join(" and ")}.`,
      );
    onTable({ table: nameOf(name), rows });
  }
  await to.commit();
}

type TableName = keyof Tables;

/** Names, keys and what refers to what are the same on every engine. */
const declared: Tables = schema;

/** Every table, each behind those that it refers to. */
export const TABLES: readonly TableName[] = inOrder(Object.entries(declared));

/** Rows that are in memory at a time: one of them holds up to 900 kB. */
const ROWS_AT_ONCE = 50;

async function copyTable(from: Side, to: Side, name: TableName): Promise<number> {
  const source: SQLiteTable = from.tables[name];
  const target: SQLiteTable = to.tables[name];
  const columns = getTableColumns(source);
  const key = keyOf(declared[name]).map((property) => {
    const column = columns[property];
    if (!column) throw new Error(`${name} has no column ${property}`);
    return { property, column };
  });
  const order = key.map(({ column }) => asc(column));
  const names = sql.join(
    key.map(({ column }) => sql`${column}`),
    sql`, `,
  );
  let copied = 0;
  for (let after: Record<string, unknown> | null = null; ;) {
    const last: Record<string, unknown> | null = after;
    const values = key.map(({ property, column }) => sql`${sql.param(last?.[property], column)}`);
    const rows: Record<string, unknown>[] = await from.run((db) =>
      db
        .select()
        .from(source)
        .where(last === null ? undefined : sql`(${names}) > (${sql.join(values, sql`, `)})`)
        .orderBy(...order)
        .limit(ROWS_AT_ONCE),
    );
    if (rows.length > 0) await to.run((db) => db.insert(target).values(rows));
    copied += rows.length;
    after = rows.at(-1) ?? null;
    if (rows.length < ROWS_AT_ONCE) return copied;
  }
}

async function countRows({ run, tables }: Side, name: TableName): Promise<number> {
  const table: SQLiteTable = tables[name];
  const [found] = await run((db) => db.select({ rows: count() }).from(table));
  return found?.rows ?? 0;
}

/** What the database calls it. */
export function nameOf(name: TableName): string {
  return getTableConfig(declared[name]).name;
}

/** The properties of a primary key: how its rows are told apart and put in order, on every engine alike. */
function keyOf(table: SQLiteTable): string[] {
  const { columns, primaryKeys } = getTableConfig(table);
  const key = primaryKeys[0]?.columns ?? columns.filter((column) => column.primary);
  const properties = Object.entries(getTableColumns(table));
  return key.map((wanted) => {
    const found = properties.find(([, column]) => column.name === wanted.name);
    if (!found) throw new Error(`${wanted.name} is no column`);
    return found[0];
  });
}

function inOrder(entries: [string, SQLiteTable][]): TableName[] {
  const placed = new Map<SQLiteTable, string>();
  let left = entries;
  while (left.length > 0) {
    const isFree = ([, table]: [string, SQLiteTable]) =>
      getTableConfig(table).foreignKeys.every((key) => placed.has(key.reference().foreignTable));
    const free = left.filter(isFree);
    if (free.length === 0) throw new Error("tables refer to each other in a circle");
    for (const [name, table] of free) placed.set(table, name);
    left = left.filter(([, table]) => !placed.has(table));
  }
  // The names are those of the schema's own exports.
  return Array.from(placed, ([, name]) => name) as TableName[];
}
