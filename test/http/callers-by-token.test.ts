import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Right, Role } from "../../src/core/identity.ts";
import { createTestApp, type Sending, type TestApp } from "../helpers/app.ts";
import { type AzureAuthority, startAzureAuthority } from "../helpers/azure-authority.ts";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import { startTokenIssuer, type TokenIssuer } from "../helpers/token-issuer.ts";

type Body = Record<string, unknown>;

let app: TestApp;
let server: ModernServer;
let issuer: TokenIssuer;
let authority: AzureAuthority;
beforeAll(async () => {
  [server, issuer, authority] = await Promise.all([
    startModernServer(),
    startTokenIssuer(),
    startAzureAuthority(),
  ]);
  authority.trust();
});
afterAll(() => Promise.all([server.stop(), issuer.stop(), authority.stop()]));
beforeEach(async () => {
  app = await createTestApp();
  await app.makeProject("other");
  await app.send("PUT", `${project}/connections/tools`, {
    body: { properties: { authType: "None", target: server.url } },
  });
  await settle();
});
afterEach(async () => {
  issuer.knobs.status = null;
  await app.stop();
});

const project = "/api/projects/default";
const TENANT = "11111111-2222-4333-8444-555555555555";
const OTHER_TENANT = "99999999-2222-4333-8444-555555555555";
const HEADER = "x-ms-user-identity";
const rule = (value: string, roles: Role[], rights: Right[] = []) => ({
  claim: "roles",
  value,
  roles,
  rights,
});
const ROLES = [rule("Runtime", ["runtime"]), rule("Admin", ["admin"]), rule("Act", [], ["act_for_users"])];
const oidc = () => ({
  type: "oidc",
  name: "acme",
  issuer: issuer.issuer,
  audiences: ["broker"],
  delegated: { claim: "scope", value: "user" },
  roles: ROLES,
});
const entra = () => ({
  type: "entra",
  name: "corp",
  tenants: [TENANT],
  authority: authority.url,
  audiences: ["api://broker"],
  roles: ROLES,
});

async function settle(more: Body = {}, at = project): Promise<void> {
  const answer = await app.send("PATCH", `${at}/settings`, { body: { issuers: [oidc(), entra()], ...more } });
  if (answer.status !== 200) throw new Error(answer.text);
}

const ann = (more: Body = {}) =>
  issuer.sign({ sub: "ann", scope: "openid user", azp: "spa", roles: ["Runtime"], ...more });
const service = (more: Body = {}) => issuer.sign({ sub: "svc", azp: "batch", roles: ["Runtime"], ...more });
const entraUser = (more: Body = {}) =>
  authority.sign(TENANT, {
    aud: "api://broker",
    oid: "o1",
    scp: "access",
    roles: ["Runtime"],
    azp: "app1",
    ...more,
  });

const list = (key: string, sending: Sending = {}, path = `${project}/connections`) =>
  app.send("GET", path, { ...sending, key });

const explicit = {
  type: "mcp_call",
  id: "mcp_c1",
  server_label: "tools",
  name: "echo",
  arguments: '{"text":"hi"}',
  status: "calling",
};

/** A tool call, and under whom the audit puts it. */
async function call(
  key: string,
  { headers = {}, body = {} }: { headers?: Record<string, string>; body?: Body } = {},
) {
  const requestId = `act-${crypto.randomUUID()}`;
  const answer = await app.send("POST", `${project}/openai/v1/responses`, {
    key,
    headers: { ...headers, "x-request-id": requestId },
    body: {
      tools: [{ type: "mcp", server_label: "tools", require_approval: "never" }],
      input: [explicit],
      ...body,
    },
  });
  const audit = await app.send("GET", `${project}/audit?requestId=${requestId}&event=tool_called`);
  const [entry] = (audit.body as { value: { user: string | null; principal: string }[] }).value;
  return { status: answer.status, code: codeOf(answer.body), user: entry?.user, principal: entry?.principal };
}

const codeOf = (body: unknown) => (body as { error?: Body }).error?.["code"];
const refusals = () => app.logs.filter(({ event }) => event === "token_refused").map(({ fields }) => fields);

