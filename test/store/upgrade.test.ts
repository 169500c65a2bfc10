// A database that is filled at each version that there was, and brought to the newest: nothing may be lost on the way. No migration has
// moved or renamed a column yet; the first that does says here where its values are.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { getTableColumns } from "drizzle-orm";
import type { SQLiteTable } from "drizzle-orm/sqlite-core";
import { afterAll, describe, expect, test } from "vitest";
import { readMigrations } from "../../src/store/migrate.node.ts";
import { nameOf, TABLES } from "../../src/store/move.ts";
import * as schema from "../../src/store/schema.sqlite.ts";
import type { Tables } from "../../src/store/tables.ts";
import { type Filling, fill, ROWS } from "./filled.ts";
import { firstMigrations, laterMigrations } from "./migration-folders.ts";
import { type RawDatabase, rawEngines, type RawRow } from "./raw-databases.ts";

const declared: Tables = schema;
const databases: RawDatabase[] = [];
const folders = mkdtempSync(join(tmpdir(), "consentry-upgrade-"));
afterAll(async () => {
  await Promise.all(databases.map((database) => database.close()));
  rmSync(folders, { recursive: true });
});

describe.for(rawEngines)("an upgrade on $name", ({ skip, isSlow, folder, fresh }) => {
  const newest = readMigrations(folder).length;
  const newDatabase = async () => {
    const database = await fresh();
    databases.push(database);
    return database;
  };

  // The last before the newest has columns that the first lacks.
  const starts = [1, newest - 1];
  test.skipIf(skip).each(starts)(
    "what was written at version %d or later has its bytes at the newest",
    async (from) => {
      const database = await newDatabase();
      const { lost, filling } = await upgraded(database, folder, from);
      expect(lost).toEqual([]);
      expect([...filling.keys()].toSorted()).toEqual(TABLES.map(nameOf).toSorted());

      // The schema is the program's, and what is new in old rows has the default that the program takes it to have.
      const columns = await database.columns();
      expect(columns.map(({ table, name }) => `${table}.${name}`).toSorted()).toEqual(programColumns());
      for (const [table, kept] of filling) {
        const rows = await database.rows(table);
        for (const [name, value] of defaultsOf(table)) {
          if (kept.some((row) => name in row)) continue;
          expect(rows.map((row) => row[name])).toEqual(rows.map(() => value));
        }
      }
    },
  );

  test.skipIf(skip)("rows as any older version writes them are taken by the newest", async () => {
    const database = await newDatabase();
    await database.migrate(folder);
    for (let count = 1; count < newest; count++) {
      const older = await newDatabase();
      await older.migrate(firstMigrations(folder, count, folders));
      await fill(older, { into: database, from: count * ROWS });
    }
    expect(await database.rows("users")).toHaveLength((newest - 1) * ROWS);
  });

  // How it is noticed is the same on each.
  test.skipIf(skip || isSlow).each([
    ["a column", "alter table held_calls drop column sealed_reason", ["held_calls.sealed_reason"]],
    ["what a column held", "update projects set settings = '{}'", ["projects.settings"]],
    ["the last digits", "update audit set at = at - 1 where at > 9007199254740990", ["audit.at"]],
    ["a row", "delete from users where status = ''", ["users: a row"]],
    ["a table", "drop table tool_pins", ["tool_pins"]],
  ])("a migration that loses %s is noticed", async (_, statement, what) => {
    const { lost } = await upgraded(await newDatabase(), laterMigrations(folder, statement, folders), newest);
    expect(lost).toEqual(what);
  });

  // Foreign keys are on in D1, whatever a migration says: to drop a table deletes what refers to it.
  test.runIf(isSlow)("a migration that makes a table anew, as drizzle-kit does it, is noticed", async () => {
    const anew = [
      "pragma foreign_keys = off",
      "create table new_agents (project text, name text, state text, created_at integer, latest integer, highest integer, write_id text, identity text, primary key (project, name))",
      "insert into new_agents select project, name, state, created_at, latest, highest, write_id, identity from agents",
      "drop table agents",
      "alter table new_agents rename to agents",
    ].join(";--> statement-breakpoint\n");
    const { lost } = await upgraded(await newDatabase(), laterMigrations(folder, anew, folders), newest);
    expect(lost).toEqual(["agent_versions: a row"]);
  });
});

/**
 * Fills it at its version `from`, and each table that comes later when it comes. `lost`: what was not found again on the way to the
 * newest.
 */
async function upgraded(
  database: RawDatabase,
  folder: string,
  from: number,
): Promise<{ lost: string[]; filling: Filling }> {
  const lost = new Set<string>();
  let filling: Filling = new Map();
  const { length } = readMigrations(folder);
  for (let count = from; count <= length; count++) {
    await database.migrate(count === length ? folder : firstMigrations(folder, count, folders));
    const columns = await database.columns();
    for (const [table, rows] of filling) {
      if (columns.every((column) => column.table !== table)) {
        lost.add(table);
        continue;
      }
      const key = columns.filter((column) => column.table === table && column.isIndexed);
      const found = await database.rows(table);
      for (const what of lostOf(
        rows,
        found,
        key.map(({ name }) => name),
      ))
        lost.add(`${table}${what}`);
    }
    filling = await fill(database, { has: filling });
  }
  return { lost: [...lost], filling };
}

function lostOf(rows: RawRow[], found: RawRow[], key: string[]): string[] {
  return rows.flatMap((row) => {
    const again = found.find((one) => key.every((name) => !(name in row) || isSame(one[name], row[name])));
    if (!again) return [": a row"];
    return Object.keys(row).flatMap((name) => (isSame(again[name], row[name]) ? [] : [`.${name}`]));
  });
}

function isSame(one: unknown, other: unknown): boolean {
  if (!(one instanceof Uint8Array) || !(other instanceof Uint8Array)) return one === other;
  return Buffer.compare(one, other) === 0;
}

function programColumns(): string[] {
  return TABLES.flatMap((table) =>
    [...defaultsOf(nameOf(table)).keys()].map((name) => `${nameOf(table)}.${name}`),
  ).toSorted();
}

/** What the program takes the columns of a table to be where nothing was written. */
function defaultsOf(name: string): Map<string, unknown> {
  const table = TABLES.find((one) => nameOf(one) === name);
  const columns: SQLiteTable | undefined = table && declared[table];
  if (!columns) return new Map();
  return new Map(
    Object.values(getTableColumns(columns)).map((column) => [
      column.name,
      column.default === undefined ? null : column.mapToDriverValue(column.default),
    ]),
  );
}
