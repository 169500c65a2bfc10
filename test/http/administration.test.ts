import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestApp, HOST, type TestApp } from "../helpers/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await createTestApp();
});
afterAll(() => app.stop());

type Body = Record<string, unknown>;
const errorOf = (body: unknown) => (body as { error: Body }).error;
const valueOf = (body: unknown) => (body as { value: Body[] }).value;
const idOf = (body: Body) => String(body["id"]);
const project = "/api/projects/default";

describe("projects", () => {
  test("are made, listed, read and deleted by the operator", async () => {
    const made = await app.send("POST", "/api/projects", {
      body: { name: "alpha", settings: { adhocServers: "deny" } },
    });
    expect(made.status).toBe(201);
    expect(made.body).toMatchObject({
      name: "alpha",
      settings: { adhocServers: "deny", users: { fromBody: true } },
    });
    expect((await app.send("GET", "/api/projects/alpha")).body).toEqual(made.body);
    expect(valueOf((await app.send("GET", "/api/projects")).body).map(({ name }) => name)).toContain("alpha");
    expect((await app.send("POST", "/api/projects", { body: { name: "alpha" } })).status).toBe(409);
    expect((await app.send("DELETE", "/api/projects/alpha")).status).toBe(204);
    expect((await app.send("GET", "/api/projects/alpha")).status).toBe(404);
    expect((await app.send("DELETE", "/api/projects/alpha")).status).toBe(404);
  });

  test("are not for a project's own admin to make, list or delete; the own one can be read", async () => {
    const { key } = await app.makeKey({ roles: ["admin"] });
    expect((await app.send("POST", "/api/projects", { key, body: { name: "mine" } })).status).toBe(403);
    expect((await app.send("GET", "/api/projects", { key })).status).toBe(403);
    expect((await app.send("DELETE", project, { key })).status).toBe(403);
    expect((await app.send("GET", project, { key })).status).toBe(200);
  });

  test.each(["", ".", "..", "a/b", "-x", "a b", "x".repeat(65), "é"])(
    "may not be called %j",
    async (name) => {
      expect((await app.send("POST", "/api/projects", { body: { name } })).status).toBe(400);
    },
  );
});