describe("a person's token", () => {
  test("is the person: caller, user and owner of what is made", async () => {
    expect(await call(await ann())).toMatchObject({
      status: 200,
      user: "acme:ann",
      principal: "user:acme:ann",
    });
    const user = `entra:${TENANT}/o1`;
    expect(await call(await entraUser())).toMatchObject({ status: 200, user, principal: `user:${user}` });
  });

  test("of Entra is the same person in both versions, and of no other tenant", async () => {
    const v1 = { iss: `https://sts.windows.net/${TENANT}/`, ver: "1.0", appid: "app1", azp: undefined };
    expect(await call(await entraUser(v1))).toMatchObject({ status: 200, user: `entra:${TENANT}/o1` });
    const tokens = [
      authority.sign(OTHER_TENANT, { aud: "api://broker", oid: "o1", scp: "access", roles: ["Runtime"] }),
      entraUser({ tid: OTHER_TENANT }),
      entraUser({ tid: undefined }),
      entraUser({ tid: OTHER_TENANT, scp: undefined, idtyp: "app" }),
      entraUser({ iss: `https://login.microsoftonline.com/${TENANT}/v2.0` }),
    ];
    for (const token of tokens) expect((await list(await token)).status).toBe(401);
  });

  test("without a claim that names it is nobody's", async () => {
    for (const token of [
      ann({ sub: undefined }),
      ann({ sub: "" }),
      ann({ sub: "a\u202eb" }),
      entraUser({ oid: undefined }),
    ])
      expect((await list(await token)).status).toBe(401);
    expect(refusals().map(({ reason }) => reason)).toEqual(Array(4).fill("no_subject"));
  });

  test("needs a mapped role like everybody", async () => {
    expect((await list(await ann({ roles: [] }))).status).toBe(403);
    expect((await list(await ann({ roles: ["Admin"] }))).status).toBe(200);
    expect((await app.send("GET", `${project}/settings`, { key: await ann() })).status).toBe(403);
    expect(
      (await app.send("GET", `${project}/settings`, { key: await ann({ roles: ["Admin"] }) })).status,
    ).toBe(200);
  });

  test("hears where its roles come from when it lacks one; a key does not", async () => {
    const none = await list(await ann({ roles: [] }));
    expect(none.text).toContain(
      "needs role admin or runtime. Its token is given no role by the project's setting issuers",
    );
    expect(none.text).toContain(`see roles of the entry for ${issuer.issuer}.`);
    const less = await app.send("GET", `${project}/settings`, { key: await ann() });
    expect(less.text).toContain("needs role admin. Its token is given only runtime");
    const { key } = await app.makeKey({ roles: ["runtime"] });
    const byKey = await app.send("GET", `${project}/settings`, { key });
    expect(byKey.body).toMatchObject({
      error: { message: "The caller may not do this: it needs role admin." },
    });
  });

  test("is for itself, whatever the body says, and the header needs the right", async () => {
    const token = await ann();
    for (const body of [{ user: "bob" }, { safety_identifier: "bob" }])
      expect(await call(token, { body })).toMatchObject({ status: 200, user: "acme:ann" });
    expect(await call(token, { headers: { [HEADER]: "bob" } })).toMatchObject({
      status: 403,
      code: "user_assertion_forbidden",
    });
  });

  test("with the right may name somebody else", async () => {
    const token = await ann({ roles: ["Runtime", "Act"] });
    const principal = "user:acme:ann";
    expect(await call(token)).toMatchObject({ user: "acme:ann", principal });
    expect(await call(token, { headers: { [HEADER]: "bob" } })).toMatchObject({ user: "app:bob", principal });
    expect(await call(token, { body: { user: "bob" } })).toMatchObject({ user: "app:bob", principal });
    await app.world.store.users.block({ project: "default", id: "app:bob", at: 1 }, []);
    expect(await call(token, { body: { user: "bob" } })).toMatchObject({ status: 403, code: "user_blocked" });
    expect(await call(token, { headers: { [HEADER]: "bob" } })).toMatchObject({
      status: 403,
      code: "user_blocked",
    });
  });

  test("is the user that callers name, where the setting says so", async () => {
    for (const named of ["acme", issuer.issuer]) {
      await settle({ users: { assertedAs: { issuer: named, claim: "email" } } });
      const email = "ann@example.com";
      expect(await call(await ann({ email, email_verified: true }))).toMatchObject({ user: `app:${email}` });
      expect((await list(await ann({ email }))).status).toBe(401);
      expect((await list(await ann({ email, email_verified: "true" }))).status).toBe(401);
    }
    await settle({ users: { assertedAs: { issuer: `${authority.url}/${TENANT}/v2.0`, claim: "oid" } } });
    expect(await call(await entraUser())).toMatchObject({ user: "app:o1" });
    expect(await call(await ann())).toMatchObject({ user: "acme:ann" });
  });

  test("of somebody blocked is refused from the next call on, in this project alone", async () => {
    await settle({}, "/api/projects/other");
    for (const [token, id] of [
      [await ann(), "acme:ann"],
      [await entraUser(), `entra:${TENANT}/o1`],
    ] as const) {
      expect((await list(token)).status).toBe(200);
      const path = `${project}/users/${encodeURIComponent(id)}`;
      expect((await app.send("DELETE", path)).status).toBe(200);
      const refused = await list(token);
      expect([refused.status, refused.text]).toEqual([403, expect.stringContaining("blocked")]);
      expect((await list(token, {}, "/api/projects/other/connections")).status).toBe(200);
      await app.send("POST", `${path}:restore`);
      expect((await list(token)).status).toBe(200);
    }
  });

  test("seen before costs one read", async () => {
    const { projects, users, keys } = app.world.store;
    const token = await ann();
    await list(token);
    const reads: string[] = [];
    const counted = { ...app.world.store };
    counted.projects = {
      ...projects,
      admission: (query) => (reads.push("admission"), projects.admission(query)),
    };
    counted.users = { ...users, get: (...query) => (reads.push("user"), users.get(...query)) };
    counted.keys = { ...keys, authenticate: (query) => (reads.push("key"), keys.authenticate(query)) };
    app.world.store = counted;
    expect((await list(token)).status).toBe(200);
    expect(reads).toEqual(["admission"]);
  });
});

