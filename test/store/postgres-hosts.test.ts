// What one host leaves to the others on PostgreSQL, when it vanishes.
import { once } from "node:events";
import { connect, createServer } from "node:net";
import pg from "pg";
import { describe, expect, inject, test } from "vitest";
import type { Log } from "../../src/core/ports.ts";
import { reasonOf } from "../../src/database.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { openLine } from "../helpers/frozen-line.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { migrations } from "./engines.ts";
import { aResponse, bigBox, id, newProject } from "./things.ts";

const open = (url: string, log: Log = () => {}) => openPostgres(url, { migrations: migrations.pg, log });
const plenty = { ofProject: 99, ofCaller: 99 };

function aWork(project: string) {
  const response = aResponse(project);
  const owner = { user: null, principal: "key:x" } as const;
  const times = { leaseUntil: 1_000, createdAt: 1, expiresAt: 10 };
  return { id: response.id, project, owner, response, run: id("w"), ...times };
}

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  return client;
}

describe.skipIf(inject("postgresUrl") === "")("on PostgreSQL", () => {
  test("a host that vanishes before its commit keeps no row locked for ever", async () => {
    const url = new URL(await createDatabase());
    const line = await openLine(Number(url.port));
    const far = new URL(url);
    far.port = String(line.port);
    const ownTimes = await open(far.href);
    expect(line.greeting()).toContain("idle_in_transaction_session_timeout\u000035000\u0000");
    await ownTimes.close();
    // The same in a second.
    const vanishing = await open(`${far.href}?query_timeout=500&idle_in_transaction_session_timeout=1000`);
    const other = await open(`${url.href}?statement_timeout=10000`);
    const project = await newProject(other);
    const work = aWork(project);
    await other.background.begin(work, bigBox(10), plenty);
    const hold = { project, id: work.id, run: work.run };
    line.freezeAt("commit\u0000");
    const append = vanishing.background.append({ ...hold, seq: 0, sealed: bigBox(10), leaseUntil: 2 });
    await expect(append).rejects.toMatchObject({ code: "unavailable" });
    const taken = await other.background.claim({ ...hold, run: id("w"), leaseUntil: 5_000, now: 3_000 });
    expect(taken).toMatchObject({ id: work.id, batches: 0 });
    await Promise.all([vanishing.close(), other.close()]);
    await line.stop();
  });

  test("who starts while another one migrates says that it waits", async () => {
    const url = await createDatabase();
    await (await open(url)).close();
    const holder = await connected(url);
    await holder.query("begin");
    await holder.query("select pg_advisory_xact_lock(4306190917)");
    const said = Promise.withResolvers<string>();
    const opening = open(url, (_, event) => said.resolve(event));
    expect(await said.promise).toBe("migrations_waiting");
    await holder.query("commit");
    await (await opening).close();
    await holder.end();
  });

  test("a pooler that refuses what the connections ask for is noticed at the start, and said", async () => {
    const url = new URL(await createDatabase());
    const port = Number(url.port);
    const pooler = createServer((near) => {
      near.on("error", () => {});
      near.once("data", (first) => {
        // As PgBouncer without ignore_startup_parameters.
        if (first.includes("\0statement_timeout\0")) return near.end(REFUSED);
        const far = connect(port, "127.0.0.1").on("error", () => {});
        far.write(first);
        near.pipe(far).pipe(near);
      });
    }).listen(0, "127.0.0.1");
    await once(pooler, "listening");
    const address = pooler.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    url.port = String(address.port);
    const refused = await open(url.href).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: "unavailable" });
    expect(reasonOf((refused as Error).cause)).toBe(
      "08P01: unsupported startup parameter: statement_timeout",
    );
    pooler.close();
  });

  test("a connection that is lost is told by its reason, and nothing else of it", async () => {
    const url = await createDatabase();
    const lines: unknown[] = [];
    const store = await open(url, (...line) => lines.push(line));
    const admin = await connected(url);
    await admin.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
    );
    await expect.poll(() => lines.length).toBeGreaterThan(0);
    expect(lines[0]).toEqual([
      "warn",
      "database_connection_lost",
      { why: "terminating connection due to administrator command" },
    ]);
    await admin.end();
    await store.close();
  });

  test("of what is swept while somebody deletes, nothing is left behind", async () => {
    const url = await createDatabase();
    const store = await open(url);
    const project = await newProject(store);
    const works = Array.from({ length: 3 }, () => aWork(project));
    for (const [at, work] of works.entries()) {
      await store.background.begin(work, bigBox(1_300_000), plenty);
      const { id: which, run } = work;
      await store.background.finish({ project, id: which, run, status: "done", expiresAt: 10 + at });
    }
    const deleting = await connected(url);
    await deleting.query("begin");
    await deleting.query("delete from box_chunks where owner = $1", [`background:${works[0]?.id}`]);
    await deleting.query("delete from background where id = $1", [works[0]?.id]);
    const sweeping = store.background.sweep(1_000, 2);
    await untilWaiting(deleting);
    await deleting.query("commit");
    await sweeping;
    await store.background.sweep(1_000, 2);
    const count = async (table: string) => (await deleting.query(`select 1 from ${table}`)).rowCount;
    expect([await count("background"), await count("box_chunks")]).toEqual([0, 0]);
    await deleting.end();
    await store.close();
  });
});

/** An ErrorResponse (https://www.postgresql.org/docs/current/protocol-message-formats.html). */
const REFUSED = errorResponse(
  "SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: statement_timeout\0\0",
);

function errorResponse(fields: string): Buffer {
  const head = Buffer.alloc(5);
  head.write("E");
  head.writeInt32BE(fields.length + 4, 1);
  return Buffer.concat([head, Buffer.from(fields)]);
}

/** Until somebody waits for what this client holds. */
async function untilWaiting(client: pg.Client): Promise<void> {
  const waiting = () => client.query("select 1 from pg_locks where not granted");
  await expect.poll(async () => (await waiting()).rowCount).toBeGreaterThan(0);
}
