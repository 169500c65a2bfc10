import { setTimeout as delay } from "node:timers/promises";
import { drizzle } from "drizzle-orm/node-postgres";
import pg from "pg";
import type { Log } from "../core/ports.ts";
import type { Db } from "./engine.ts";
import { APPLIED, missing, readMigrations } from "./migrate.node.ts";
import { MoveError, nameOf, type Side, TABLES } from "./move.ts";
import { APPLICATION, bringUp, connect, lockMigrations } from "./postgres.ts";
import { reached, translated } from "./postgres-faults.ts";
import * as schema from "./schema.pg.ts";

/** A database to move from: of this version, and with no broker on it. `migrations`: the folder `drizzle/pg`. */
export async function fromPostgres(url: string, migrations: string): Promise<Side> {
  return begin(url, async (client) => {
    const lacks = missing(readMigrations(migrations), await appliedIn(client));
    if (lacks.length > 0)
      throw new MoveError(
        "The source is of an older version. Start this version on it once, and stop it again.",
      );
    // A broker that was not seen cannot write from here on, and what it wrote before is there to be read.
    await lockTables(client, "share");
  });
}

/** The command says itself what it does. */
const silent: Log = () => {};

/** A database to move to. A broker that starts on it meanwhile waits, as for another one's migrations. */
export async function toPostgres(url: string, migrations: string): Promise<Side> {
  await bringUp(url, readMigrations(migrations), silent);
  return begin(url, async (client) => {
    await lockMigrations(client, silent);
    await lockTables(client, "share row exclusive");
  });
}

async function begin(url: string, prepare: (client: pg.Client) => Promise<void>): Promise<Side> {
  const client = await connect(url);
  try {
    await requireNoBroker(client);
    await reached(() => client.query("begin"));
    await prepare(client);
  } catch (error) {
    await client.end();
    throw error;
  }
  // PostgreSQL's face passes for SQLite's (postgres.ts).
  const db = drizzle(client) as unknown as Db;
  return {
    run: (statement) => translated(() => statement(db)),
    tables: schema,
    commit: async () => {
      await reached(() => client.query("commit"));
    },
    close: () => client.end(),
  };
}

/**
 * Connections say who made them, and those of a process that has just ended are seen for a moment more. A broker that nobody asks
 * anything has none after ten seconds: the locks are for that.
 */
async function requireNoBroker(client: pg.Client): Promise<void> {
  for (let looks = 1; ; looks++) {
    const { rows } = await reached(() => client.query(OTHERS, [APPLICATION]));
    if (rows.length === 0) return;
    if (looks === LOOKS) throw new MoveError("A broker runs on the database. Stop all of its replicas.");
    await delay(LOOK_AGAIN_MS);
  }
}

const OTHERS =
  "select pid from pg_stat_activity where datname = current_database() and application_name = $1 and pid <> pg_backend_pid()";
const LOOKS = 10;
const LOOK_AGAIN_MS = 200;

async function lockTables(client: pg.Client, mode: "share" | "share row exclusive"): Promise<void> {
  const tables = TABLES.map((name) => `"${nameOf(name)}"`).join(", ");
  try {
    await reached(() => client.query(`set local lock_timeout = ${LOCK_TIMEOUT_MS}`));
    await reached(() => client.query(`lock table ${tables} in ${mode} mode`));
  } catch (error) {
    // lock_not_available
    if (codeOf(error) !== "55P03") throw error;
    throw new MoveError("Somebody writes into the database. Stop all replicas of the broker.");
  }
}

const LOCK_TIMEOUT_MS = 5_000;

async function appliedIn(client: pg.Client): Promise<number[]> {
  try {
    const { rows } = await client.query<{ made_at: string }>(APPLIED);
    return rows.map((row) => Number(row.made_at));
  } catch (error) {
    // undefined_table
    if (codeOf(error) !== "42P01") throw error;
    throw new MoveError("The source is no database of Consentry's.");
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined;
}
