// What docs/azure.md says under Troubleshooting of identities and tokens, reproduced with a fake Entra under the real packages.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type AzureAuthority, refused, startAzureAuthority } from "../helpers/azure-authority.ts";
import { type HttpServer, startHttpServer } from "../helpers/http-server.ts";
import { readPage } from "../helpers/page.ts";
import { connectIn, validateIn, wordsMissing } from "../helpers/validation.ts";
import { createWorld, type TestWorld } from "../helpers/world.ts";

type Body = Record<string, unknown>;

const page = readPage("docs/azure.md");
const base = "/api/projects/default";
const TENANT = "11111111-1111-4111-8111-111111111111";
const OTHER_TENANT = "99999999-1111-4111-8111-111111111111";
const APP = "22222222-2222-4222-8222-222222222222";
const APP_OID = "22222222-0000-4000-8000-000000000000";
const AUDIENCE = "api://contoso-notes";
const SECRET = "the secret of the app";

let folder: string;
let authority: AzureAuthority;
/** Answers whoever brings a token with `status`, and others with 401. */
let gate: HttpServer;
let status: number;
/** Its identities are of its own issuer; those of the other one are of Entra. */
let world: TestWorld;
let atEntra: TestWorld;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "consentry-troubles-"));
  await writeFile(join(folder, "secret"), SECRET);
  authority = await startAzureAuthority();
  authority.trust();
  authority.apps.set(APP, { oid: APP_OID, secret: SECRET, audiences: ["api://broker"] });
  gate = await startHttpServer(({ headers }, response) => {
    response.writeHead(headers.authorization === undefined ? 401 : status).end();
  });
  world = await createWorld({ env: { CONSENTRY_SECRET_SOURCES: `default=file:${join(folder, "lent")}` } });
  atEntra = await createWorld({
    env: { CONSENTRY_AZURE: JSON.stringify(azure([AUDIENCE, "api://ledger"])) },
  });
});
afterAll(async () => {
  for (const each of [world, atEntra, gate, authority]) await each.stop();
  await rm(folder, { recursive: true, force: true });
});
afterEach(() => {
  authority.knobs.answer = () => null;
});

const azure = (audiences: string[]) => ({
  authorityHost: authority.url,
  identities: {
    app: { type: "secret", tenantId: TENANT, clientId: APP, clientSecret: `file:${join(folder, "secret")}` },
  },
  projects: { "*": { identity: "app", onBehalfOf: "app" } },
  targets: audiences.map((audience) => ({ host: gate.url, audience })),
});
const asProject = (audience = AUDIENCE) => ({
  authType: "ProjectManagedIdentity",
  target: `${gate.url}/mcp`,
  audience,
});

const people = {
  type: "entra",
  name: "corp",
  tenants: [TENANT],
  audiences: ["api://broker"],
  roles: [{ claim: "roles", value: "R", roles: ["runtime"] }],
};
const settle = (at: TestWorld, more: Body = {}) =>
  at.rest("PATCH", `${base}/settings`, { issuers: [{ ...people, authority: authority.url, ...more }] });

/** A person's token for the broker. */
const tokenOf = (oid: string, more: Body = {}) =>
  authority.sign(TENANT, {
    aud: "api://broker",
    oid,
    sub: `${oid}-here`,
    scp: "access_as_user",
    roles: ["R"],
    azp: "spa",
    ...more,
  });

describe("(d) the identity lacks a role", () => {
  test("at the server, which knows who it is: of our own issuer, and of Entra", async () => {
    status = 403;
    await connectIn(world, "no-role", asProject());
    const own = await validateIn(world, "no-role");
    expect(own).toMatchObject({
      ok: false,
      cause: "role_missing",
      principal: { subject: "project:default" },
    });
    const words = "knows the project's identity and does not allow it (403)";
    expect(wordsMissing(page, own.message, words)).toEqual([]);

    await connectIn(atEntra, "no-role", asProject());
    const entras = await validateIn(atEntra, "no-role");
    expect(entras).toMatchObject({ cause: "role_missing", principal: { subject: APP_OID, clientId: APP } });
  });

  test("at Entra, which gives no token to whom nobody assigned", async () => {
    authority.knobs.answer = () => refused("invalid_grant", 501051, "canary of ann@contoso.com");
    await connectIn(atEntra, "unassigned", asProject("api://ledger"));
    const found = await validateIn(atEntra, "unassigned");
    expect(found).toMatchObject({ ok: false, cause: "authorization" });
    expect(found.message).toContain("(AADSTS501051)");
    expect(wordsMissing(page, found.message, "Microsoft Entra gives no token (AADSTS")).toEqual([]);
    expect(JSON.stringify(found)).not.toContain("canary");
  });
});

describe("a secret that is kept elsewhere", () => {
  const keyAt = (ref: string) => ({
    authType: "CustomKeys",
    target: `${gate.url}/mcp`,
    credentials: { keys: { Authorization: { ref, prefix: "Bearer " } } },
  });

  test("is not there by now: nothing is sent", async () => {
    const place = join(folder, "lent");
    await writeFile(place, "canary");
    await connectIn(world, "lent", keyAt(`file:${place}`));
    await rm(place);
    const before = gate.requests.length;
    const found = await validateIn(world, "lent");
    expect(found).toMatchObject({ ok: false, cause: "secret_unavailable" });
    expect(JSON.stringify(found)).not.toContain("canary");
    expect(gate.requests.length).toBe(before);
  });

  test("is not lent to this project", async () => {
    const properties = {
      category: "RemoteTool",
      ...keyAt("keyvault:https://team.vault.azure.net/secrets/x"),
    };
    const put = await world.rest("PUT", `${base}/connections/foreign`, { properties });
    expect([put.status, wordsMissing(page, put.body, "is not lent to this project")]).toEqual([400, []]);
  });
});

