// `first-version.json` holds the rows of a database that the first version wrote through its store, before there was a second migration.
// What they say is read by this version as it was meant.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Id, IdPrefix } from "../../src/core/ids.ts";
import { DEFAULT_SETTINGS } from "../../src/core/project.ts";
import type { Store } from "../../src/core/storage.ts";
import { firstMigrations } from "./migration-folders.ts";
import { type RawDatabase, rawEngines, type RawRow } from "./raw-databases.ts";
import { anAuthServer, bigBox, EVERYTHING, viewerOf } from "./things.ts";

const folders = mkdtempSync(join(tmpdir(), "consentry-first-"));
afterAll(() => rmSync(folders, { recursive: true }));

const AT = 1_763_700_000_000;
const bytes = (...values: number[]) => new Uint8Array(values);
const the = <P extends IdPrefix>(prefix: P, digit: string): Id<P> => `${prefix}_${digit.repeat(50)}`;
const ann = "app:ann" as const;
const github = the("conn", "1");

describe.for(rawEngines)("what the first version wrote, on $name", ({ skip, folder, fresh }) => {
  let database: RawDatabase | undefined;
  let store: Store;
  beforeAll(async () => {
    if (skip) return;
    database = await fresh();
    await database.migrate(firstMigrations(folder, 1, folders));
    await write(database);
    await database.migrate(folder);
    store = await database.open(folder);
  });
  afterAll(async () => {
    if (!database) return;
    await store.close();
    await database.close();
  });

  test.skipIf(skip)("projects, with settings that came later at their defaults", async () => {
    expect(await store.projects.get("acme")).toEqual({
      name: "acme",
      settings: {
        ...DEFAULT_SETTINGS,
        signIn: { name: "corp", issuer: "https://id.example", clientId: "c1" },
        approvals: { expireAfterMs: 5_000 },
        adhocServers: ["*.example.com"],
      },
      version: 2,
      createdAt: AT,
    });
    expect(await store.projects.secrets("acme")).toEqual({ version: 2, sealed: bytes(1, 1, 2, 3, 5, 8) });
    const { rows } = await store.projects.list(EVERYTHING);
    expect(rows.map(({ name, settings }) => ({ name, issuers: settings.issuers }))).toEqual([
      { name: "acme", issuers: [] },
      { name: "other", issuers: [] },
    ]);
  });

  test.skipIf(skip)("keys and users", async () => {
    const key = { hash: "a".repeat(64), project: "acme", user: ann };
    expect(await store.keys.authenticate(key)).toMatchObject({
      key: {
        id: the("key", "1"),
        roles: ["runtime"],
        rights: ["act_for_users"],
        expiresAt: AT + 90_000_000_000,
        confirmUrl: "https://app.example/confirm",
      },
      project: { name: "acme", settings: { models: [] } },
      userBlocked: false,
    });
    expect(await store.keys.getBootstrap()).toMatchObject({ project: null, hash: "f".repeat(64) });
    const { rows } = await store.users.list("acme", EVERYTHING);
    expect(rows.map(({ id, status }) => [id, status])).toEqual([
      [ann, "active"],
      ["corp:Grüße 🙂", "active"],
    ]);
  });

  test.skipIf(skip)(
    "connections with their boxes, connectors, redirects, registrations and pins",
    async () => {
      expect(await store.connections.get("acme", "github")).toMatchObject({
        sealed: bytes(1, 2, 3),
        connection: {
          id: github,
          auth: { kind: "key", headerNames: ["authorization"] },
          requireApproval: { never: { readOnly: true } },
          metadata: { b: "2", a: "1" },
          isDefault: false,
        },
      });
      expect(await store.connections.find("acme", the("conn", "2"))).toMatchObject({
        sealed: null,
        connection: { name: "wiki", auth: { kind: "none" }, approvers: "role", trustAnnotations: true },
      });
      expect(await store.connectors.get("hub")).toMatchObject({
        sealed: bytes(6),
        connector: { app: { clientId: "client-1", server: anAuthServer }, scopes: ["repo"] },
      });
      expect(await store.redirects.owner("7".repeat(32), AT)).toEqual({ kind: "connector", name: "hub" });
      expect(await store.redirects.owner("9".repeat(32), AT)).toMatchObject({
        project: "acme",
        name: "wiki",
      });
      expect(await store.registrations.get("acme", github, anAuthServer.issuer)).toMatchObject({
        id: the("reg", "1"),
        server: anAuthServer,
        scopesSupported: ["b", "a"],
        sealed: bytes(4, 4),
      });
      const pins = { project: "acme", connectionId: github, place: "https://mcp.example/mcp" };
      expect(await store.toolPins.list(pins)).toEqual([
        { tool: "create_issue", pinned: "1".repeat(64), seen: "3".repeat(64), seenAt: AT + 5 },
        { tool: "odd\u0000 tool 🙂", pinned: "2".repeat(64), seen: "2".repeat(64), seenAt: AT },
      ]);
    },
  );

  test.skipIf(skip)("agents, which share an identity, and their versions", async () => {
    const latest = { version: 2, description: null, definition: { kind: "prompt", model: "gpt-6" } };
    const agent = { state: "disabled", identity: "shared", createdAt: AT, latest };
    expect(await store.agents.get("acme", "helper")).toMatchObject(agent);
    expect(await store.agents.getVersion("acme", "helper", 1)).toMatchObject({
      metadata: { team: "a" },
      definition: { instructions: "Sei nett 🙂" },
    });
  });

  test.skipIf(skip)("responses and their items, which can be gone on with", async () => {
    const viewer = viewerOf({ user: ann });
    const first = await store.responses.get("acme", the("resp", "1"), viewer);
    expect(first).toMatchObject({
      response: { status: "completed", metadata: { z: "1", a: "2" }, usage: { outputTokens: 2 } },
      threadId: the("thrd", "1"),
      end: 2,
      sealedToolSecrets: bytes(4, 2),
    });
    const items = await store.responses.items("acme", the("thrd", "1"), 0, 2);
    expect(items.map(({ position, sealed }) => [position, sealed.length])).toEqual([
      [0, 1],
      [1, 310_000],
    ]);
    expect(Buffer.compare(items[1]?.sealed ?? bytes(), bigBox(310_000))).toBe(0);
    expect(await store.responses.lastOf("acme", the("thrd", "1"), 3, viewer)).toMatchObject({
      response: { id: the("resp", "2"), error: { message: "U+0000: \u0000" }, completedAt: null },
    });
    if (!first) throw new Error("there is no response");
    const next = {
      ...first,
      response: { ...first.response, id: the("resp", "3") },
      inputFrom: 3,
      outputFrom: 4,
      end: 4,
    };
    const rows = [{ position: 3, id: the("msg", "3"), sealed: bytes(1) }];
    expect(await store.responses.append(next, rows, [])).toBe(true);
  });

  test.skipIf(skip)("held calls, of which one can still be decided", async () => {
    const done = await store.heldCalls.get("acme", the("mcpr", "2"));
    expect(done).toMatchObject({
      status: "done",
      connection: null,
      agent: null,
      decidedBy: "key:approver",
      sealedReason: bytes(8),
      sealedOutcome: bytes(7, 7),
    });
    const pending = { project: "acme", id: the("mcpr", "1"), approve: true, decidedBy: "key:x" };
    expect(await store.heldCalls.decide({ ...pending, sealedReason: null, now: AT + 1 }, [])).toMatchObject({
      connection: { name: "github", id: github, generation: 1, version: 1 },
      agent: { name: "helper", version: 3 },
      sealed: bytes(9, 9),
      status: "approved",
    });
  });

  test.skipIf(skip)("grants with their tokens, consents and sessions", async () => {
    const key = { project: "acme", connectionId: github, user: ann };
    const grant = await store.grants.get(key);
    expect(grant).toMatchObject({
      id: the("grant", "1"),
      status: "active",
      scopes: ["repo", "read:user"],
      version: 1_000,
      expiresAt: AT + 3_600_000,
      lastUsedBy: "helper",
    });
    expect(Buffer.compare(grant?.sealed ?? bytes(), bigBox(301_000))).toBe(0);
    expect(await store.consents.find(the("oauthreq", "1"))).toMatchObject({
      status: "connected",
      newScopes: ["repo"],
      shownAt: AT + 1,
      provenBy: "sign-in",
    });
    expect(await store.consents.find(the("oauthreq", "2"))).toMatchObject({
      status: "open",
      user: "corp:Grüße 🙂",
      doneUrl: "https://app.example/done",
    });
    const session = { kind: "me_session", hash: "c".repeat(64), browserHash: "browser", now: AT } as const;
    expect(await store.handles.take(session)).toMatchObject({ subject: ann, sealed: bytes(3, 1) });
  });

  test.skipIf(skip)("the audit", async () => {
    const { rows } = await store.audit.list("acme", {}, EVERYTHING);
    expect(rows.map(({ event, at }) => [event, at])).toEqual([
      ["call_held", AT + 2],
      ["settings_changed", AT + 1],
      ["project_created", AT],
    ]);
    expect(rows[0]).toMatchObject({ user: ann, tool: "create_issue", detail: { arguments: "d".repeat(64) } });
  });
});