describe("keys", () => {
  const path = `${project}/keys`;
  const make = (body: Body) => app.send("POST", path, { body });

  test("are shown once, and kept as a hash", async () => {
    const made = await make({ name: "ci", roles: ["runtime"], rights: ["act_for_users"] });
    expect(made.status).toBe(201);
    const { key, id } = made.body as { key: string; id: string };
    expect(key).toMatch(/^csk_[\w-]{43}$/);
    expect((await app.send("GET", `${project}/connections`, { key })).status).toBe(200);
    const listed = await app.send("GET", path);
    expect(listed.text).not.toContain(key);
    expect(valueOf(listed.body).find((row) => row["id"] === id)).toMatchObject({
      name: "ci",
      roles: ["runtime"],
      rights: ["act_for_users"],
      expiresAt: null,
    });
    const stored = (await app.world.store.keys.list("default")).find((row) => row.id === id);
    expect(JSON.stringify(stored)).not.toContain(key);
  });

  test("of one name are one at a time, and a later one of that name is another principal", async () => {
    const first = (await make({ name: "reborn", roles: ["runtime"] })).body as Body;
    expect((await make({ name: "reborn", roles: ["runtime"] })).status).toBe(409);
    expect((await app.send("DELETE", `${path}/${idOf(first)}`)).status).toBe(204);
    const second = (await make({ name: "reborn", roles: ["runtime"] })).body as Body;
    expect(second["principal"]).not.toBe(first["principal"]);
    expect((await app.send("GET", `${project}/connections`, { key: String(first["key"]) })).status).toBe(401);
  });

  test("rotate into a successor of the same principal, and both work for the grace", async () => {
    const old = (await make({ name: "turning", roles: ["runtime"], rights: ["act_for_users"] })).body as Body;
    const rotated = await app.send("POST", `${path}/${idOf(old)}:rotate`, { body: { graceMs: 60_000 } });
    expect(rotated.status).toBe(201);
    const successor = rotated.body as Body;
    expect(successor).toMatchObject({
      name: "turning",
      principal: old["principal"],
      roles: ["runtime"],
      rights: ["act_for_users"],
    });
    const status = async (key: unknown) =>
      (await app.send("GET", `${project}/connections`, { key: String(key) })).status;
    expect([await status(old["key"]), await status(successor["key"])]).toEqual([200, 200]);
    app.advance(60_001);
    expect([await status(old["key"]), await status(successor["key"])]).toEqual([401, 200]);
    expect((await app.send("POST", `${path}/${idOf(old)}:rotate`)).status).toBe(404);
  });

  test("rotate at once with no grace", async () => {
    const old = (await make({ name: "leaked", roles: ["runtime"] })).body as Body;
    expect((await app.send("POST", `${path}/${idOf(old)}:rotate`, { body: { graceMs: 0 } })).status).toBe(
      201,
    );
    expect((await app.send("GET", `${project}/connections`, { key: String(old["key"]) })).status).toBe(401);
  });

  test("end when they were made to, and their successors live as long", async () => {
    const expiresAt = new Date(app.world.clock.now() + 3_600_000).toISOString();
    const made = (await make({ name: "brief", roles: ["runtime"], expiresAt })).body as Body;
    expect(made["expiresAt"]).toBe(expiresAt);
    app.advance(1_800_000);
    const successor = (await app.send("POST", `${path}/${idOf(made)}:rotate`)).body as Body;
    const life = Date.parse(String(successor["expiresAt"])) - app.world.clock.now();
    expect(life).toBeGreaterThan(3_590_000);
    app.advance(1_800_001);
    expect((await app.send("GET", `${project}/connections`, { key: String(made["key"]) })).status).toBe(401);
  });

  test("are named by their name as well as by their id", async () => {
    const first = (await make({ name: "by-name", roles: ["runtime"] })).body as Body;
    const rotated = await app.send("POST", `${path}/by-name:rotate`, { body: { graceMs: 60_000 } });
    expect(rotated.status).toBe(201);
    const successor = rotated.body as Body;
    expect(successor["principal"]).toBe(first["principal"]);
    const status = async (key: Body) =>
      (await app.send("GET", `${project}/connections`, { key: String(key["key"]) })).status;
    // The one that ends last is meant: the successor, while its predecessor still has its grace.
    expect((await app.send("DELETE", `${path}/by-name`)).status).toBe(204);
    expect([await status(first), await status(successor)]).toEqual([200, 401]);
    expect((await app.send("DELETE", `${path}/by-name`)).status).toBe(204);
    expect(await status(first)).toBe(401);
    expect((await app.send("DELETE", `${path}/by-name`)).status).toBe(404);
    const { body } = await app.send("GET", `${project}/audit?event=key_deleted&limit=2`);
    const ids = valueOf(body).map(({ detail }) => (detail as Body)["key"]);
    expect(ids).toEqual([idOf(first), idOf(successor)]);
  });

  test("of one name with two ends: the one that ends later is meant; an id goes before a name", async () => {
    const expiresAt = new Date(app.world.clock.now() + 3_600_000).toISOString();
    const old = (await make({ name: "ending", roles: ["runtime"], expiresAt })).body as Body;
    app.advance(60_000);
    const next = (await app.send("POST", `${path}/${idOf(old)}:rotate`)).body as Body;
    const third = (await app.send("POST", `${path}/ending:rotate`, { body: { graceMs: 0 } })).body as Body;
    expect((await app.send("GET", `${project}/connections`, { key: String(next["key"]) })).status).toBe(401);
    const alike = (await make({ name: idOf(third), roles: ["runtime"] })).body as Body;
    expect((await app.send("DELETE", `${path}/${idOf(third)}`)).status).toBe(204);
    expect((await app.send("GET", `${project}/connections`, { key: String(alike["key"]) })).status).toBe(200);
  });

  test("are not found by the name of another project's key, nor by the bootstrap key's", async () => {
    await app.makeProject("elsewhere");
    await app.makeKey({ project: "elsewhere", name: "foreign", roles: ["runtime"] });
    for (const name of ["foreign", "bootstrap", "key_bootstrap"]) {
      expect((await app.send("DELETE", `${path}/${name}`)).status).toBe(404);
      expect((await app.send("POST", `${path}/${name}:rotate`)).status).toBe(404);
    }
  });

  test("hear of every fault, and need a role or a right", async () => {
    expect((await make({ name: "none" })).status).toBe(400);
    const past = await make({ name: "a b", roles: ["admin"], expiresAt: "2001-01-01T00:00:00Z" });
    expect(errorOf(past.body)["message"]).toMatch(/name: .*expiresAt: must be in the future/);
    for (const graceMs of [-1, 1.5, 1e12]) {
      const answer = await app.send("POST", `${path}/key_x:rotate`, { body: { graceMs } });
      expect(answer.status).toBe(400);
    }
    expect((await app.send("DELETE", `${path}/key_none`)).status).toBe(404);
    expect((await app.send("DELETE", `${path}/nonsense`)).status).toBe(404);
  });

  test("leave their roles and rights in the audit, and never themselves", async () => {
    const made = (await make({ name: "recorded", roles: ["admin", "admin"], rights: ["read_credentials"] }))
      .body as Body;
    const audit = await app.send("GET", `${project}/audit?event=key_created`);
    expect(valueOf(audit.body)[0]).toMatchObject({
      event: "key_created",
      principal: expect.any(String),
      detail: { name: "recorded", roles: "admin", rights: "read_credentials" },
    });
    expect(audit.text).not.toContain(String(made["key"]));
  });
});

