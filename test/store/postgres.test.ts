import pg from "pg";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import type { Store } from "../../src/core/storage.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { migrations } from "./engines.ts";
import {
  EVERYTHING,
  aHeldCall,
  aResponse,
  entry,
  eventsOf,
  id,
  itemRows,
  newProject,
  stored,
} from "./things.ts";

const unavailable = expect.objectContaining({
  code: "unavailable",
  details: { what: "database", passing: true },
});

describe.skipIf(inject("postgresUrl") === "")("PostgreSQL", () => {
  let url = "";
  let store: Store;
  let admin: pg.Client;
  const events: string[] = [];
  const open = (where: string) =>
    openPostgres(where, { migrations: migrations.pg, log: (_level, event) => events.push(event) });

  beforeAll(async () => {
    url = await createDatabase();
    store = await open(url);
    admin = new pg.Client({ connectionString: url });
    await admin.connect();
  });
  afterAll(async () => {
    await admin.end();
    await store.close();
  });

  /** Resolves when the store waits for a lock that `admin` holds. */
  const waitsForLock = async () => {
    const waiting =
      "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    for (;;) {
      const { rows } = await admin.query<{ pid: number }>(waiting);
      if (rows[0]) return rows[0].pid;
    }
  };

  test("where nobody listens the database is unavailable", async () => {
    await expect(open("postgres://postgres@127.0.0.1:1/none")).rejects.toEqual(unavailable);
  });

  test("connections that were ended while idle are made again", async () => {
    const project = await newProject(store);
    await Promise.all(Array.from({ length: 5 }, () => store.ping()));
    await admin.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
    );
    await expect.poll(() => events).toContain("database_connection_lost");
    await expect.poll(() => store.projects.get(project).catch(() => null)).toMatchObject({ name: project });
  });

  test("a connection that breaks in the middle of a list: unavailable, nothing is left, the next call works", async () => {
    const project = await newProject(store);
    const call = aHeldCall(project);
    await store.heldCalls.insert([call], []);
    await admin.query("begin");
    await admin.query("update users set status = status");
    await admin.query("update held_calls set label = label where id = $1", [call.id]);
    const blocked = store.users.block({ project, id: "app:ann", at: 1 }, [entry(project, "user_blocked")]);
    const outcome = blocked.catch((error: unknown) => error);
    await admin.query("select pg_terminate_backend($1)", [await waitsForLock()]);
    expect(await outcome).toEqual(unavailable);
    await admin.query("rollback");
    expect(await store.users.get(project, "app:ann")).toBeNull();
    expect(await eventsOf(store, project)).toEqual([]);
    await store.users.block({ project, id: "app:ann", at: 1 }, [entry(project, "user_blocked")]);
    expect(await eventsOf(store, project)).toEqual(["user_blocked"]);
  });

  test("a list that PostgreSQL ends for a deadlock begins again", async () => {
    const project = await newProject(store);
    const call = aHeldCall(project);
    await store.heldCalls.insert([call], []);
    await store.users.note({ project, id: "app:ann", status: "active", createdAt: 1 });
    // The other side never gives in, so it is the store's list that is ended.
    await admin.query("set deadlock_timeout = '1min'");
    await admin.query("begin");
    await admin.query("update held_calls set label = 'other' where id = $1", [call.id]);
    const blocked = store.users.block({ project, id: "app:ann", at: 1 }, [entry(project, "user_blocked")]);
    await waitsForLock();
    await admin.query("update users set created_at = 7 where project = $1", [project]);
    await admin.query("commit");
    await blocked;
    expect(await store.users.get(project, "app:ann")).toMatchObject({ status: "blocked", createdAt: 7 });
    expect(await store.heldCalls.get(project, call.id)).toMatchObject({
      status: "cancelled",
      label: "other",
    });
    expect(await eventsOf(store, project)).toEqual(["user_blocked"]);
  });

  test("who waits for the deletion of a conversation does not append to what is left of it", async () => {
    const project = await newProject(store);
    const owner = { user: null, principal: "key:runtime" };
    const response = aResponse(project, { owner });
    const conversation = { id: id("conv"), project, owner, createdAt: 1, metadata: {} };
    const place = { threadId: conversation.id, inputFrom: 0, outputFrom: 0, end: 2 };
    await store.conversations.insert(conversation, []);
    await store.responses.append(stored(response, place), itemRows(0, 2), []);
    // A deletion, as far as it goes; its last response keeps the thread as long as it was.
    await admin.query("begin");
    await admin.query("update conversations set write_id = 'w_other' where id = $1", [conversation.id]);
    await admin.query("update threads set write_id = 'w_other' where id = $1", [conversation.id]);
    const late = stored(aResponse(project, { owner }), { ...place, inputFrom: 2, outputFrom: 2, end: 3 });
    const appended = [
      store.responses.append(late, itemRows(2, 3), []),
      store.conversations.append(project, conversation.id, 2, itemRows(2, 3)),
    ];
    await waitsForLock();
    await admin.query("delete from conversations where id = $1", [conversation.id]);
    await admin.query("commit");
    expect(await Promise.all(appended)).toEqual([false, false]);
    expect(await store.responses.items(project, conversation.id, 0, 99)).toHaveLength(2);
  });

  test("a fault of a statement tells no parameter", async () => {
    const project = await newProject(store);
    const call = aHeldCall(project, { label: "canary-4711" });
    const error = await store.heldCalls.insert([call, call], []).catch((fault: unknown) => fault);
    expect(error).toBeInstanceOf(pg.DatabaseError);
    expect(JSON.stringify(error) + String(error)).not.toContain("canary");
  });

  test("a database that is gone is unavailable", async () => {
    const gone = await createDatabase();
    const other = await open(gone);
    await admin.query(`drop database ${new URL(gone).pathname.slice(1)} with (force)`);
    await expect.poll(() => other.ping().catch((error: unknown) => error)).toEqual(unavailable);
    await expect(other.audit.list("p", {}, EVERYTHING)).rejects.toEqual(unavailable);
    await expect(other.audit.append([entry("p", "tool_called")])).rejects.toEqual(unavailable);
    await other.close();
  });
});
