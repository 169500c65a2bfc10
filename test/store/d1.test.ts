import { expect, test } from "vitest";
import { keepNothing } from "../../src/core/keep.ts";
import { type D1, openD1, requireSchema } from "../../src/store/d1.ts";
import { createD1, migrateD1 } from "../helpers/d1.ts";
import { migrations } from "./engines.ts";
import { aConnection, newProject } from "./things.ts";

const open = (d1: D1, names: string[]) => openD1(d1, { migrations: names, keep: keepNothing });
const told = async (work: Promise<unknown>) => {
  const error: unknown = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  return error instanceof Error && "details" in error ? error.details : error;
};

/** As wrangler notes down what it has applied. */
async function applied(...names: string[]): Promise<D1> {
  const d1 = await createD1();
  await migrateD1(d1, migrations.sqlite);
  const create = "create table d1_migrations (id integer primary key autoincrement, name text unique)";
  const notes = names.map((name) => d1.prepare("insert into d1_migrations (name) values (?)").bind(name));
  await d1.batch([d1.prepare(create), ...notes]);
  return d1;
}

test("the schema is this version's: the store is ready", async () => {
  const d1 = await applied("0000_start.sql", "0001_more.sql");
  const names = ["0000_start", "0001_more"];
  expect(await told(open(d1, names).ping())).toBeNull();
  expect(await told(requireSchema(d1, { migrations: names }))).toBeNull();
});

test("a database that lacks a migration is not ready, and nothing is opened on it", async () => {
  const d1 = await applied("0000_start.sql");
  const names = ["0000_start", "0001_more"];
  const lacks = { what: expect.stringMatching(/lacks 0001_more: run "wrangler d1 migrations apply DB/) };
  expect(await told(open(d1, names).ping())).toEqual(lacks);
  expect(await told(requireSchema(d1, { migrations: names }))).toEqual(lacks);
});

test("a new database lacks everything", async () => {
  const d1 = await createD1();
  expect(await told(open(d1, ["0000_start"]).ping())).toMatchObject({
    what: expect.stringContaining("lacks 0000_start"),
  });
});

test("a database that is newer than this version is not ready, but serves until the new version is deployed", async () => {
  const d1 = await applied("0000_start.sql", "0001_more.sql");
  expect(await told(open(d1, ["0000_start"]).ping())).toEqual({
    what: "the schema of the database is newer than this version (0001_more)",
  });
  expect(await told(requireSchema(d1, { migrations: ["0000_start"] }))).toBeNull();
});

test("what the database refuses is a fault of ours, without the values", async () => {
  const store = open(await applied("0000_start.sql"), ["0000_start"]);
  await newProject(store);
  const broken = await store.connections.insert(aConnection("nowhere"), []).catch((error: unknown) => error);
  expect(String(broken)).toContain("SQLITE_CONSTRAINT");
  expect(String(broken)).not.toContain("nowhere");
});

test.each([
  "Network connection lost.",
  "D1_ERROR: D1 DB is overloaded. Too many requests queued.",
  "D1_ERROR: database or disk is full: SQLITE_FULL",
  "D1_ERROR: D1 DB storage operation exceeded timeout which caused object to be reset.",
])("a database that is out of reach is unavailable: %s", async (message) => {
  const fail = async () => {
    throw new Error(message);
  };
  const statement = { bind: () => statement, all: fail, raw: fail, run: fail };
  const store = open({ prepare: () => statement, batch: fail }, []);
  const passing = { what: "database", passing: true };
  expect(await told(store.ping())).toEqual(passing);
  expect(await told(store.projects.get("p"))).toEqual(passing);
  expect(await told(newProject(store))).toEqual(passing);
});