describe("users", () => {
  const path = `${project}/users`;

  test("are blocked by name, effective with the next request, and restored", async () => {
    const { key } = await app.makeKey({ roles: ["runtime"], rights: ["act_for_users"] });
    const asAlice = () =>
      app.send("GET", `${project}/connections`, { key, headers: { "x-ms-user-identity": "alice" } });
    expect((await asAlice()).status).toBe(200);
    expect((await app.send("GET", `${path}/alice`)).body).toMatchObject({
      id: "app:alice",
      status: "active",
    });

    const blocked = await app.send("DELETE", `${path}/alice`);
    expect(blocked.status).toBe(200);
    expect(blocked.body).toMatchObject({ id: "app:alice", status: "blocked" });
    const refused = await asAlice();
    expect(refused.status).toBe(403);
    expect(errorOf(refused.body)["message"]).toBe("This user is blocked.");
    expect((await app.send("GET", `${project}/connections`, { key })).status).toBe(200);

    expect((await app.send("POST", `${path}/app%3Aalice:restore`)).body).toMatchObject({ status: "active" });
    expect((await asAlice()).status).toBe(200);
    expect((await app.send("POST", `${path}/alice:restore`)).status).toBe(404);
  });

  test("named by the body are blocked, too", async () => {
    const { key } = await app.makeKey({ roles: ["runtime"], rights: ["act_for_users"] });
    await app.send("DELETE", `${path}/bodily`);
    const answer = await app.send("POST", `${project}/openai/v1/responses`, {
      key,
      body: { input: "hello", safety_identifier: "bodily" },
    });
    expect(answer.status).toBe(403);
  });

  test("who were never seen can be blocked; unknown ones are 404", async () => {
    expect((await app.send("GET", `${path}/ghost`)).status).toBe(404);
    expect((await app.send("DELETE", `${path}/entra%3At1%2Fo1`)).body).toMatchObject({
      id: "entra:t1/o1",
      status: "blocked",
    });
    expect((await app.send("GET", `${path}/entra%3At1%2Fo1`)).status).toBe(200);
  });

  test("are listed in pages, each by its whole id", async () => {
    const seen: unknown[] = [];
    let next: string | undefined = `${path}?limit=1`;
    while (next !== undefined) {
      const { body } = await app.send("GET", next.replace(`https://${HOST}`, ""));
      seen.push(...valueOf(body).map(({ id }) => id));
      next = (body as { nextLink?: string }).nextLink;
    }
    expect(seen).toEqual(expect.arrayContaining(["app:alice", "app:bodily", "entra:t1/o1"]));
    expect(new Set(seen).size).toBe(seen.length);
  });

  test("that cannot be are 400", async () => {
    for (const name of ["%20%00", "1x:y", "a:", "x".repeat(300)]) {
      expect((await app.send("DELETE", `${path}/${name}`)).status).toBe(400);
    }
  });
});