type Kept = string | number | null | { bytes: string } | { big: [number, number] };

/** What it keeps in SQLite, as the engine takes it. Boxes of many bytes are told by where they are in `bigBox`. */
async function write(database: RawDatabase): Promise<void> {
  const path = join(import.meta.dirname, "first-version.json");
  // Seam: the file is ours.
  const tables = JSON.parse(readFileSync(path, "utf8")) as Record<string, Record<string, Kept>[]>;
  const columns = await database.columns();
  const references = await database.references();
  const typeOf = (table: string, name: string) =>
    columns.find((column) => column.table === table && column.name === name)?.type;
  const written = new Set<string>();
  while (written.size < Object.keys(tables).length) {
    for (const [table, rows] of Object.entries(tables)) {
      const waits = references.some((to) => to.table === table && !written.has(to.ofTable));
      if (written.has(table) || waits) continue;
      await database.insert(
        table,
        rows.map((row) => {
          const values = Object.entries(row).map(([name, kept]) => [
            name,
            valueOf(kept, typeOf(table, name)),
          ]);
          return Object.fromEntries(values) as RawRow;
        }),
      );
      written.add(table);
    }
  }
}

function valueOf(kept: Kept, type: string | undefined): unknown {
  if (type === "boolean") return kept === 1;
  if (typeof kept !== "object" || kept === null) return kept;
  return "bytes" in kept
    ? Uint8Array.from(Buffer.from(kept.bytes, "base64"))
    : bigBox(kept.big[1]).slice(kept.big[0]);
}
