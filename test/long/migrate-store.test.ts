// A hundred thousand grants, moved by a process that has little memory.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Database from "better-sqlite3";
import pg from "pg";
import { afterAll, expect, inject, test } from "vitest";
import { openSqlite } from "../../src/store/better-sqlite3.ts";
import { giveGrant } from "../helpers/grants.ts";
import { migrateStore } from "../helpers/migrate-store.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { migrations } from "../store/engines.ts";
import { aGrant, newProject } from "../store/things.ts";

const GRANTS = 100_000;
const HEAP_MB = 64;
const folder = mkdtempSync(join(tmpdir(), "consentry-long-"));
afterAll(() => rmSync(folder, { recursive: true }));

test.skipIf(inject("postgresUrl") === "")(
  "a hundred thousand grants go to PostgreSQL and back, each as it was",
  async () => {
    const [there, back] = [join(folder, "there.db"), join(folder, "back.db")];
    const store = openSqlite(there, { migrations: migrations.sqlite });
    const project = await newProject(store);
    await giveGrant(store, aGrant(project));
    await store.close();
    multiply(there);
    const target = await createDatabase();
    for (const [from, to] of [
      [`file:${there}`, target],
      [target, `file:${back}`],
    ] as const) {
      const moving = migrateStore(from, to, { heapMb: HEAP_MB });
      const code = await moving.exited;
      expect(moving.output()).toContain(`grants ${GRANTS}`);
      expect(code).toBe(0);
    }
    const client = new pg.Client({ connectionString: target });
    await client.connect();
    const { rows } = await client.query("select count(distinct (sealed, id)) as n from grants");
    expect(Number(rows[0].n)).toBe(GRANTS);
    await client.end();
    expect(differences(there, back)).toBe(0);
  },
  30 * 60_000,
);

/** Of the one grant that is there makes many, each with a box of its own. */
function multiply(path: string): void {
  const file = new Database(path);
  const columns = file.pragma("table_info(grants)") as { name: string }[];
  const values = columns.map(({ name }) => {
    if (name === "id") return "'grant_' || n";
    if (name === "user_id") return "'app:user-' || n";
    return name === "sealed" ? "randomblob(2700)" : name;
  });
  file.exec(
    `with recursive many(n) as (select 1 union all select n + 1 from many where n < ${GRANTS - 1})
     insert into grants select ${values.join(", ")} from grants, many`,
  );
  file.close();
}

/** Grants of one file that are not in the other, byte for byte. */
function differences(one: string, other: string): number {
  const file = new Database(one);
  file.exec(`attach '${other}' as other`);
  const found = file
    .prepare("select count(*) from (select * from main.grants except select * from other.grants)")
    .pluck()
    .get();
  file.close();
  return Number(found);
}
