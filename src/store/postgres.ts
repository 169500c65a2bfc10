import { DrizzleQueryError } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import pg from "pg";
import { BrokerError } from "../core/errors.ts";
import type { Log } from "../core/ports.ts";
import type { Store } from "../core/storage.ts";
import type { Db, Engine, Preparable, Results, Statement, Step, Values } from "./engine.ts";
import { APPLIED, CREATE_TABLE, type Migration, missing, readMigrations } from "./migrate.node.ts";
import * as schema from "./schema.pg.ts";
import { createStore } from "./store.ts";

const POOL_CLIENTS = 10;
const CONNECT_TIMEOUT_MS = 5_000;
const STATEMENT_TIMEOUT_MS = 30_000;
const DEADLOCK_ATTEMPTS = 5;

/**
 * Opens a PostgreSQL database and brings it to this version's schema, one program at a time. `migrations`: the folder
 * `drizzle/pg`.
 *
 * Throws a plain Error when a newer version has written the database, and `unavailable` when it cannot be reached.
 */
export async function openPostgres(url: string, options: { migrations: string; log: Log }): Promise<Store> {
  const pool = new pg.Pool({
    connectionString: url,
    max: POOL_CLIENTS,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    application_name: "consentry",
    keepAlive: true,
  });
  // Without listeners, a connection that breaks would end the process: while idle, and between two statements of a list
  // (the next statement fails then). The pool makes a new one.
  pool.on("error", (error) => options.log("warn", "database_connection_lost", { error }));
  pool.on("connect", (client) => client.on("error", () => {}));
  const engine = createEngine(pool);
  try {
    await migrate(pool, readMigrations(options.migrations));
  } catch (error) {
    await pool.end();
    throw error;
  }
  return createStore(engine);
}

function createEngine(pool: pg.Pool): Engine {
  const anyClient = preparer(pool);
  // A prepared statement of Drizzle's belongs to its connection, and a list needs one connection.
  const ofClient = new WeakMap<pg.PoolClient, Preparer>();

  const execute = async (client: pg.PoolClient, steps: readonly Step<unknown>[]) => {
    const prepare = ofClient.get(client) ?? preparer(client);
    ofClient.set(client, prepare);
    const results: unknown[] = [];
    for (const { statement, values } of steps) {
      results.push(await translated(() => prepare(statement).execute(values)));
    }
    return results;
  };

  return {
    tables: schema,
    run: (statement, values = {}) => translated(() => anyClient(statement).execute(values)),
    atomic: async <const S extends readonly Step<unknown>[]>(steps: S) => {
      const results = await withoutDeadlock(() => inTransaction(pool, (client) => execute(client, steps)));
      // One result per step, in order.
      return results as Results<S>;
    },
    close: () => pool.end(),
  };
}

type Preparer = <T>(statement: Statement<T>) => { execute: (values: Values) => PromiseLike<T> };

/** Prepares statements on a connection, or on whichever the pool has, once each. */
function preparer(client: pg.Pool | pg.PoolClient): Preparer {
  // PostgreSQL's face passes for SQLite's asynchronous one, as its tables do (columns.pg.ts).
  const db = drizzle(client) as unknown as Db;
  const prepared = new WeakMap<Statement<unknown>, ReturnType<Preparable<unknown>["prepare"]>>();
  return <T>(statement: Statement<T>) => {
    const known = prepared.get(statement) ?? statement(db).prepare();
    prepared.set(statement, known);
    // Kept by the statement that made it, so its rows are of the statement's type.
    return known as ReturnType<Preparable<T>["prepare"]>;
  };
}

async function inTransaction<T>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await reached(pool.connect());
  let broken = true;
  try {
    await reached(client.query("begin"));
    const result = await work(client);
    await reached(client.query("commit"));
    broken = false;
    return result;
  } catch (error) {
    await client.query("rollback").then(
      () => (broken = false),
      () => (broken = true),
    );
    throw error;
  } finally {
    client.release(broken);
  }
}

// Two lists that lock the same rows in another order: PostgreSQL ends one of them, whole. It may begin again.
async function withoutDeadlock<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      const retriable = error instanceof pg.DatabaseError && RETRIABLE.has(error.code ?? "");
      if (!retriable || attempt === DEADLOCK_ATTEMPTS) throw error;
    }
  }
}

// https://www.postgresql.org/docs/current/errcodes-appendix.html: deadlock_detected, serialization_failure.
const RETRIABLE = new Set(["40P01", "40001"]);

// Any number that is ours: programs that migrate this database wait for each other.
const MIGRATION_LOCK = 4_306_190_917;

async function migrate(pool: pg.Pool, migrations: Migration[]): Promise<void> {
  await inTransaction(pool, async (client) => {
    await client.query("set local statement_timeout = 0");
    await client.query("select pg_advisory_xact_lock($1)", [MIGRATION_LOCK]);
    await client.query(CREATE_TABLE);
    const applied = await client.query<{ made_at: string }>(APPLIED);
    for (const migration of missing(
      migrations,
      applied.rows.map((row) => Number(row.made_at)),
    )) {
      for (const statement of migration.statements) await client.query(statement);
      await client.query("insert into schema_migrations (made_at) values ($1)", [migration.madeAt]);
    }
  });
}

/** Drizzle's faults as the driver's. Its wrapper is dropped: the message holds the parameters. */
async function translated<T>(work: () => PromiseLike<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw error instanceof DrizzleQueryError ? faultOf(error.cause) : error;
  }
}

async function reached<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw faultOf(error);
  }
}

/** The driver's faults, translated once: what the database itself says has a code, all else means it is out of reach. */
function faultOf(error: unknown): unknown {
  const unavailable = () =>
    new BrokerError("unavailable", { what: "database", passing: true }, { cause: error });
  if (error instanceof pg.DatabaseError) return OUT_OF_REACH.test(error.code ?? "") ? unavailable() : error;
  if (error instanceof TypeError || error instanceof RangeError) return error;
  return unavailable();
}

// Connection, read-only (a replica), who may log in, no such database, resources, shut down or timed out, the system.
const OUT_OF_REACH = /^(08|25006|28|3D|53|57|58)/;
