import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import Database from "better-sqlite3";
import { drizzle } from "drizzle-orm/better-sqlite3";
import { BrokerError } from "../core/errors.ts";
import type { Store } from "../core/storage.ts";
import { compile } from "./compiled.ts";
import type { Db, Engine, Results, Statement, Step, Values } from "./engine.ts";
import { APPLIED, CREATE_TABLE, missing, readMigrations } from "./migrate.node.ts";
import * as schema from "./schema.sqlite.ts";
import { createStore } from "./store.ts";

const BUSY_TIMEOUT_MS = 5_000;
const LOCK_RETRY_MS = 10;

/**
 * Opens (or makes) a SQLite database and brings it to this version's schema. `migrations`: the folder `drizzle/sqlite`.
 *
 * Throws a plain Error when a newer version has written the database, and `unavailable` when it cannot be opened.
 */
export function openSqlite(path: string, options: { migrations: string }): Store {
  return createStore(openSqliteEngine(path, options));
}

export function openSqliteEngine(path: string, { migrations }: { migrations: string }): Engine {
  const file = translated(() => {
    if (path !== ":memory:") mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    return new Database(path, { timeout: BUSY_TIMEOUT_MS });
  });
  try {
    translated(() => migrate(file, migrations));
    translated(() => setPragmas(file));
  } catch (error) {
    file.close();
    throw error;
  }
  // The engine's face is the asynchronous one of SQLite; `execute` below is what makes it true.
  const db = drizzle(file) as unknown as Db;
  const prepared = new WeakMap<Statement<unknown>, Prepared>();

  const execute = <T>({ statement, values }: Step<T>): T => {
    const known = prepared.get(statement) ?? prepare(statement, db);
    prepared.set(statement, known);
    // The statement's own type says what its rows are.
    return known(values) as T;
  };
  const list = file.transaction((steps: readonly Step<unknown>[]) => steps.map(execute));

  return {
    tables: schema,
    run: async (statement, values = {}) => translated(() => execute({ statement, values })),
    // One result per step, in order.
    atomic: async <const S extends readonly Step<unknown>[]>(steps: S) =>
      translated(() => list.immediate(steps)) as Results<S>,
    close: async () => {
      file.close();
    },
  };
}

type Prepared = (values: Values) => unknown;

function prepare(statement: Statement<unknown>, db: Db): Prepared {
  const made = statement(db).prepare();
  // What Drizzle's prepared statements are on a synchronous engine.
  const { execute } = made as unknown as { execute: (values: Values) => { sync: () => unknown } };
  return compile(made) ?? ((values) => execute.call(made, values).sync());
}

function setPragmas(file: Database.Database): void {
  waitingForLocks(() => file.pragma("journal_mode = WAL"));
  file.pragma("synchronous = NORMAL");
  file.pragma("foreign_keys = ON");
}

// For everything else SQLite itself waits (`busy_timeout`); a change of the journal's mode fails at once.
function waitingForLocks(work: () => void): void {
  const until = performance.now() + BUSY_TIMEOUT_MS;
  const nobody = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    try {
      return work();
    } catch (error) {
      const isBusy = error instanceof Database.SqliteError && error.code === "SQLITE_BUSY";
      if (!isBusy || performance.now() > until) throw error;
      Atomics.wait(nobody, 0, 0, LOCK_RETRY_MS);
    }
  }
}

// Foreign keys are off meanwhile: a migration that makes a table anew drops the old one, which would delete what
// refers to it. Immediate: of two programs that start at once, the second waits and finds the work done.
function migrate(file: Database.Database, folder: string): void {
  const migrations = readMigrations(folder);
  file.pragma("foreign_keys = OFF");
  const bringUp = file.transaction(() => {
    file.exec(CREATE_TABLE);
    const applied = file.prepare(APPLIED).pluck().all().map(Number);
    for (const migration of missing(migrations, applied)) {
      for (const statement of migration.statements) file.exec(statement);
      file.prepare("insert into schema_migrations (made_at) values (?)").run(migration.madeAt);
    }
  });
  bringUp.immediate();
}

/** The driver's faults, translated once. (On a synchronous engine Drizzle does not wrap them.) */
function translated<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (isOutOfReach(error))
      throw new BrokerError("unavailable", { what: "database", passing: true }, { cause: error });
    throw error;
  }
}

// https://www.sqlite.org/rescode.html: locked for too long, no space, no access, a failing or damaged disk.
const OUT_OF_REACH = /^SQLITE_(BUSY|LOCKED|FULL|CANTOPEN|IOERR|READONLY|CORRUPT|NOTADB|PROTOCOL)/;

function isOutOfReach(error: unknown): boolean {
  return error instanceof Database.SqliteError && OUT_OF_REACH.test(error.code);
}
