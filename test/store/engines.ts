import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, inject } from "vitest";
import type { Store } from "../../src/core/storage.ts";
import { openSqliteEngine } from "../../src/store/better-sqlite3.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createStore } from "../../src/store/store.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { withLimitsOfD1 } from "./d1-limits.ts";

export const migrations = {
  sqlite: join(import.meta.dirname, "../../drizzle/sqlite"),
  pg: join(import.meta.dirname, "../../drizzle/pg"),
};

/** Two stores on one database: two replicas of the broker. */
export type Replicas = { a: Store; b: Store };

type Opened = Replicas & { close: () => Promise<void> };

export type EngineUnderTest = { name: string; open: () => Promise<Opened>; runs: boolean };

/** With a guard: every statement must also fit into D1. */
export const sqlite: EngineUnderTest = {
  name: "better-sqlite3",
  runs: true,
  open: async () => {
    const folder = mkdtempSync(join(tmpdir(), "consentry-store-"));
    const url = join(folder, "data", "test.db");
    const open = () => createStore(withLimitsOfD1(openSqliteEngine(url, { migrations: migrations.sqlite })));
    const [a, b] = [open(), open()];
    return {
      a,
      b,
      close: async () => {
        await Promise.all([a.close(), b.close()]);
        rmSync(folder, { recursive: true });
      },
    };
  },
};

export const postgres: EngineUnderTest = {
  name: "PostgreSQL",
  runs: inject("postgresUrl") !== "",
  open: async () => {
    const url = await createDatabase();
    const options = { migrations: migrations.pg, log: () => {} };
    const [a, b] = await Promise.all([openPostgres(url, options), openPostgres(url, options)]);
    return {
      a,
      b,
      close: async () => {
        await Promise.all([a.close(), b.close()]);
      },
    };
  },
};

/** The same tests on every engine. `replicas` may be called inside of tests only. */
export function onEveryEngine(title: string, tests: (replicas: () => Replicas) => void): void {
  for (const engine of [sqlite, postgres]) {
    describe.skipIf(!engine.runs)(`${title}, on ${engine.name}`, () => {
      let opened: Opened | undefined;
      beforeAll(async () => {
        opened = await engine.open();
      });
      afterAll(() => opened?.close());
      tests(() => {
        if (!opened) throw new Error("The stores are open inside of tests only.");
        return opened;
      });
    });
  }
}
