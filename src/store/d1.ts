import { DrizzleQueryError, fillPlaceholders } from "drizzle-orm";
import { drizzle } from "drizzle-orm/d1";
import { BrokerError } from "../core/errors.ts";
import { keepNothing, type Keep } from "../core/keep.ts";
import type { Store } from "../core/storage.ts";
import type { Db, Engine, Results, Statement, Step, Values } from "./engine.ts";
import * as schema from "./schema.sqlite.ts";
import { createStore } from "./store.ts";

/** What we need of a D1 binding. https://developers.cloudflare.com/d1/worker-api/d1-database/ */
export type D1 = {
  prepare: (query: string) => D1Statement;
  /** One transaction: all of it or nothing. */
  batch: (statements: D1Statement[]) => Promise<unknown[]>;
};
export type D1Statement = {
  bind: (...values: unknown[]) => D1Statement;
  all: () => Promise<{ results: Record<string, unknown>[] }>;
};

/**
 * The store in a D1 database. Nothing is migrated here: wrangler does that, before a version is deployed. `migrations`: the
 * names of this version's, as wrangler knows them, `0000_start` for `0000_start.sql`.
 *
 * `ping` throws `unavailable` where the database has another schema than this version's.
 */
export function openD1(d1: D1, { migrations, keep }: { migrations: readonly string[]; keep: Keep }): Store {
  const store = createStore(createD1Engine(d1, keep));
  return {
    ...store,
    ping: async () => {
      const { lacking, unknown } = await schemaOf(d1, migrations);
      if (lacking.length > 0) throw lacks(lacking);
      if (unknown.length > 0)
        throw unready(`the schema of the database is newer than this version (${unknown.join(", ")})`);
    },
  };
}

/**
 * Throws `unavailable` where the database lacks migrations. One that has more is let pass: it is how a database looks between
 * `wrangler d1 migrations apply` and `wrangler deploy`, and only `ping` tells of it.
 */
export async function requireSchema(
  d1: D1,
  { migrations }: { migrations: readonly string[] },
): Promise<void> {
  const { lacking } = await schemaOf(d1, migrations);
  if (lacking.length > 0) throw lacks(lacking);
}

export function createD1Engine(d1: D1, keep: Keep = keepNothing): Engine {
  // The engine's face is SQLite's asynchronous one, which D1's is.
  const db = drizzle(d1 as Parameters<typeof drizzle>[0]) as unknown as Db;
  const prepared = new WeakMap<Statement<unknown>, Prepared>();

  const prepare = (statement: Statement<unknown>): Prepared => {
    const known = prepared.get(statement) ?? preparedOf(d1, statement, db);
    prepared.set(statement, known);
    return known;
  };

  return {
    tables: schema,
    run: <T>(statement: Statement<T>, values: Values = {}) =>
      // The statement's own type says what its rows are.
      keep(translated(() => prepare(statement).query.execute(values))) as Promise<T>,
    atomic: async <const S extends readonly Step<unknown>[]>(steps: S) => {
      if (steps.length === 0) return [] as unknown[] as Results<S>;
      const list = steps.map(({ statement, values }) => ({ ...prepare(statement), values }));
      // Not Drizzle's own `batch`, which does not fill in placeholders.
      const bound = () =>
        list.map(({ bare, params, values }) => bare.bind(...fillPlaceholders(params, values)));
      const results = await keep(translated(() => d1.batch(bound())));
      // One result per step, in order.
      return results.map((result, at) => list[at]?.query.mapResult(result, true)) as Results<S>;
    },
    // A binding is nobody's to close.
    close: async () => {},
  };
}

type Prepared = { query: PreparedQuery; bare: D1Statement; params: unknown[] };

/** What Drizzle's prepared statements are on D1. */
type PreparedQuery = {
  execute: (values: Values) => PromiseLike<unknown>;
  getQuery: () => { sql: string; params: unknown[] };
  mapResult: (result: unknown, isFromBatch: boolean) => unknown;
};

function preparedOf(d1: D1, statement: Statement<unknown>, db: Db): Prepared {
  const query = statement(db).prepare() as unknown as PreparedQuery;
  const { sql, params } = query.getQuery();
  return { query, bare: d1.prepare(sql), params };
}

/** What wrangler has applied, beside what this version knows. */
async function schemaOf(
  d1: D1,
  migrations: readonly string[],
): Promise<{ lacking: string[]; unknown: string[] }> {
  const applied = await appliedTo(d1);
  return {
    lacking: migrations.filter((name) => !applied.includes(name)),
    unknown: applied.filter((name) => !migrations.includes(name)),
  };
}

async function appliedTo(d1: D1): Promise<string[]> {
  try {
    const { results } = await translated(() =>
      d1.prepare("select name from d1_migrations order by id").all(),
    );
    return results.map(({ name }) => String(name).replace(/\.sql$/, ""));
  } catch (error) {
    // A new database has no such table.
    if (codeOf(error) === "SQLITE_ERROR") return [];
    throw error;
  }
}

const lacks = (names: string[]) =>
  unready(
    `the database lacks ${names.join(", ")}: run "wrangler d1 migrations apply DB --remote" with the sources of this version`,
  );

const unready = (what: string) => new BrokerError("unavailable", { what });

/** Drizzle's faults as the database's (its wrapper is dropped: the message holds the parameters), and those translated, once. */
async function translated<T>(work: () => PromiseLike<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw faultOf(error instanceof DrizzleQueryError ? error.cause : error);
  }
}

/**
 * D1 tells its faults apart by their text alone: those of a statement end in SQLite's code, or say that a value cannot be
 * bound; all others mean that the database is out of reach, too busy or full.
 * https://developers.cloudflare.com/d1/observability/debug-d1/
 */
function faultOf(error: unknown): unknown {
  if (error instanceof TypeError || error instanceof RangeError) return error;
  const code = codeOf(error);
  const isOurs = code === "" ? messageOf(error).startsWith("D1_TYPE_ERROR") : !OUT_OF_REACH.test(code);
  if (isOurs) return error;
  return new BrokerError("unavailable", { what: "database", passing: true }, { cause: error });
}

function codeOf(error: unknown): string {
  return /\bSQLITE_[A-Z]+\b/.exec(messageOf(error))?.[0] ?? "";
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : "";
}

// https://www.sqlite.org/rescode.html: locked for too long, no space, no memory, a failing or damaged disk.
const OUT_OF_REACH =
  /^SQLITE_(BUSY|LOCKED|FULL|CANTOPEN|IOERR|READONLY|CORRUPT|NOTADB|PROTOCOL|NOMEM|INTERRUPT)/;
