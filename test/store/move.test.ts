// All that a broker remembers, moved from one engine to the other. The tables come from the schema, so that a new one is moved, and
// filled here, without anybody thinking of it.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asc, type Column, getTableColumns } from "drizzle-orm";
import { getTableConfig, type SQLiteTable } from "drizzle-orm/sqlite-core";
import Database from "better-sqlite3";
import pg from "pg";
import { afterAll, describe, expect, inject, test } from "vitest";
import { fromSqlite, toSqlite } from "../../src/store/better-sqlite3-move.ts";
import { openSqlite } from "../../src/store/better-sqlite3.ts";
import { MoveError, moveRows, nameOf, type Side, TABLES } from "../../src/store/move.ts";
import { fromPostgres, toPostgres } from "../../src/store/postgres-move.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import * as pgSchema from "../../src/store/schema.pg.ts";
import * as schema from "../../src/store/schema.sqlite.ts";
import type { Tables } from "../../src/store/tables.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { migrations } from "./engines.ts";
import { newProject } from "./things.ts";

const folder = mkdtempSync(join(tmpdir(), "consentry-move-"));
afterAll(() => rmSync(folder, { recursive: true }));

type Engine = {
  name: string;
  skip: boolean;
  fresh: () => Promise<string>;
  from: (where: string) => Promise<Side>;
  to: (where: string) => Promise<Side>;
  /** A broker's store on it, as good as a broker. */
  open: (where: string) => Promise<{ close: () => Promise<void> }>;
  /** What the database says its tables are. */
  tables: (where: string) => Promise<string[]>;
};

const hasPostgres = inject("postgresUrl") !== "";
const sqlite: Engine = {
  name: "better-sqlite3",
  skip: false,
  fresh: async () => join(mkdtempSync(join(folder, "db-")), "test.db"),
  from: async (path) => fromSqlite(path, migrations.sqlite),
  to: (path) => toSqlite(path, migrations.sqlite),
  open: async (path) => openSqlite(path, { migrations: migrations.sqlite }),
  tables: async (path) => {
    const file = new Database(path);
    const rows = file.prepare<[], { name: string }>("select name from sqlite_master where type = 'table'");
    const names = rows.all().map(({ name }) => name);
    file.close();
    return names;
  },
};
const postgres: Engine = {
  name: "PostgreSQL",
  skip: !hasPostgres,
  fresh: createDatabase,
  from: (url) => fromPostgres(url, migrations.pg),
  to: (url) => toPostgres(url, migrations.pg),
  open: (url) => openPostgres(url, { migrations: migrations.pg, log: () => {} }),
  tables: async (url) => {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    const { rows } = await client.query<{ table_name: string }>(
      "select table_name from information_schema.tables where table_schema = 'public'",
    );
    await client.end();
    return rows.map((row) => row.table_name);
  },
};

const declared: Tables = schema;
const ofPg: Tables = pgSchema;
/** More than are copied at a time. */
const ROWS = 55;

/** Fills every table with rows that are as odd as its columns take. What refers to another table refers to a row of it. */
async function fill(engine: Engine, where: string): Promise<void> {
  const side = await engine.to(where);
  const made = new Map<SQLiteTable, Record<string, unknown>[]>();
  for (const name of TABLES) {
    const table: SQLiteTable = declared[name];
    const ofPostgres = Object.entries(getTableColumns<SQLiteTable>(ofPg[name]));
    const bigs = new Set(
      ofPostgres.flatMap(([key, column]) => (column.getSQLType() === "bigint" ? [key] : [])),
    );
    const rows = Array.from({ length: ROWS }, (_, n) => {
      const row = Object.fromEntries(
        Object.entries(getTableColumns(table)).map(([key, column]) => [
          key,
          valueOf(column, bigs.has(key), n),
        ]),
      );
      for (const { reference } of getTableConfig(table).foreignKeys) {
        const { columns, foreignTable, foreignColumns } = reference();
        const parent = made.get(foreignTable)?.[n];
        for (const [at, column] of columns.entries())
          row[keyOf(table, column)] = parent?.[keyOf(foreignTable, foreignColumns[at])];
      }
      return row;
    });
    made.set(table, rows);
    const target: SQLiteTable = side.tables[name];
    await side.run((db) => db.insert(target).values(rows));
  }
  await side.commit();
  await side.close();
}

function keyOf(table: SQLiteTable, column: Column | undefined): string {
  const found = Object.entries(getTableColumns(table)).find(([, one]) => one.name === column?.name);
  if (!found) throw new Error("no such column");
  return found[0];
}

function valueOf(column: Column, isBig: boolean, n: number): unknown {
  // Every other row leaves out what can be left out.
  if (!column.notNull && !column.primary && n % 2 === 1) return null;
  if (column.dataType === "boolean") return n % 3 === 0;
  const type = column.getSQLType();
  if (type === "blob") return Uint8Array.from({ length: 1 + (n % 300) }, (_, at) => (at * 7 + n) % 256);
  // A time in milliseconds needs more than 32 bits; PostgreSQL has them for times alone.
  if (type === "integer") return isBig ? 1_790_000_000_000 + n : n;
  const isJson = column.mapToDriverValue("x") === '"x"';
  if (isJson) return { z: n, a: ["\u0000", "Grüße 🙂", null, { nested: true }] };
  return `${column.name}-${n % 2 === 0 ? "ä" : "Z"}\u0000\\ "'-${n}`;
}

