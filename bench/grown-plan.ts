import Database from "better-sqlite3";
import { fillPlaceholders } from "drizzle-orm";
import { drizzle } from "drizzle-orm/better-sqlite3";
import { drizzle as drizzlePg } from "drizzle-orm/node-postgres";
import pg from "pg";
import type { GrantKey } from "../src/core/grants.ts";
import type { Db, Engine, Statement, Values } from "../src/store/engine.ts";
import { createGrants } from "../src/store/grants.ts";
import * as postgresTables from "../src/store/schema.pg.ts";
import * as sqliteTables from "../src/store/schema.sqlite.ts";
import type { Place } from "./grown-fill.ts";

/** How the database says that it finds the grant of a call, by the store's own statement. A line each. */
export function planOf(place: Place, key: GrantKey): Promise<string[]> {
  return place.kind === "sqlite" ? planOfSqlite(place.path, key) : planOfPostgres(place.url, key);
}

/** Whether a plan goes through a table, or goes to more of an index than the user's part of it. */
export function scans(plan: readonly string[]): boolean {
  const isWhole = plan.some((line) => /\bSCAN\b|\bSeq Scan\b/.test(line));
  const isDirect = plan.some((line) => /\bSEARCH\b.*\buser_id=|\bIndex Cond:.*\buser_id\b/.test(line));
  return isWhole || !isDirect;
}

async function planOfSqlite(path: string, key: GrantKey): Promise<string[]> {
  const file = new Database(path, { readonly: true });
  try {
    const { sql, params } = await lookup(sqliteTables, drizzle(file), key);
    const rows = file.prepare(`explain query plan ${sql}`).all(...params) as { detail: string }[]; // Seam: what SQLite explains with.
    return rows.map(({ detail }) => detail);
  } finally {
    file.close();
  }
}

async function planOfPostgres(url: string, key: GrantKey): Promise<string[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { sql, params } = await lookup(postgresTables, drizzlePg(client), key);
    const { rows } = await client.query<Record<"QUERY PLAN", string>>(`explain ${sql}`, params);
    return rows.map((row) => row["QUERY PLAN"].trim());
  } finally {
    await client.end();
  }
}

/** What the store asks when it is asked for a grant. */
async function lookup(
  tables: unknown,
  db: unknown,
  key: GrantKey,
): Promise<{ sql: string; params: unknown[] }> {
  const asked: { statement: Statement<unknown>; values: Values }[] = [];
  const engine: Engine = {
    // The engines' own tables pass for SQLite's, as in their adapters.
    tables: tables as Engine["tables"],
    run: async (statement, values = {}) => {
      asked.push({ statement, values });
      throw new Asked();
    },
    atomic: () => {
      throw new Error("a grant is looked up by one statement");
    },
    close: async () => {},
  };
  await createGrants(engine)
    .get(key)
    .catch((error: unknown) => {
      if (!(error instanceof Asked)) throw error;
    });
  const [first] = asked;
  if (!first) throw new Error("the store asks for no grant");
  // The engines' own faces pass for the one that statements are built with, and what Drizzle builds can be shown.
  const made = first.statement(db as Db) as unknown as { toSQL: () => { sql: string; params: unknown[] } };
  const { sql, params } = made.toSQL();
  return { sql, params: fillPlaceholders(params, first.values) };
}

/** Nothing is answered: the question was all that was wanted. */
class Asked extends Error {}