describe("an application's token", () => {
  test("is the application: by its client, and without a user", async () => {
    expect(await call(await service())).toMatchObject({
      status: 200,
      user: null,
      principal: "client:acme:batch",
    });
    const app2 = { scp: undefined, idtyp: "app", azp: "svc-1" };
    expect(await call(await entraUser(app2))).toMatchObject({ user: null, principal: "client:corp:svc-1" });
  });

  test("is what a token is in doubt", async () => {
    const doubtful = [
      ann({ scope: "openid users" }),
      ann({ scope: { user: true } }),
      entraUser({ idtyp: "app", azp: "spa" }),
      entraUser({ idtyp: ["app"], azp: "spa" }),
      entraUser({ scp: "", azp: "spa" }),
    ];
    for (const token of doubtful)
      expect(await call(await token)).toMatchObject({
        user: null,
        principal: expect.stringMatching(/^client:\w+:spa$/),
      });
  });

  test("of Entra names its application: one without is somebody's sign-in, which no block would reach", async () => {
    const idToken = { scp: undefined, azp: undefined, sub: "ann-here", nonce: "n" };
    expect((await list(await entraUser(idToken))).status).toBe(401);
    expect(refusals().map(({ reason }) => reason)).toEqual(["no_subject"]);
  });

  test("known by its subject alone is never one that is known by its client", async () => {
    const token = await issuer.sign({ sub: "batch", roles: ["Runtime"] });
    expect(await call(token)).toMatchObject({ principal: "subject:acme:batch" });
  });

  test("names users by the mapped right, as keys do", async () => {
    const token = await service({ roles: ["Runtime", "Act"] });
    const principal = "client:acme:batch";
    expect(await call(token, { headers: { [HEADER]: "bob" } })).toMatchObject({ user: "app:bob", principal });
    expect(await call(token, { body: { user: "bob" } })).toMatchObject({ user: "app:bob", principal });
    expect(await call(await service(), { headers: { [HEADER]: "bob" } })).toMatchObject({ status: 403 });
  });

  test("is held to the clients that the issuer's entry names", async () => {
    await settle({ issuers: [{ ...oidc(), clients: ["batch"] }] });
    expect((await list(await service())).status).toBe(200);
    const others = [{ azp: "x" }, { azp: undefined }, { client_id: "x" }, { azp: undefined, appid: "x" }];
    for (const other of others) expect((await list(await service(other))).status).toBe(401);
    expect((await list(await service({ azp: undefined, client_id: "batch" }))).status).toBe(200);
  });

  test("with too many groups says so once, and is given nothing by them", async () => {
    const roles = [{ claim: "groups", value: "g1", roles: ["runtime"] }];
    await settle({ issuers: [{ ...entra(), roles }] });
    expect((await list(await entraUser({ groups: ["g1"] }))).status).toBe(200);
    const left = {
      _claim_names: { groups: "src1" },
      _claim_sources: { src1: { endpoint: "https://evil.example" } },
    };
    for (let n = 0; n < 3; n++) {
      const refused = await list(await entraUser(left));
      expect([refused.status, refused.text]).toEqual([403, expect.stringContaining("map app roles instead")]);
    }
    const warned = app.logs.filter(({ event }) => event === "groups_overage");
    expect(warned.map(({ level, fields }) => [level, fields])).toEqual([
      ["warn", { project: "default", issuer: "corp" }],
    ]);
  });
});