async function contents(engine: Engine, where: string): Promise<Record<string, unknown[]>> {
  const side = await engine.from(where);
  const found: Record<string, unknown[]> = {};
  for (const name of TABLES) {
    const table: SQLiteTable = side.tables[name];
    const columns = Object.values(getTableColumns(table)).map((column) => asc(column));
    found[nameOf(name)] = await side.run((db) =>
      db
        .select()
        .from(table)
        .orderBy(...columns),
    );
  }
  await side.close();
  return found;
}

async function moved(from: Engine, source: string, to: Engine, target: string): Promise<number> {
  const one = await from.from(source);
  const other = await to.to(target).catch(async (error: unknown) => {
    await one.close();
    throw error;
  });
  let rows = 0;
  try {
    await moveRows(one, other, (done) => (rows += done.rows));
  } finally {
    await one.close();
    await other.close();
  }
  return rows;
}

const engines = [sqlite, postgres];
const ways = engines.flatMap((from) =>
  engines.map((to) => ({ way: `from ${from.name} to ${to.name}`, from, to })),
);

describe.for(ways)("$way", ({ from, to }) => {
  const skip = from.skip || to.skip;

  test.skipIf(skip)("every row of every table arrives as it was", async () => {
    const [source, target] = [await from.fresh(), await to.fresh()];
    await fill(from, source);
    const before = await contents(from, source);
    expect(Object.values(before).map((rows) => rows.length)).toEqual(TABLES.map(() => ROWS));
    expect(await moved(from, source, to, target)).toBe(TABLES.length * ROWS);
    expect(await contents(to, target)).toEqual(before);
    expect(await contents(from, source)).toEqual(before);
    const names = [...TABLES.map(nameOf), "schema_migrations"].toSorted();
    expect((await to.tables(target)).toSorted()).toEqual(names);
  });

  test.skipIf(skip)("a target that is not empty is refused, and left as it is", async () => {
    const [source, target] = [await from.fresh(), await to.fresh()];
    await fill(from, source);
    await fill(to, target);
    const before = await contents(to, target);
    await expect(moved(from, source, to, target)).rejects.toThrow(/not empty \(projects, /);
    expect(await contents(to, target)).toEqual(before);
  });

  test.skipIf(skip)(
    "a fault in the last table leaves nothing in the first, and it can be run again",
    async () => {
      const [source, target] = [await from.fresh(), await to.fresh()];
      await fill(from, source);
      const one = await from.from(source);
      const other = await to.to(target);
      let done = 0;
      const failing: Side = {
        ...other,
        run: async (statement) => {
          if (done === TABLES.length - 1) throw new Error("the line broke");
          return other.run(statement);
        },
      };
      await expect(moveRows(one, failing, () => done++)).rejects.toThrow("the line broke");
      await one.close();
      await other.close();
      expect(await moved(from, source, to, target)).toBe(TABLES.length * ROWS);
    },
  );

  test.skipIf(skip)("a source that is of an older version, or nothing of ours, is refused", async () => {
    await expect(from.from(await from.fresh())).rejects.toThrow(MoveError);
  });

  test.skipIf(skip)("where a broker runs on one of them, it is refused", async () => {
    const [source, target] = [await from.fresh(), await to.fresh()];
    await fill(from, source);
    for (const [engine, where] of [
      [from, source],
      [to, target],
    ] as const) {
      const broker = await engine.open(where);
      if ("ping" in broker && typeof broker.ping === "function") await broker.ping();
      await expect(moved(from, source, to, target)).rejects.toThrow(/Stop/);
      await broker.close();
    }
    expect(await moved(from, source, to, target)).toBe(TABLES.length * ROWS);
  });
});

test.skipIf(!hasPostgres)("a broker is seen whatever its URL says of its name", async () => {
  const source = await createDatabase();
  const broker = await openPostgres(`${source}?application_name=psql`, {
    migrations: migrations.pg,
    log: () => {},
  });
  await expect(postgres.from(source)).rejects.toThrow("A broker runs on the database");
  await broker.close();
});

test.skipIf(!hasPostgres)(
  "a broker without connections cannot write into a PostgreSQL that is moved",
  async () => {
    const [source, target] = [await createDatabase(), await sqlite.fresh()];
    const broker = await openPostgres(`${source}?query_timeout=300`, {
      migrations: migrations.pg,
      log: () => {},
    });
    await newProject(broker);
    await endConnections(source);
    const side = await postgres.from(source);
    await expect(newProject(broker)).rejects.toMatchObject({ code: "unavailable" });
    const other = await sqlite.to(target);
    await moveRows(side, other, () => {});
    await other.close();
    await side.close();
    await newProject(broker);
    await broker.close();
    expect((await contents(sqlite, target))["projects"]).toHaveLength(1);
  },
);

/** Of everybody else. */
async function endConnections(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
  );
  await client.end();
}
