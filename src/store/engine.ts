import { type Column, type SQL, getTableColumns, sql } from "drizzle-orm";
import type { BaseSQLiteDatabase, SQLiteTable } from "drizzle-orm/sqlite-core";
import type { Tables } from "./tables.ts";

/** What statements are built with: only what all engines share. */
export type Db = Pick<BaseSQLiteDatabase<"async", unknown>, "select" | "insert" | "update" | "delete">;

/** The values of a statement's placeholders, by name. */
export type Values = Record<string, unknown>;

/**
 * A statement, built once per connection and then kept by the function's identity: a statement of a hot path is
 * therefore one function made with the store, and takes what changes by placeholders (`given`). A statement that is
 * made anew for each call may hold its values itself.
 */
export type Statement<T> = (db: Db) => Preparable<T>;
export type Preparable<T> = { prepare: () => { execute: (values?: Values) => PromiseLike<T> } };

/** One statement of a list with its values. */
export type Step<T> = { statement: Statement<T>; values: Values };

export type Engine = {
  tables: Tables;
  run: <T>(statement: Statement<T>, values?: Values) => Promise<T>;
  /**
   * Runs a list of statements: all of it or nothing. Gives what each returned.
   *
   * A list has no `if`. Its first statement is the compare-and-swap and writes a fresh mark (`newMark`) into
   * `write_id`; every later one does something only if a row with that mark is there (`Marked`), so that a lost race
   * leaves no trace.
   */
  atomic: <const S extends readonly Step<unknown>[]>(steps: S) => Promise<Results<S>>;
  close: () => Promise<void>;
};

export type Results<S extends readonly Step<unknown>[]> = {
  -readonly [I in keyof S]: S[I] extends Step<infer T> ? T : never;
};

export function step<T>(statement: Statement<T>, values: Values = {}): Step<T> {
  return { statement, values };
}

/** A fresh mark. Never seen outside of the store, so it needs no port. */
export function newMark(): string {
  return `w_${crypto.randomUUID()}`;
}

/** A placeholder that goes through its column's encoder. A bare `sql.placeholder` would skip it. */
export function given(column: Column, name: string): SQL {
  return sql`${sql.param(sql.placeholder(name), column)}`;
}

/** The row that the first statement of a list has marked: its key, and the mark, by placeholders. */
export type Marked = {
  table: SQLiteTable;
  where: SQL;
  values: (key: readonly unknown[], mark: string) => Values;
};

export function marked(table: SQLiteTable & { writeId: Column }, key: readonly Column[]): Marked {
  const conditions = [...key, table.writeId].map(
    (column, at) => sql`${column} = ${given(column, `marked${at}`)}`,
  );
  return {
    table,
    where: sql.join(conditions, sql` and `),
    values: (keyValues, mark) =>
      Object.fromEntries([...keyValues, mark].map((value, at) => [`marked${at}`, value])),
  };
}

/** Whether the marked row is there, for the WHERE of a later statement. */
export function ifMarked(row: Marked): SQL {
  return sql`exists (select 1 from ${row.table} where ${row.where})`;
}

/** `insert into table`, one row, each column by a placeholder of its own name; only if the marked row is there. */
export function insertIfMarked(table: SQLiteTable, row: Marked): Statement<unknown> {
  return (db) => db.insert(table).select(sql`select ${allGiven(table)} from ${row.table} where ${row.where}`);
}

/** Every column of a table by a placeholder of its own name, for `insert into … select`. */
export function allGiven(table: SQLiteTable): SQL {
  const columns = Object.entries(getTableColumns(table)).map(([name, column]) => given(column, name));
  return sql.join(columns, sql`, `);
}

/** The values of `insert into table`: for each of `count` rows every column by a placeholder, `name` or `name.index`. */
export function placeholderRows<T extends SQLiteTable>(table: T, count: number): T["$inferInsert"][] {
  const names = Object.keys(getTableColumns(table));
  const row = (index: number) =>
    Object.fromEntries(names.map((name) => [name, sql.placeholder(rowName(name, index))]));
  // A placeholder may stand for any value; Drizzle's types say so column by column only.
  return Array.from({ length: count }, (_, index) => row(index)) as T["$inferInsert"][];
}

/** The values of several rows under the names of `placeholderRows`. */
export function rowValues(rows: readonly Values[]): Values {
  // Records of the audit come this way by the hundred: a loop costs a tenth of pairs that are made and flattened.
  const values: Values = {};
  for (const [index, row] of rows.entries()) {
    for (const name of Object.keys(row)) values[rowName(name, index)] = row[name];
  }
  return values;
}

const rowName = (name: string, index: number) => (index === 0 ? name : `${name}.${index}`);

/** D1 takes at most this many bound parameters in a statement. */
export const MAX_PARAMETERS = 100;

/** A list in pieces of at most `size`. */
export function pieces<T>(list: readonly T[], size: number): T[][] {
  const found: T[][] = [];
  for (let from = 0; from < list.length; from += size) found.push(list.slice(from, from + size));
  return found;
}

/** One function per count, made at its first use: an insert of n rows is a statement of its own. */
export function byCount<T>(make: (count: number) => T): (count: number) => T {
  const made = new Map<number, T>();
  return (count) => {
    const known = made.get(count);
    if (known !== undefined) return known;
    const fresh = make(count);
    made.set(count, fresh);
    return fresh;
  };
}