describe("settings", () => {
  const path = `${project}/settings`;
  const defaults = {
    users: { fromBody: true, assertedAs: null },
    defaultRequireApproval: null,
    approvals: { expireAfterMs: 86_400_000 },
    responseRetentionDays: null,
    conversationRetentionDays: null,
    adhocServers: null,
    consentProof: null,
    signIn: null,
    issuers: [],
    models: [],
    consent_presentation: "item+message",
    consent_status: "completed",
    consent_event: false,
  };

  test("change by PATCH, and go back to their defaults by PUT", async () => {
    expect((await app.send("GET", path)).body).toEqual(defaults);
    const patched = await app.send("PATCH", path, {
      body: {
        defaultRequireApproval: { never: { read_only: true } },
        adhocServers: ["mcp.example.com", "a.test:8443"],
      },
    });
    expect(patched.body).toEqual({
      ...defaults,
      defaultRequireApproval: { never: { read_only: true } },
      adhocServers: ["mcp.example.com", "a.test:8443"],
    });
    const put = await app.send("PUT", path, { body: { approvals: { expireAfterMs: 60_000 } } });
    expect(put.body).toEqual({ ...defaults, approvals: { expireAfterMs: 60_000 } });
    expect((await app.send("GET", path)).body).toEqual(put.body);
    await app.send("PUT", path, { body: {} });
  });

  test("of no such name are refused, each by its name", async () => {
    const answer = await app.send("PATCH", path, {
      body: { adhocServer: "allow", users: { frombody: false } },
    });
    expect(answer.status).toBe(400);
    const { details } = errorOf(answer.body) as { details: { target: string }[] };
    expect(details.map((fault) => fault.target).toSorted()).toEqual(["adhocServer", "users.frombody"]);
  });

  test.each([
    [{ approvals: { expireAfterMs: 1 } }, "approvals.expireAfterMs"],
    [{ approvals: { expireAfterMs: "1h" } }, "approvals.expireAfterMs"],
    [{ responseRetentionDays: 0 }, "responseRetentionDays"],
    [{ responseRetentionDays: "30" }, "responseRetentionDays"],
    [{ conversationRetentionDays: 1.5 }, "conversationRetentionDays"],
    [{ adhocServers: "sometimes" }, "adhocServers"],
    [{ adhocServers: ["https://a.example"] }, "adhocServers[0]"],
    [{ adhocServers: ["ok.example", "A.example", "x/y", ""] }, "adhocServers[1]"],
    [{ defaultRequireApproval: "maybe" }, "defaultRequireApproval"],
    [{ users: { fromBody: 1 } }, "users.fromBody"],
    [[], ""],
  ])("%j is refused", async (body, param) => {
    const answer = await app.send("PATCH", path, { body });
    expect(answer.status).toBe(400);
    expect(errorOf(answer.body)["param"] ?? "").toBe(param);
  });

  test("changed by ten at once lose nothing, and the audit says which fields", async () => {
    const fields = [
      { adhocServers: "deny" },
      { users: { fromBody: false } },
      { defaultRequireApproval: "always" },
    ];
    const answers = await Promise.all(
      Array.from({ length: 9 }, (_, at) => app.send("PATCH", path, { body: fields[at % 3] })),
    );
    expect(answers.map(({ status }) => status)).toEqual(Array(9).fill(200));
    expect((await app.send("GET", path)).body).toMatchObject({
      adhocServers: "deny",
      users: { fromBody: false },
      defaultRequireApproval: "always",
    });
    const audit = await app.send("GET", `${project}/audit?event=settings_changed&limit=100`);
    const changed = valueOf(audit.body).map(({ detail }) => (detail as Body)["fields"]);
    expect(changed).toEqual(expect.arrayContaining(["adhocServers", "users", "defaultRequireApproval"]));
    await app.send("PUT", path, { body: {} });
  });

  test("what decides on deletion is in the audit as changed", async () => {
    const path = `${project}/settings`;
    for (const body of [{ responseRetentionDays: 7 }, { conversationRetentionDays: 9 }])
      expect((await app.send("PATCH", path, { body })).status).toBe(200);
    const audit = await app.send("GET", `${project}/audit?event=settings_changed&limit=2`);
    const changed = valueOf(audit.body).map(({ detail }) => (detail as Body)["fields"]);
    expect(changed).toEqual(["conversationRetentionDays", "responseRetentionDays"]);
    await app.send("PUT", path, { body: {} });
  });
});