describe("which project", () => {
  test("has limits of its own: a name that another project's issuer gives spends none of them", async () => {
    await app.stop();
    app = await createTestApp({ rateLimits: { perCaller: 2, perAddress: 0 } });
    await app.makeProject("other");
    for (const name of ["default", "other"]) {
      const { key } = await app.makeKey({ project: name, roles: ["admin"] });
      const path = `/api/projects/${name}`;
      await app.send("PATCH", `${path}/settings`, { key, body: { issuers: [oidc()] } });
    }
    const [mine, same] = [await ann(), await ann({ jti: "2" })];
    for (let n = 0; n < 3; n++) await list(same, {}, "/api/projects/other/connections");
    expect((await list(same, {}, "/api/projects/other/connections")).status).toBe(429);
    expect((await list(mine)).status).toBe(200);
  });

  test("is the route's, and its own issuers decide", async () => {
    const token = await ann();
    expect((await list(token, {}, "/api/projects/other/connections")).status).toBe(401);
    expect((await list(token, {}, "/api/projects/nowhere/connections")).status).toBe(401);
    await settle({}, "/api/projects/other");
    expect((await list(token, {}, "/api/projects/other/connections")).status).toBe(200);
  });

  test("is under /v1 the header's, else the default", async () => {
    const at = (headers: Record<string, string>) =>
      app.send("GET", "/v1/responses/resp_none", { key, headers }).then(({ status }) => status);
    const key = await ann();
    expect(await at({})).toBe(404);
    expect(await at({ "openai-project": "other" })).toBe(401);
    await settle({}, "/api/projects/other");
    await app.send("PATCH", `${project}/settings`, { body: { issuers: [] } });
    expect(await at({ "openai-project": "other" })).toBe(404);
    expect(await at({})).toBe(401);
  });

  test("is none on an operator's route: tokens are refused there", async () => {
    const key = await ann({ roles: ["Runtime", "Admin", "Act"] });
    for (const route of app.routes) {
      if (route.access !== "operator") continue;
      const answer = await app.send(route.method, route.path.replace("{project}", "default"), {
        key,
        body: {},
      });
      expect([route.path, answer.status]).toEqual([route.path, 401]);
    }
  });

  test("that no longer has the issuer no longer knows its tokens", async () => {
    const token = await ann();
    expect((await list(token)).status).toBe(200);
    await app.send("PATCH", `${project}/settings`, { body: { issuers: [entra()] } });
    expect((await list(token)).status).toBe(401);
  });
});

