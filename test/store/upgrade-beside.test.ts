// docs/replicas.md: "the first replica of the new version brings the database up to date while the old ones run on".
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, describe, expect, inject, test } from "vitest";
import type { Store } from "../../src/core/storage.ts";
import { readMigrations } from "../../src/store/migrate.node.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { migrations } from "./engines.ts";
import { firstMigrations } from "./migration-folders.ts";
import { rawEngines } from "./raw-databases.ts";
import { aConnection, aHandle, aHeldCall, aKey, entry, EVERYTHING, eventsOf, newProject } from "./things.ts";

const folders = mkdtempSync(join(tmpdir(), "consentry-beside-"));
afterAll(() => rmSync(folders, { recursive: true }));

describe.for(rawEngines)("while an older replica runs on, on $name", ({ skip, folder, fresh }) => {
  // What the first version knows is written in the same words to this day.
  const versions = [1, readMigrations(folder).length - 1];

  test.skipIf(skip).each(versions)(
    "nothing that the one with %d migrations writes fails or is lost",
    async (count) => {
      const older = firstMigrations(folder, count, folders);
      const database = await fresh();
      await database.migrate(older);
      const old = await database.open(older);
      const project = await newProject(old);
      const writing = writers(old, project);
      await writing.each(2);
      await database.migrate(folder);
      await writing.each(2);
      const written = await writing.stop();

      const store = await database.open(folder);
      const { rows: users } = await store.users.list(project, EVERYTHING);
      const { rows: connections } = await store.connections.list(project, {}, EVERYTHING);
      expect(users).toHaveLength(written.users);
      expect(connections).toHaveLength(written.connections);
      expect(await store.keys.list(project)).toHaveLength(written.keys);
      const { rows: calls } = await store.heldCalls.list(
        { project, viewer: null, status: "done", now: 0 },
        EVERYTHING,
      );
      expect(calls).toHaveLength(written.calls);
      expect(await eventsOf(store, project)).toHaveLength(written.connections + written.keys + written.calls);
      await Promise.all([store.close(), old.close()]);
      await database.close();
    },
  );
});

type Written = { users: number; connections: number; keys: number; calls: number; handles: number };

/** What an older replica does all the time, each over and over. `stop` throws what failed. */
function writers(store: Store, project: string) {
  const written: Written = { users: 0, connections: 0, keys: 0, calls: 0, handles: 0 };
  let isStopped = false;
  const over = async (what: keyof Written, write: (n: number) => Promise<unknown>) => {
    while (!isStopped) {
      await write(written[what]);
      written[what]++;
      // A store in this process that is synchronous leaves nobody else a turn.
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const running = Promise.all([
    over("users", (n) => store.users.note({ project, id: `app:${n}`, status: "active", createdAt: n })),
    over("connections", (n) =>
      store.connections.insert(aConnection(project, { name: `c${n}` }), [
        entry(project, "connection_created"),
      ]),
    ),
    over("keys", (n) => store.keys.insert(aKey(project, { name: `k${n}` }), [entry(project, "key_created")])),
    over("handles", async () => {
      const handle = aHandle(project);
      await store.handles.put(handle, []);
      const { kind, hash, browserHash } = handle;
      if (!(await store.handles.take({ kind, hash, browserHash, now: 2_000 }))) throw new Error("it is gone");
    }),
    over("calls", async () => {
      const { id } = aHeldCall(project);
      const decision = { project, id, approve: true, decidedBy: "key:a", sealedReason: null, now: 2_000 };
      await store.heldCalls.insert([aHeldCall(project, { id })], []);
      const decided = await store.heldCalls.decide(decision, [entry(project, "approval_approved")]);
      const claimed = await store.heldCalls.claim({ project, id, leaseUntil: 9_000 }, []);
      if (!decided || !claimed) throw new Error("it is gone");
      await store.heldCalls.finish({ project, id, sealedOutcome: new Uint8Array([1]) }, []);
    }),
  ]);
  // Heard by who stops them.
  running.catch(() => (isStopped = true));
  return {
    /** Until each has written so often from now on. */
    each: async (times: number) => {
      const before = { ...written };
      const kinds = Object.keys(written) as (keyof Written)[]; // Seam: they are its keys.
      while (!isStopped && kinds.some((kind) => written[kind] < before[kind] + times))
        await new Promise((resolve) => setTimeout(resolve, 5));
    },
    stop: async () => {
      isStopped = true;
      await running;
      return written;
    },
  };
}

test.skipIf(inject("postgresUrl") === "")(
  "who brings PostgreSQL up to date and is ended for the sake of an older one begins again",
  async () => {
    const url = await createDatabase();
    const options = { log: () => {} };
    const older = firstMigrations(migrations.pg, 1, folders);
    await (await openPostgres(url, { ...options, migrations: older })).close();
    const writer = new pg.Client({ connectionString: url });
    await writer.connect();
    // Of two that wait for each other the newer replica finds it out first, and is ended, unless this machine is very busy.
    await writer.query(`alter database ${new URL(url).pathname.slice(1)} set deadlock_timeout = '300ms'`);
    await writer.query("set deadlock_timeout = '3s'");
    await writer.query("begin");
    await writer.query("update responses set write_id = write_id");
    const opening = openPostgres(url, { ...options, migrations: migrations.pg });
    const waiting =
      "select 1 from pg_locks join pg_database d on d.oid = database where datname = current_database() and not granted";
    while ((await writer.query(waiting)).rowCount === 0) continue;
    await writer.query("update agents set write_id = write_id").catch(() => {});
    await writer.query("commit");
    await (await opening).close();
    const { rows } = await writer.query("select made_at from schema_migrations");
    expect(rows).toHaveLength(readMigrations(migrations.pg).length);
    await writer.end();
  },
);
