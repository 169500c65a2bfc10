import { fork } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Database from "better-sqlite3";
import { afterAll, expect, test } from "vitest";
import { openSqlite } from "../../src/store/better-sqlite3.ts";
import { giveGrant } from "../helpers/grants.ts";
import { migrations } from "./engines.ts";
import {
  EVERYTHING,
  aConnection,
  aGrant,
  aHeldCall,
  bigBox,
  entry,
  eventsOf,
  newProject,
  newTokens,
} from "./things.ts";

const folder = mkdtempSync(join(tmpdir(), "consentry-sqlite-"));
afterAll(() => rmSync(folder, { recursive: true }));
const open = (name: string) => openSqlite(join(folder, name), { migrations: migrations.sqlite });

test("programs that begin at once on new databases: each is made once, and of each change one wins", async () => {
  const path = join(folder, "fresh", "consentry.db");
  const names = Array.from({ length: 200 }, (_, n) => `p${n}`);
  const programs = ["one", "two", "three"].map((me) => startReplica(path, me, names));
  await Promise.all(programs.map((program) => program.said<"ready">()));
  const ended = Promise.all(programs.map((program) => program.said<Outcome>()));
  for (const program of programs) program.go();
  const outcomes = await ended;
  expect(outcomes.flatMap((outcome) => outcome.made).toSorted()).toEqual(names.toSorted());
  expect(outcomes.flatMap((outcome) => outcome.changed).toSorted()).toEqual(names.toSorted());
  const store = openSqlite(path, { migrations: migrations.sqlite });
  for (const name of names) {
    expect(await eventsOf(store, name)).toHaveLength(2);
    expect((await store.projects.get(name))?.version).toBe(2);
  }
  await store.close();
}, 60_000);

type Outcome = { made: string[]; changed: string[] };

function startReplica(path: string, me: string, names: string[]) {
  const program = fork(join(import.meta.dirname, "replica.ts"), [path, migrations.sqlite, me, ...names]);
  const said = <T>() =>
    new Promise<T>((resolve, reject) => {
      program.once("message", (message: T) => resolve(message));
      program.once("exit", (code) => reject(new Error(`ended with ${code}`)));
    });
  return { said, go: () => program.send("go") };
}

test("the database runs with a write-ahead log and checked references, in a folder of its owner", async () => {
  const path = join(folder, "deep", "er", "consentry.db");
  const store = openSqlite(path, { migrations: migrations.sqlite });
  expect(statSync(join(folder, "deep", "er")).mode & 0o077).toBe(0);
  const file = new Database(path);
  expect(file.pragma("journal_mode", { simple: true })).toBe("wal");
  file.close();
  await expect(store.connections.insert(aConnection("nowhere"), [])).rejects.toThrow(/FOREIGN KEY/);
  await store.close();
});

test("what was committed is there after the program died", async () => {
  const store = open("crash.db");
  const project = await newProject(store);
  await store.audit.append([entry(project, "tool_called")]);
  // Not closed: as after kill -9, only the write-ahead log has it.
  const again = open("crash.db");
  expect((await again.audit.list(project, {}, EVERYTHING)).rows).toHaveLength(1);
  await again.close();
  await store.close();
});

test("a database that cannot be opened is unavailable, with the driver's reason as cause", () => {
  mkdirSync(join(folder, "folder.db"));
  writeFileSync(join(folder, "garbage.db"), "no database ".repeat(1_000));
  for (const name of ["folder.db", "garbage.db"]) {
    expect(() => open(name)).toThrow(
      expect.objectContaining({
        code: "unavailable",
        details: { what: "database", passing: true },
        cause: expect.any(Database.SqliteError),
      }),
    );
  }
});

test("a fault of a statement tells no parameter", async () => {
  const store = open("faults.db");
  const project = await newProject(store);
  const call = aHeldCall(project, { label: "canary-4711" });
  const error = await store.heldCalls.insert([call, call], []).catch((fault: unknown) => fault);
  expect(error).toBeInstanceOf(Database.SqliteError);
  expect(String(error)).not.toContain("canary");
  await store.close();
});

test("nothing of a grant's box is left behind: not when it is replaced, not when it is emptied", async () => {
  const store = open("grants.db");
  const file = new Database(join(folder, "grants.db"), { readonly: true });
  const parts = () => file.prepare("select distinct part from box_chunks").pluck().all();
  const grant = aGrant(await newProject(store), { sealed: bigBox(400_000) });
  await giveGrant(store, grant);
  expect(parts()).toEqual([1]);
  await store.grants.refreshed(grant, 1, newTokens({ sealed: bigBox(500_000) }), []);
  expect(parts()).toEqual([2]);
  await giveGrant(store, { ...grant, version: 1_002 });
  expect(parts()).toEqual([1_002]);
  await store.grants.revoke(grant, 9_000, []);
  expect(parts()).toEqual([1_002]);
  await store.grants.emptied(grant, 1_002, "revoked");
  expect(parts()).toEqual([]);
  file.close();
  await store.close();
});
