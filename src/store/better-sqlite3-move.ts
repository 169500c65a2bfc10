import { closeSync, existsSync, mkdirSync, openSync } from "node:fs";
import { dirname } from "node:path";
import Database from "better-sqlite3";
import { drizzle } from "drizzle-orm/better-sqlite3";
import { openSqlite } from "./better-sqlite3.ts";
import type { Db } from "./engine.ts";
import { APPLIED, missing, readMigrations } from "./migrate.node.ts";
import { MoveError, type Side } from "./move.ts";
import * as schema from "./schema.sqlite.ts";

const BUSY_TIMEOUT_MS = 1_000;

/** A file to move from: of this version, and with no broker on it. `migrations`: the folder `drizzle/sqlite`. */
export function fromSqlite(path: string, migrations: string): Side {
  if (!existsSync(path)) throw new MoveError(`There is no file ${path}.`);
  const side = alone(path);
  try {
    const lacks = missing(readMigrations(migrations), appliedIn(side.file, path));
    if (lacks.length === 0) return side;
    throw new MoveError(`${path} is of an older version. Start this version on it once, and stop it again.`);
  } catch (error) {
    side.file.close();
    throw error;
  }
}

/** A file to move to, made if it is not there. */
export async function toSqlite(path: string, migrations: string): Promise<Side> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  // Made before SQLite makes it readable for everybody.
  closeSync(openSync(path, "a", 0o600));
  await openSqlite(path, { migrations }).close();
  return alone(path);
}

/**
 * A broker keeps its file open as long as it runs, and nobody gets a file for themselves that somebody else has open
 * (https://www.sqlite.org/pragma.html#pragma_locking_mode, with a write-ahead log).
 */
function alone(path: string): Side & { file: Database.Database } {
  const file = new Database(path, { fileMustExist: true, timeout: BUSY_TIMEOUT_MS });
  try {
    file.pragma("locking_mode = EXCLUSIVE");
    file.pragma("foreign_keys = ON");
    file.exec("begin exclusive");
  } catch (error) {
    file.close();
    if (error instanceof Database.SqliteError && error.code.startsWith("SQLITE_BUSY"))
      throw new MoveError(`${path} is in use. Stop the broker that runs on it.`);
    throw error;
  }
  // The engine's face is the asynchronous one of SQLite; whoever awaits a statement runs it.
  const db = drizzle(file) as unknown as Db;
  return {
    file,
    run: async (statement) => statement(db),
    tables: schema,
    commit: async () => {
      file.exec("commit");
    },
    close: async () => {
      file.close();
    },
  };
}

function appliedIn(file: Database.Database, path: string): number[] {
  try {
    return file.prepare(APPLIED).pluck().all().map(Number);
  } catch (error) {
    if (!(error instanceof Database.SqliteError)) throw error;
    throw new MoveError(`${path} is no database of Consentry's.`);
  }
}