describe("a token and a key", () => {
  test("are never tried as one another", async () => {
    const token = await ann();
    const hash = await app.world.crypto.sha256(token);
    const { caller } = await app.makeKey({ roles: ["runtime"] });
    const stored = await app.world.store.keys.get("default", caller.keyId ?? "key_none");
    if (!stored) throw new Error("no key");
    await app.world.store.keys.insert({ ...stored, id: app.world.newId("key"), name: "twin", hash }, []);
    await app.send("PATCH", `${project}/settings`, { body: { issuers: [] } });
    expect((await list(token)).status).toBe(401);
    await settle();
    expect(
      (await app.send("GET", `${project}/connections`, { key: null, headers: { "api-key": token } })).status,
    ).toBe(401);
  });

  test("without the issuer's keys nobody knows: 503, not 401, and not a stranger's fault", async () => {
    const fresh = await startTokenIssuer();
    await settle({ issuers: [{ ...oidc(), issuer: fresh.issuer }] });
    fresh.knobs.status = 500;
    const token = await fresh.sign({ sub: "x", azp: "y", roles: ["Runtime"] });
    const answer = await list(token);
    expect([answer.status, answer.text.includes(fresh.issuer)]).toEqual([503, false]);
    fresh.knobs.status = null;
    app.advance(10_000);
    expect((await list(token)).status).toBe(200);
    await fresh.stop();
  });

  test("that are worth nothing make a stranger, who is told to wait", async () => {
    await app.stop();
    app = await createTestApp({ rateLimits: { perCaller: 0, perAddress: 3 } });
    await settle();
    const bad = await ann({ aud: "somebody else" });
    const statuses = [];
    for (let n = 0; n < 5; n++) statuses.push((await list(bad)).status);
    expect(statuses).toEqual([401, 401, 401, 429, 429]);
    expect((await list(await ann())).status).toBe(200);
  });

  test("that are refused are in the log by issuer and reason, and by nothing else of themselves", async () => {
    const tokens = [
      await ann({ aud: "other", sub: "canary-sub", jti: "canary-jti" }),
      await issuer.sign({ iss: "https://unknown.example", sub: "canary-sub" }),
      await issuer.sign({ iss: app.world.publicUrl, token_use: "workload" }),
      await issuer.sign({ iss: `${app.world.publicUrl}/dev/identity` }),
    ];
    for (const token of tokens) await list(token);
    expect(refusals()).toEqual([
      { project: "default", issuer: "acme", reason: "audience" },
      { project: "default", issuer: "https://unknown.example", reason: "unknown_issuer" },
      { project: "default", issuer: null, reason: "own_issuer" },
      { project: "default", issuer: null, reason: "own_issuer" },
    ]);
    const logged = JSON.stringify(app.logs);
    expect(logged).not.toContain("canary");
    for (const token of tokens) expect(logged).not.toContain(token.split(".")[2]);
  });

  test("of one of our own identities make nobody a caller", async () => {
    app.world.entra = {
      describe: async () => null,
      token: () => Promise.reject(new Error("not asked")),
      onBehalfOf: () => Promise.reject(new Error("not asked")),
      targetFault: () => null,
      isOurs: ({ oid }) => oid === "ours",
    };
    expect((await list(await entraUser({ oid: "ours" }))).status).toBe(401);
    expect((await list(await entraUser())).status).toBe(200);
    expect(refusals()).toEqual([{ project: "default", issuer: "corp", reason: "own_identity" }]);
  });
});

