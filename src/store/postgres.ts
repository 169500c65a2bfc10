import { drizzle } from "drizzle-orm/node-postgres";
import pg from "pg";
import type { Log } from "../core/ports.ts";
import type { Store } from "../core/storage.ts";
import type { Db, Engine, Preparable, Results, Statement, Step, Values } from "./engine.ts";
import { APPLIED, CREATE_TABLE, type Migration, missing, readMigrations } from "./migrate.node.ts";
import { hasSpoken, isRetriable, reached, translated } from "./postgres-faults.ts";
import * as schema from "./schema.pg.ts";
import { createStore } from "./store.ts";

const POOL_CLIENTS = 10;
const CONNECT_TIMEOUT_MS = 5_000;
const STATEMENT_TIMEOUT_MS = 30_000;
// The server's own time-out is of no use where its answers are lost: a failover, or a network that is gone, says nothing.
const ANSWER_TIMEOUT_MS = STATEMENT_TIMEOUT_MS + 5_000;
const DEADLOCK_ATTEMPTS = 5;
/**
 * What a transaction says next has been waited for by then, and given up. So whoever is silent for longer is gone without a word, as a host is
 * that lost its power: the server would keep their locks for as long as its own TCP takes to notice, which is hours.
 */
const ABANDONED = { idle_in_transaction_session_timeout: ANSWER_TIMEOUT_MS };

/**
 * Opens a PostgreSQL database and brings it to this version's schema, one program at a time. `migrations`: the folder
 * `drizzle/pg`.
 *
 * Throws a plain Error when a newer version has written the database, and `unavailable` when it cannot be reached.
 */
export async function openPostgres(url: string, options: { migrations: string; log: Log }): Promise<Store> {
  const migrations = readMigrations(options.migrations);
  // Older replicas write meanwhile, and may lock what it locks in another order.
  await withoutDeadlock(() => bringUp(url, migrations, options.log));
  const pool = new pg.Pool({
    ...connectionOf(url),
    ...ABANDONED,
    max: POOL_CLIENTS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    query_timeout: ANSWER_TIMEOUT_MS,
  });
  // Without listeners, a connection that breaks would end the process: while idle, and between two statements of a list
  // (the next statement fails then). The pool makes a new one.
  pool.on("error", ({ message }) => options.log("warn", "database_connection_lost", { why: message }));
  pool.on("connect", (client) => client.on("error", () => {}));
  try {
    // The pool's connections ask for more than the one that migrated, which what is in between may refuse.
    await reached(() => pool.query("select 1"));
  } catch (error) {
    await pool.end();
    throw error;
  }
  return createStore(createEngine(pool));
}

/** What all connections have in common. The URL has the last word, as in `?sslmode=verify-full&sslrootcert=…`. */
function connectionOf(url: string): pg.ClientConfig {
  return {
    connectionString: known(url),
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
  };
}

/** What its connections are known by in `pg_stat_activity`: whoever moves a database looks for them there, whatever the URL says. */
export const APPLICATION = "consentry";

function known(url: string): string {
  const parsed = URL.parse(url);
  parsed?.searchParams.set("application_name", APPLICATION);
  return parsed?.href ?? url;
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
  const client = await reached(() => pool.connect());
  let broken = true;
  try {
    await reached(() => client.query("begin"));
    const result = await work(client);
    await reached(() => client.query("commit"));
    broken = false;
    return result;
  } catch (error) {
    // Who has said nothing is told nothing: a rollback would wait for as long once more. What ends with its connection has not happened.
    if (hasSpoken(error)) broken = !(await isRolledBack(client));
    throw error;
  } finally {
    client.release(broken);
  }
}

function isRolledBack(client: pg.PoolClient): Promise<boolean> {
  return client.query("rollback").then(
    () => true,
    () => false,
  );
}

// Two transactions that lock the same rows in another order: PostgreSQL ends one of them, whole. It may begin again.
async function withoutDeadlock<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      if (!isRetriable(error) || attempt === DEADLOCK_ATTEMPTS) throw error;
    }
  }
}

/** On a connection of its own: what is built here may take as long as it takes, and so may the one that does it before us. */
export async function bringUp(url: string, migrations: Migration[], log: Log): Promise<void> {
  const client = await connect(url, ABANDONED);
  try {
    await reached(() => client.query("begin"));
    await migrate(client, migrations, log);
    await reached(() => client.query("commit"));
  } finally {
    // Without a commit nothing has happened.
    await client.end();
  }
}

/** A connection by itself. Throws `unavailable`, also where the URL names a certificate that cannot be read. */
export async function connect(url: string, more: pg.ClientConfig = {}): Promise<pg.Client> {
  const client = await reached(() => new pg.Client({ ...connectionOf(url), ...more }));
  // What breaks in between fails the next statement.
  client.on("error", () => {});
  await reached(() => client.connect());
  return client;
}

/** Held until the client's transaction ends: programs that migrate this database wait for each other. */
export async function lockMigrations(client: pg.Client, log: Log): Promise<void> {
  const { rows } = await reached(() =>
    client.query<{ free: boolean }>("select pg_try_advisory_xact_lock($1) as free", [MIGRATION_LOCK]),
  );
  if (rows[0]?.free) return;
  log("info", "migrations_waiting", { why: "another process migrates this database, or moves it" });
  await reached(() => client.query("select pg_advisory_xact_lock($1)", [MIGRATION_LOCK]));
}

// Any number that is ours.
const MIGRATION_LOCK = 4_306_190_917;

async function migrate(client: pg.Client, migrations: Migration[], log: Log): Promise<void> {
  await reached(() => client.query("set local statement_timeout = 0"));
  await lockMigrations(client, log);
  await reached(() => client.query(CREATE_TABLE));
  const { rows } = await reached(() => client.query<{ made_at: string }>(APPLIED));
  const applied = rows.map((row) => Number(row.made_at));
  for (const migration of missing(migrations, applied)) {
    for (const statement of migration.statements) await reached(() => client.query(statement));
    await reached(() =>
      client.query("insert into schema_migrations (made_at) values ($1)", [migration.madeAt]),
    );
  }
}
