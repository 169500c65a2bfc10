import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Database from "better-sqlite3";
import pg from "pg";
import { afterAll, describe, expect, inject, test } from "vitest";
import type { Store } from "../../src/core/storage.ts";
import { openSqlite } from "../../src/store/better-sqlite3.ts";
import { readMigrations } from "../../src/store/migrate.node.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { migrations } from "./engines.ts";
import { firstMigrations, laterMigrations } from "./migration-folders.ts";
import { aConnection, newProject } from "./things.ts";

const folder = mkdtempSync(join(tmpdir(), "consentry-migrations-"));
afterAll(() => rmSync(folder, { recursive: true }));

type Engine = {
  name: string;
  skip: boolean;
  folder: string;
  fresh: () => Promise<string>;
  open: (url: string, migrations: string) => Promise<Store>;
  query: (url: string, sql: string) => Promise<Record<string, unknown>[]>;
};

const engines: Engine[] = [
  {
    name: "better-sqlite3",
    skip: false,
    folder: migrations.sqlite,
    fresh: async () => join(mkdtempSync(join(folder, "db-")), "test.db"),
    open: async (url, from) => openSqlite(url, { migrations: from }),
    query: async (url, sql) => {
      const file = new Database(url);
      const statement = file.prepare<[], Record<string, unknown>>(sql);
      const rows = statement.reader ? statement.all() : [];
      if (!statement.reader) statement.run();
      file.close();
      return rows;
    },
  },
  {
    name: "PostgreSQL",
    skip: inject("postgresUrl") === "",
    folder: migrations.pg,
    fresh: createDatabase,
    open: (url, from) => openPostgres(url, { migrations: from, log: () => {} }),
    query: async (url, sql) => {
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      const { rows } = await client.query(sql);
      await client.end();
      return rows;
    },
  },
];

/** How many migrations the program has. */
const count = (engine: Engine) => readMigrations(engine.folder).length;

const firstVersion = (engine: Engine) => firstMigrations(engine.folder, 1, folder);
const laterVersion = (engine: Engine, statement: string) => laterMigrations(engine.folder, statement, folder);

describe.for(engines)("migrations on $name", (engine) => {
  test.skipIf(engine.skip)("a database is made at the first opening and kept at the next", async () => {
    const url = await engine.fresh();
    const first = await engine.open(url, engine.folder);
    const project = await newProject(first);
    await first.close();
    const again = await engine.open(url, engine.folder);
    expect(await again.projects.get(project)).toMatchObject({ name: project });
    await again.close();
    expect(await engine.query(url, "select made_at from schema_migrations")).toHaveLength(count(engine));
  });

  test.skipIf(engine.skip)("ten that open a new database at once migrate it once", async () => {
    const url = await engine.fresh();
    const stores = await Promise.all(Array.from({ length: 10 }, () => engine.open(url, engine.folder)));
    expect(await engine.query(url, "select made_at from schema_migrations")).toHaveLength(count(engine));
    await Promise.all(stores.map((store) => store.ping()));
    await Promise.all(stores.map((store) => store.close()));
  });

  test.skipIf(engine.skip)(
    "a later version brings the database on, and then this one refuses it untouched",
    async () => {
      const url = await engine.fresh();
      const ours = await engine.open(url, engine.folder);
      const project = await newProject(ours);
      await ours.close();
      const later = laterVersion(engine, "create table news (id integer primary key)");
      await (await engine.open(url, later)).close();
      expect(await engine.query(url, "select id from news")).toEqual([]);
      await expect(engine.open(url, engine.folder)).rejects.toThrow(
        /written by a newer version of Consentry.*2099-01-02.*restore a backup/,
      );
      const again = await engine.open(url, later);
      expect(await again.projects.get(project)).toMatchObject({ name: project });
      await again.close();
    },
  );

  test.skipIf(engine.skip)("an agent that was made before there were identities shares one", async () => {
    const url = await engine.fresh();
    await (await engine.open(url, firstVersion(engine))).close();
    for (const sql of [
      "insert into projects (name, settings, version, created_at, write_id) values ('p', '{}', 1, 1, 'w')",
      "insert into agents (project, name, state, created_at, latest, highest, write_id) values ('p', 'old', 'enabled', 1, 1, 1, 'w')",
    ])
      await engine.query(url, sql);
    const store = await engine.open(url, engine.folder);
    const version = {
      project: "p",
      agent: "old",
      description: null,
      metadata: {},
      definition: {},
      createdAt: 2,
    };
    expect(await store.agents.addVersion(version, 1, [])).toMatchObject({ identity: "shared", createdAt: 1 });
    await store.close();
  });

  test.skipIf(engine.skip)("a migration that fails changes nothing", async () => {
    const url = await engine.fresh();
    await (await engine.open(url, engine.folder)).close();
    const broken = laterVersion(
      engine,
      "create table news (id integer);--> statement-breakpoint\ncreate nonsense",
    );
    await expect(engine.open(url, broken)).rejects.toThrow(/syntax/);
    await expect(engine.query(url, "select id from news")).rejects.toThrow(/news/);
    await (await engine.open(url, engine.folder)).close();
  });
});

test("a SQLite migration that makes a table anew keeps what refers to it", async () => {
  const [engine] = engines;
  if (!engine) throw new Error("no engine");
  const url = await engine.fresh();
  const ours = await engine.open(url, engine.folder);
  const project = await newProject(ours);
  await ours.connections.insert(aConnection(project), []);
  await ours.close();
  // As drizzle-kit writes it when a column changes.
  const anew = [
    "create table new_projects (name text primary key not null, settings text not null, sealed blob, version integer not null, created_at integer not null, write_id text not null)",
    "insert into new_projects select * from projects",
    "drop table projects",
    "alter table new_projects rename to projects",
  ].join(";--> statement-breakpoint\n");
  const later = await engine.open(url, laterVersion(engine, anew));
  expect(await later.connections.get(project, "github")).not.toBeNull();
  await expect(later.connections.insert(aConnection("nowhere"), [])).rejects.toThrow(/FOREIGN KEY/);
  await later.close();
});