describe("a user's token in x-ms-user-identity", () => {
  const runtime = async (rights: Right[] = []) => (await app.makeKey({ roles: ["runtime"], rights })).key;
  const pass = (token: string) => ({ headers: { [HEADER]: token } });

  test("is the user, and needs no right", async () => {
    const key = await runtime();
    expect(await call(key, pass(await ann()))).toMatchObject({ status: 200, user: "acme:ann" });
    expect(await call(key, pass(`Bearer ${await entraUser()}`))).toMatchObject({
      user: `entra:${TENANT}/o1`,
    });
    expect(await call(await service(), pass(await ann()))).toMatchObject({
      user: "acme:ann",
      principal: "client:acme:batch",
    });
    // What the person may do is nobody else's to use: the caller needs its own role.
    const weak = (await app.makeKey({ rights: ["read_credentials"] })).key;
    expect((await list(weak, { headers: { [HEADER]: await ann() } })).status).toBe(403);
  });

  test("is never a name, whatever is wrong with it", async () => {
    const key = await runtime(["act_for_users"]);
    const good = await ann();
    const [head = "", body = ""] = good.split(".");
    for (const wrong of [
      await ann({ aud: "other" }),
      await ann({ exp: 1 }),
      await ann({ scope: "openid" }),
      await service(),
      await ann({ iss: "https://evil.example" }),
      `${good}x`,
      `${head}.${body}`,
      `${head}.`,
      `${head}.a.b.c.d`,
      "Bearer nonsense",
      "Bearer",
      `Bearer ${good}, Bearer ${good}`,
      "bearer a, b",
      `Bearer ${head}`,
      await ann({ more: "x".repeat(17_000) }),
    ]) {
      const answer = await call(key, pass(wrong));
      expect([wrong.slice(0, 20), answer.status, answer.code]).toEqual([
        wrong.slice(0, 20),
        400,
        "user_assertion_invalid",
      ]);
    }
    const { rows } = await app.world.store.users.list("default", { after: null, limit: 100 });
    expect(rows).toEqual([]);
  });

  test("that is an application's is refused, and the log says so", async () => {
    expect(await call(await runtime(), pass(await ann({ scope: "reports" })))).toMatchObject({
      status: 400,
      code: "user_assertion_invalid",
    });
    expect(refusals()).toMatchObject([{ issuer: "acme", reason: "not_a_person" }]);
  });

  test("of an issuer that nobody named is told to the log by its name, cut short", async () => {
    const iss = `https://unknown.example/${"x".repeat(500)}`;
    const body = Buffer.from(JSON.stringify({ iss })).toString("base64url");
    const [head = "", , signature = ""] = (await ann()).split(".");
    expect(await call(await runtime(), pass(`${head}.${body}.${signature}`))).toMatchObject({ status: 400 });
    expect(refusals()).toMatchObject([{ reason: "unknown_issuer", issuer: iss.slice(0, 200) }]);
  });

  test("of another project's issuer is nobody's here", async () => {
    await settle({ issuers: [] });
    await settle({}, "/api/projects/other");
    expect(await call(await runtime(), pass(await ann()))).toMatchObject({ code: "user_assertion_invalid" });
  });

  test("of another person than the caller is a conflict", async () => {
    const token = await ann();
    expect(await call(token, pass(await ann({ jti: "2" })))).toMatchObject({ status: 200, user: "acme:ann" });
    expect(await call(token, pass(await ann({ sub: "bob" })))).toMatchObject({
      status: 400,
      code: "user_conflict",
    });
  });

  test("goes with a name in the body only where that means the same", async () => {
    const token = await ann();
    const body = { user: "bob" };
    expect(await call(await runtime(), { ...pass(token), body })).toMatchObject({
      status: 200,
      user: "acme:ann",
    });
    const naming = await runtime(["act_for_users"]);
    expect(await call(naming, { ...pass(token), body })).toMatchObject({
      status: 400,
      code: "user_conflict",
    });
    await settle({ users: { assertedAs: { issuer: "acme", claim: "sub" } } });
    expect(await call(naming, { ...pass(token), body })).toMatchObject({
      status: 400,
      code: "user_conflict",
    });
    expect(await call(naming, { ...pass(token), body: { user: "ann" } })).toMatchObject({ user: "app:ann" });
  });

  test("of somebody blocked is refused, the first time as well as later", async () => {
    const key = await runtime();
    await app.world.store.users.block({ project: "default", id: "acme:ann", at: 1 }, []);
    for (let n = 0; n < 2; n++)
      expect(await call(key, pass(await ann()))).toMatchObject({ status: 403, code: "user_blocked" });
    const token = await ann({ sub: "bob" });
    expect(await call(key, pass(token))).toMatchObject({ status: 200 });
    await app.world.store.users.block({ project: "default", id: "acme:bob", at: 1 }, []);
    expect(await call(key, pass(token))).toMatchObject({ status: 403, code: "user_blocked" });
  });
});

describe("somebody else's approval", () => {
  test("is not given by the very person whom the call is for", async () => {
    const approver = rule("Approver", ["approver", "runtime"]);
    await settle({ issuers: [{ ...oidc(), roles: [...ROLES, approver] }] });
    const path = `${project}/connections/tools`;
    const properties = { authType: "None", target: server.url, approvers: "role", requireApproval: "always" };
    await app.send("PUT", path, { body: { properties } });
    const { key } = await app.makeKey({ roles: ["runtime"] });
    const both = ["Runtime", "Approver", "Act"];
    const mine = await ann({ roles: both });
    const asked = await app.send("POST", `${project}/openai/v1/responses`, {
      key,
      headers: { [HEADER]: mine },
      body: { tools: [{ type: "mcp", server_label: "tools" }], input: [explicit] },
    });
    const { output } = asked.body as { output: { type: string; id: string }[] };
    const id = output.find(({ type }) => type === "mcp_approval_request")?.id ?? "";
    const decide = (token: string, headers: Record<string, string> = {}) =>
      app.send("POST", `${project}/approvals/${id}:decide`, { key: token, headers, body: { approve: true } });
    expect((await decide(mine)).status).toBe(403);
    // Nor in another's name, nor by another caller that speaks for the person.
    expect((await decide(mine, { [HEADER]: "bob" })).status).toBe(403);
    const speaker = (await app.makeKey({ roles: ["approver"] })).key;
    expect((await decide(speaker, { [HEADER]: mine })).status).toBe(403);
    expect((await decide(await ann({ sub: "bob", roles: both }))).status).toBe(200);
  });
});
