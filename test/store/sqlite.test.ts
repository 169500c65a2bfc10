import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import Database from "better-sqlite3";
import { afterAll, expect, test } from "vitest";
import { openSqlite } from "../../src/store/better-sqlite3.ts";
import { migrations } from "./engines.ts";
import { EVERYTHING, aConnection, aHeldCall, entry, newProject } from "./things.ts";

const folder = mkdtempSync(join(tmpdir(), "consentry-sqlite-"));
afterAll(() => rmSync(folder, { recursive: true }));
const open = (name: string) => openSqlite(join(folder, name), { migrations: migrations.sqlite });
const run = promisify(execFile);
const replica = join(import.meta.dirname, "replica.ts");

test("programs that open a new database at the same time all find it ready", async () => {
  const path = join(folder, "fresh", "consentry.db");
  const opened = Array.from({ length: 6 }, () =>
    run(process.execPath, [replica, path, migrations.sqlite, "p", "n"]),
  );
  for (const { stdout } of await Promise.all(opened)) expect(stdout.trim()).toBe("[]");
});

test("programs that decide at the same time: each call is won by one, and the audit has it once", async () => {
  const store = open("race.db");
  const project = await newProject(store);
  const calls = Array.from({ length: 40 }, () => aHeldCall(project));
  await store.heldCalls.insert(calls, []);
  const ids = calls.map((call) => call.id);
  const outcomes = await Promise.all(
    ["one", "two", "three", "four"].map((name) =>
      run(process.execPath, [replica, join(folder, "race.db"), migrations.sqlite, project, name, ...ids]),
    ),
  );
  const won = outcomes.flatMap(({ stdout }): string[] => JSON.parse(stdout));
  expect(won.toSorted()).toEqual(ids.toSorted());
  const { rows } = await store.audit.list(project, {}, EVERYTHING);
  expect(rows.map((row) => row.approvalId ?? "").toSorted()).toEqual(ids.toSorted());
  await store.close();
});

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
        details: { what: "database" },
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