describe("(f) unauthorized, although the token is good", () => {
  test("by the broker: one sentence for the caller, and the reason in the log", async () => {
    await settle(world, { clients: ["spa"] });
    const list = async (claims: Body) => {
      const authorization = `Bearer ${await tokenOf("ann", claims)}`;
      const answer = await world.rest("GET", `${base}/connections`, undefined, { authorization });
      const logged = world.logs.findLast(({ event }) => event === "token_refused");
      return [answer.status, logged?.fields["reason"]];
    };
    const version1 = (tenant: string) => ({ iss: `https://sts.windows.net/${tenant}/` });
    expect(await list({})).toEqual([200, undefined]);
    expect(await list(version1(TENANT))).toEqual([200, undefined]);
    expect(await list({ aud: APP })).toEqual([401, "audience"]);
    expect(await list(version1(OTHER_TENANT))).toEqual([401, "unknown_issuer"]);
    expect(await list({ tid: OTHER_TENANT })).toEqual([401, "issuer"]);
    expect(await list({ azp: "other" })).toEqual([401, "client"]);
    expect(await list({ exp: 1 })).toEqual([401, "expired"]);
    expect(await list({ oid: undefined })).toEqual([401, "no_subject"]);
  });

  test("by the server: it expects another audience, issuer or version", async () => {
    status = 401;
    await connectIn(atEntra, "misnamed", asProject());
    const found = await validateIn(atEntra, "misnamed");
    const principal = { issuer: `${authority.url}/${TENANT}/v2.0` };
    expect(found).toMatchObject({ ok: false, cause: "token_rejected", principal });
    const words = "does not accept the token (401), although its issuer gave it for the audience";
    expect(wordsMissing(page, found.message, words)).toEqual([]);
    expect(wordsMissing(page, found.hints.at(-1), "requestedAccessTokenVersion")).toEqual([]);
    expect(found.hints.at(-1)).toContain("version 2.0");
    // Our own issuer has no versions.
    await connectIn(world, "misnamed", asProject());
    expect((await validateIn(world, "misnamed")).hints.join()).not.toContain("requestedAccessTokenVersion");
  });
});

describe("what Entra, or its settings, do not give", () => {
  beforeAll(async () => {
    await settle(atEntra);
    const properties = { ...asProject(), authType: "UserEntraToken" };
    await connectIn(atEntra, "as-person", properties);
  });

  test("a token to a host that is not on the list: not written, and not used when the list became shorter", async () => {
    const words = "the operator's list does not name them together.";
    const elsewhere = { category: "RemoteTool", ...asProject("api://elsewhere") };
    const put = await atEntra.rest("PUT", `${base}/connections/unlisted`, { properties: elsewhere });
    expect([put.status, wordsMissing(page, put.body, words)]).toEqual([400, []]);

    await connectIn(atEntra, "delisted", asProject());
    const env = {
      CONSENTRY_AZURE: JSON.stringify(azure([])),
      CONSENTRY_DATABASE_URL: `file:${join(atEntra.folder, "consentry.db")}`,
    };
    const stricter = await createWorld({ env });
    const before = gate.requests.length;
    const found = await validateIn(stricter, "delisted");
    await stricter.stop();
    expect(found).toMatchObject({ ok: false, cause: "authorization" });
    expect(wordsMissing(page, found.message, words)).toEqual([]);
    expect(gate.requests.length).toBe(before);
  });

  test("a person's token to a caller that brought none", async () => {
    const found = await validateIn(atEntra, "as-person", "ann");
    expect(found).toMatchObject({ ok: false, cause: "authorization" });
    const words = "the request brought none: call with the person's token";
    expect(wordsMissing(page, found.message, words)).toEqual([]);
  });

  test("a consent that nobody gave", async () => {
    const user = await tokenOf("ann");
    authority.knobs.answer = () => refused("invalid_grant", 65001, "canary");
    const found = await validateIn(atEntra, "as-person", user);
    expect(found).toMatchObject({ ok: false, cause: "authorization" });
    expect(found.message).toContain("an administrator's consent");
    expect(JSON.stringify(found)).not.toContain(user);
  });

  test("what wants more of the sign-in: a challenge for the person's client", async () => {
    const claims = JSON.stringify({ access_token: { acrs: { essential: true, value: "c1" } } });
    authority.knobs.answer = () => refused("interaction_required", 50076, "canary", { claims });
    const headers = { authorization: `Bearer ${await tokenOf("bob")}` };
    const body = { tools: [{ type: "mcp", server_label: "as-person" }] };
    const answer = await atEntra.rest("POST", `${base}/openai/v1/responses`, body, headers);
    const challenge = answer.headers.get("www-authenticate");
    expect([answer.status, challenge]).toEqual([401, expect.stringContaining("claims=")]);
    expect(wordsMissing(page, challenge, 'Bearer error="insufficient_claims"')).toEqual([]);
  });
});
