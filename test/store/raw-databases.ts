// Databases as they are without a store: what their tables are by their own word, and rows as the engine keeps them.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Database from "better-sqlite3";
import pg from "pg";
import { inject } from "vitest";
import type { Store } from "../../src/core/storage.ts";
import { openSqlite } from "../../src/store/better-sqlite3.ts";
import { createD1Engine } from "../../src/store/d1.ts";
import { readMigrations } from "../../src/store/migrate.node.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createStore } from "../../src/store/store.ts";
import { createD1 } from "../helpers/d1.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { migrations } from "./engines.ts";

export type RawRow = Record<string, unknown>;
export type RawColumn = { table: string; name: string; type: string; notNull: boolean; isIndexed: boolean };
export type RawReference = { table: string; column: string; ofTable: string; ofColumn: string };

export type RawDatabase = {
  /** Brings it to the schema of a folder of migrations: by opening a store, or as wrangler does it. */
  migrate: (folder: string) => Promise<void>;
  /** The store on it, as it is. */
  open: (folder: string) => Promise<Store>;
  columns: () => Promise<RawColumn[]>;
  references: () => Promise<RawReference[]>;
  /** Bytes come as a Uint8Array, numbers as numbers. */
  rows: (table: string) => Promise<RawRow[]>;
  insert: (table: string, rows: RawRow[]) => Promise<void>;
  close: () => Promise<void>;
};

export type RawEngine = {
  name: string;
  skip: boolean;
  /** A statement costs ten times what it costs elsewhere. */
  isSlow?: boolean;
  folder: string;
  fresh: () => Promise<RawDatabase>;
};

const MIGRATIONS = "schema_migrations";

export const rawEngines: RawEngine[] = [
  { name: "better-sqlite3", skip: false, folder: migrations.sqlite, fresh: freshSqlite },
  {
    name: "PostgreSQL",
    skip: inject("postgresUrl") === "",
    folder: migrations.pg,
    fresh: async () => rawPostgres(await createDatabase()),
  },
  { name: "D1", skip: false, isSlow: true, folder: migrations.sqlite, fresh: freshD1 },
];

type Query = (sql: string, params?: unknown[]) => Promise<RawRow[]>;

async function freshSqlite(): Promise<RawDatabase> {
  const folder = mkdtempSync(join(tmpdir(), "consentry-raw-"));
  const path = join(folder, "test.db");
  const file = new Database(path);
  const query: Query = async (sql, params = []) => {
    const statement = file.prepare<unknown[], RawRow>(sql);
    if (statement.reader) return statement.all(...params);
    statement.run(...params);
    return [];
  };
  return {
    ...ofSqlite(query),
    insert: async (table, rows) => {
      for (const row of rows) await query(insertOf(table, row), Object.values(row));
    },
    migrate: async (from) => openSqlite(path, { migrations: from }).close(),
    open: async (from) => openSqlite(path, { migrations: from }),
    close: async () => {
      file.close();
      rmSync(folder, { recursive: true });
    },
  };
}

async function freshD1(): Promise<RawDatabase> {
  const d1 = await createD1();
  const applied = new Set<number>();
  const query: Query = async (sql, params = []) =>
    (
      await d1
        .prepare(sql)
        .bind(...params)
        .all()
    ).results;
  return {
    ...ofSqlite(query),
    insert: async (table, rows) => {
      await d1.batch(rows.map((row) => d1.prepare(insertOf(table, row)).bind(...Object.values(row))));
    },
    migrate: async (from) => {
      for (const { madeAt, statements } of readMigrations(from)) {
        if (applied.has(madeAt)) continue;
        await d1.batch(statements.map((sql) => d1.prepare(sql)));
        applied.add(madeAt);
      }
    },
    open: async () => createStore(createD1Engine(d1)),
    close: async () => {},
  };
}

