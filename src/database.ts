import { mkdir, open } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Config } from "./config.ts";
import type { Log } from "./core/ports.ts";
import type { Store } from "./core/storage.ts";

const root = join(import.meta.dirname, "..");

/** The store of a configuration, brought to this version's schema. Part of the doors on Node. Throws as the engine's own opening does. */
export async function openStore({ database }: Pick<Config, "database">, log: Log): Promise<Store> {
  if (database.kind === "postgres") {
    // Read by those alone who have it, as SQLite's is: each is a driver and tables of its own.
    const { openPostgres } = await import("./store/postgres.ts");
    return openPostgres(database.url, { migrations: join(root, "drizzle/pg"), log });
  }
  await mkdir(dirname(database.path), { recursive: true, mode: 0o700 });
  // Made before SQLite makes it readable for everybody; its side files take over the mode.
  await (await open(database.path, "a", 0o600)).close();
  const { openSqlite } = await import("./store/better-sqlite3.ts");
  return openSqlite(database.path, { migrations: join(root, "drizzle/sqlite") });
}

/** Why a database is not available, in the words of its driver, which name no secret. */
export function reasonOf(cause: unknown): string {
  if (!(cause instanceof Error)) return "no reason is known";
  const code = "code" in cause ? String(cause.code) : "";
  return [code, cause.message].filter((text) => text !== "").join(": ");
}