describe("the audit", () => {
  test("says who did what, under which request, and is filtered by any of it", async () => {
    const headers = { "x-request-id": "trace-42" };
    const body = { properties: { authType: "None", target: "https://mcp.example.com/mcp" } };
    await app.send("PUT", `${project}/connections/audited`, { body, headers });
    await app.send("DELETE", `${project}/connections/audited`);
    const find = async (query: string) => valueOf((await app.send("GET", `${project}/audit?${query}`)).body);

    expect(await find("requestId=trace-42")).toEqual([
      {
        id: expect.stringMatching(/^evt_/),
        at: expect.stringMatching(/^\d{4}-.*Z$/),
        event: "connection_created",
        outcome: "ok",
        principal: expect.any(String),
        user: null,
        connection: "audited",
        tool: null,
        agent: null,
        responseId: null,
        approvalId: null,
        requestId: "trace-42",
        durationMs: null,
        detail: { authType: "none", host: "mcp.example.com" },
      },
    ]);
    expect(await find("connection=audited")).toHaveLength(2);
    expect(await find("connection=audited&event=connection_deleted")).toHaveLength(1);
    expect(await find("connection=audited&outcome=failed")).toHaveLength(0);
    expect(await find("connection=audited&since=2099-01-01T00:00:00Z")).toHaveLength(0);
    expect(await find("connection=audited&until=2099-01-01T00:00:00%2B02:00")).toHaveLength(2);
    await app.send("DELETE", `${project}/users/filtered`);
    expect(await find("user=filtered")).toMatchObject([{ event: "user_blocked", user: "app:filtered" }]);
  });

  test("is paged newest first and skips nothing", async () => {
    await app.makeProject("long");
    for (let n = 0; n < 7; n++) await app.send("DELETE", `/api/projects/long/users/u${n}`);
    const users: unknown[] = [];
    let next: string | undefined = "/api/projects/long/audit?limit=3";
    while (next !== undefined) {
      const { body } = await app.send("GET", next.replace(`https://${HOST}`, ""));
      users.push(...valueOf(body).map(({ user }) => user));
      next = (body as { nextLink?: string }).nextLink;
    }
    expect(users).toEqual(["u6", "u5", "u4", "u3", "u2", "u1", "u0"].map((name) => `app:${name}`));
  });

  test("outlives its project", async () => {
    await app.makeProject("mortal");
    await app.send("DELETE", "/api/projects/mortal");
    const { rows } = await app.world.store.audit.list("mortal", {}, { after: null, limit: 5 });
    expect(rows.map(({ event }) => event)).toEqual(["project_deleted"]);
  });

  test("refuses a filter that cannot be", async () => {
    for (const query of ["event=nonsense", "outcome=maybe", "since=yesterday", "user=", "limit=0"]) {
      expect((await app.send("GET", `${project}/audit?${query}`)).status).toBe(400);
    }
  });
});
