// From a file to PostgreSQL by the command: what people granted and what waits for them goes on there.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { parseConfig } from "../../src/config.ts";
import { type Running, start } from "../../src/node.ts";
import { nameOf, TABLES } from "../../src/store/move.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { migrateStore } from "../helpers/migrate-store.ts";
import { allow, linkOf, person } from "../helpers/people.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { ADMIN_KEY, call, clientOf, itemsOf } from "../helpers/world.ts";

const hasPostgres = inject("postgresUrl") !== "";
const PROCESS_MS = 90_000;
const folder = mkdtempSync(join(tmpdir(), "consentry-migrate-"));
const source = `file:${join(folder, "consentry.db")}`;
let authServer: TestAuthServer;
let server: ProtectedServer;
let target = "";
/** A call that waits for its approval since before the move. */
let asked: { id: string; approval: string };

const broker = (env: Record<string, string>): Promise<Running> =>
  start(parseConfig({ CONSENTRY_PORT: "0", CONSENTRY_ADMIN_KEY: ADMIN_KEY, ...env }), { log: () => {} });
const ann = ({ url }: Running) => clientOf(url, ADMIN_KEY, { project: "default", user: "ann" });
const mcp = (require_approval: "always" | "never") => ({
  type: "mcp" as const,
  server_label: "notes",
  require_approval,
});
const input = [call("notes", "whoami", {})];

beforeAll(async () => {
  if (!hasPostgres) return;
  target = await createDatabase();
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
});
afterAll(async () => {
  await server?.stop();
  await authServer?.stop();
  rmSync(folder, { recursive: true });
});

test.skipIf(!hasPostgres)(
  "while the broker runs on the file, nothing is moved",
  async () => {
    const running = await broker({ CONSENTRY_DATABASE_URL: source });
    await fetch(`${running.url}/api/projects/default/connections/notes`, {
      method: "PUT",
      headers: { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json" },
      body: JSON.stringify({
        properties: { authType: "OAuth2", category: "RemoteTool", target: server.url, credentials: {} },
      }),
    });
    const client = ann(running);
    await allow(person(authServer, "ann"), linkOf(await client.responses.create({ tools: [mcp("never")] })));
    const waiting = await client.responses.create({ tools: [mcp("always")], input });
    asked = { id: waiting.id, approval: itemsOf(waiting, "mcp_approval_request")[0]?.id ?? "" };
    const refused = migrateStore(source, target);
    expect(await refused.exited).toBe(1);
    expect(refused.output()).toContain("consentry.db is in use. Stop the broker that runs on it.");
    await running.stop();
  },
  PROCESS_MS,
);

test.skipIf(!hasPostgres)(
  "killed in the middle it has moved nothing, and run again it moves everything",
  async () => {
    const admin = new pg.Client({ connectionString: target });
    await admin.connect();
    const first = migrateStore(source, target);
    expect(await first.exited).toBe(0);
    // Its tables are there, and empty, as after a start that came to nothing.
    await admin.query(`truncate ${TABLES.map((name) => `"${nameOf(name)}"`).join(", ")}`);
    await admin.query(
      "create function doze() returns trigger language plpgsql as $$ begin perform pg_sleep(60); return new; end $$",
    );
    await admin.query("create trigger doze before insert on responses for each row execute function doze()");
    const killed = migrateStore(source, target);
    const dozing =
      "select pid from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";
    while ((await admin.query(dozing)).rows.length === 0)
      await new Promise((resolve) => setTimeout(resolve, 20));
    expect(killed.output()).toContain("grants 1");
    killed.kill9();
    expect(await killed.exited).toBe(null);
    await admin.query(`select pg_terminate_backend(pid) from (${dozing}) as asleep`);
    await admin.query("drop trigger doze on responses");
    await admin.query("drop function doze");
    for (const name of TABLES)
      expect((await admin.query(`select 1 from "${nameOf(name)}"`)).rows).toEqual([]);
    await admin.end();

    const done = migrateStore(source, target);
    expect(await done.exited).toBe(0);
    expect(done.output()).toMatch(
      /rows are there.*the target as CONSENTRY_DATABASE_URL.*made beside the file: file:\S+consentry\.db\.keyring/s,
    );
    const again = migrateStore(source, target);
    expect(await again.exited).toBe(1);
    expect(again.output()).toContain("The target is not empty (audit, leases, projects, ");
  },
  3 * PROCESS_MS,
);

test.skipIf(!hasPostgres)(
  "on the other side nobody is asked again: the grant serves, and what waited is approved and runs",
  async () => {
    const running = await broker({
      CONSENTRY_DATABASE_URL: target,
      CONSENTRY_KEYRING: `file:${join(folder, "consentry.db.keyring")}`,
    });
    const called = await ann(running).responses.create({ tools: [mcp("never")], input });
    expect(itemsOf(called, "mcp_call")).toMatchObject([{ output: "ann" }]);
    const approved = await ann(running).responses.create({
      previous_response_id: asked.id,
      input: [{ type: "mcp_approval_response", approval_request_id: asked.approval, approve: true }],
    });
    expect(itemsOf(approved, "mcp_call")).toMatchObject([{ output: "ann" }]);
    await running.stop();
  },
);

test.each([
  ["file:a.db", ""],
  ["mysql://host/a", "file:a.db"],
  ["consentry.db", "file:a.db"],
])(
  "%s %s: it says how it is used",
  async (from, to) => {
    const told = migrateStore(from, to);
    expect(await told.exited).toBe(1);
    expect(told.output()).toContain("Usage: npm run migrate-store");
  },
  PROCESS_MS,
);