function ofSqlite(query: Query): Pick<RawDatabase, "columns" | "references" | "rows"> {
  // What begins with an underscore is the engine's own.
  const ours = `m.type = 'table' and m.name not like 'sqlite%' and m.name not like '~_%' escape '~' and m.name <> '${MIGRATIONS}'`;
  return {
    columns: async () => {
      const found = await query(
        `select m.name as "table", c.name, c.type, c."notnull" as not_null, c.pk <> 0 or exists (
           select 1 from pragma_index_list(m.name) i join pragma_index_info(i.name) k where k.name = c.name
         ) as is_indexed
         from sqlite_master m join pragma_table_info(m.name) c where ${ours}`,
      );
      return found.map((row) => ({
        table: String(row["table"]),
        name: String(row["name"]),
        // It has 64 bits.
        type: row["type"] === "INTEGER" ? "bigint" : String(row["type"]).toLowerCase(),
        notNull: row["not_null"] === 1,
        isIndexed: row["is_indexed"] === 1,
      }));
    },
    references: async () => {
      const found = await query(
        `select m.name as "table", f."from", f."table" as of_table, f."to"
         from sqlite_master m join pragma_foreign_key_list(m.name) f where ${ours}`,
      );
      return found.map((row) => ({
        table: String(row["table"]),
        column: String(row["from"]),
        ofTable: String(row["of_table"]),
        ofColumn: String(row["to"]),
      }));
    },
    rows: async (table) => (await query(`select * from "${table}"`)).map(plain),
  };
}

async function rawPostgres(url: string): Promise<RawDatabase> {
  const BIGINT = 20;
  const client = new pg.Client({
    connectionString: url,
    types: {
      // All of ours are safe integers.
      getTypeParser: (oid, format) => (oid === BIGINT ? Number : pg.types.getTypeParser(oid, format)),
    },
  });
  await client.connect();
  const query: Query = async (sql, params = []) => (await client.query<RawRow>(sql, params)).rows;
  const open = (from: string) => openPostgres(url, { migrations: from, log: () => {} });
  return {
    migrate: async (from) => (await open(from)).close(),
    open,
    columns: async () => {
      const found = await query(
        `select c.table_name, c.column_name, c.data_type, c.is_nullable = 'NO' as not_null, exists (
           select 1 from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
           where i.indrelid = format('public.%I', c.table_name)::regclass and a.attname = c.column_name
         ) as is_indexed
         from information_schema.columns c
         where c.table_schema = 'public' and c.table_name <> '${MIGRATIONS}'`,
      );
      return found.map((row) => ({
        table: String(row["table_name"]),
        name: String(row["column_name"]),
        type: String(row["data_type"]),
        notNull: row["not_null"] === true,
        isIndexed: row["is_indexed"] === true,
      }));
    },
    references: async () => {
      const found = await query(
        `select conrelid::regclass::text as "table", a.attname as "column", confrelid::regclass::text as of_table, f.attname as of_column
         from pg_constraint, unnest(conkey, confkey) as k (own, foreign_one)
         join pg_attribute a on a.attnum = k.own
         join pg_attribute f on f.attnum = k.foreign_one
         where contype = 'f' and a.attrelid = conrelid and f.attrelid = confrelid`,
      );
      return found.map((row) => ({
        table: String(row["table"]),
        column: String(row["column"]),
        ofTable: String(row["of_table"]),
        ofColumn: String(row["of_column"]),
      }));
    },
    rows: async (table) => (await query(`select * from "${table}"`)).map(plain),
    insert: async (table, rows) => {
      for (const row of rows) await query(insertOf(table, row, numbered), Object.values(row));
    },
    close: () => client.end(),
  };
}

const numbered = (at: number) => `$${at + 1}`;

function insertOf(table: string, row: RawRow, place: (at: number) => string = () => "?"): string {
  const names = Object.keys(row);
  const columns = names.map((name) => `"${name}"`).join(", ");
  return `insert into "${table}" (${columns}) values (${names.map((_, at) => place(at)).join(", ")})`;
}

/** Drivers give a Buffer (D1: an array of numbers). */
const plain = (row: RawRow): RawRow =>
  Object.fromEntries(
    Object.entries(row).map(([name, value]) => [
      name,
      Array.isArray(value) || value instanceof Uint8Array ? Uint8Array.from(value) : value,
    ]),
  );
