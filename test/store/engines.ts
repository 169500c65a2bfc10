import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, inject } from "vitest";
import type { Store } from "../../src/core/storage.ts";
import { openSqliteEngine } from "../../src/store/better-sqlite3.ts";
import { createD1Engine } from "../../src/store/d1.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createStore } from "../../src/store/store.ts";
import { createD1, migrateD1 } from "../helpers/d1.ts";
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

/**
 * In workerd: the database that Workers have. A statement costs ten times what it costs elsewhere, so that `npm test` runs what `FEW` names,
 * and `npm run test:workers` all.
 */
export const d1: EngineUnderTest = {
  name: "D1",
  runs: true,
  open: async () => {
    const binding = await createD1();
    await migrateD1(binding, migrations.sqlite);
    const [a, b] = [createStore(createD1Engine(binding)), createStore(createD1Engine(binding))];
    return { a, b, close: async () => {} };
  },
};

const FEW = [
  "projects",
  "keys",
  "handles",
  "signing keys",
  "idempotent requests",
  "consents: opening",
  "tool pins",
];
const isFew = process.env["CONSENTRY_TEST_D1"] !== "all";

/** The same tests on every engine. `replicas` may be called inside of tests only. */
export function onEveryEngine(title: string, tests: (replicas: () => Replicas) => void): void {
  for (const engine of [sqlite, postgres, d1]) {
    const isLeftOut = engine === d1 && isFew && !FEW.includes(title);
    describe.skipIf(!engine.runs || isLeftOut)(`${title}, on ${engine.name}`, () => {
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
