import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { readExchangeSecret } from "../../src/core/administration/settings.ts";
import { createTestApp, HOST, type TestApp } from "../helpers/app.ts";

type Body = Record<string, unknown>;

let app: TestApp;
beforeAll(async () => {
  app = await createTestApp({ egressAllow: "loopback,*.example.com,*.microsoftonline.com" });
});
afterAll(() => app.stop());
beforeEach(() => app.send("PUT", path, { body: {} }));

const path = "/api/projects/default/settings";
const TENANT = "aaaabbbb-2222-4333-8444-555555555555";
const entra = { type: "entra", name: "corp", tenants: [TENANT], audiences: ["api://broker"] };
const oidc = { type: "oidc", name: "acme", issuer: "https://id.example.com", audiences: ["broker"] };
const SECRET = "exchange-canary";
const exchange = { clientId: "broker", clientSecret: SECRET };
const patch = (body: Body) => app.send("PATCH", path, { body });
const set = (...issuers: Body[]) => patch({ issuers });
const secret = async (name = "acme", project = "default") =>
  (await readExchangeSecret(app.world, { name: project }, name)).clientSecret;
const faultsOf = (body: unknown) => {
  const { error } = body as { error: { details?: { target: string; message: string }[] } };
  return (error.details ?? []).map(({ target }) => target);
};

describe("the issuers of a project", () => {
  test("are read back whole, with what is left out as it is then", async () => {
    const answer = await set(entra, { ...oidc, delegated: { claim: "scope", value: "user" } });
    const common = { clients: null, clockSkewSeconds: 60, roles: [], confirmUrl: null, doneUrl: null };
    expect((answer.body as Body)["issuers"]).toEqual([
      { ...entra, ...common, authority: "https://login.microsoftonline.com" },
      {
        ...oidc,
        ...common,
        algorithms: ["RS256", "PS256", "ES256", "EdDSA"],
        delegated: { claim: "scope", value: "user" },
        exchange: null,
      },
    ]);
    expect((await app.send("GET", path)).body).toEqual(answer.body);
    await patch({ adhocServers: "deny" });
    expect(((await app.send("GET", path)).body as Body)["issuers"]).toHaveLength(2);
    expect(((await app.send("PUT", path, { body: {} })).body as Body)["issuers"]).toEqual([]);
  });

  test("are in the audit by the name of the setting", async () => {
    await set(entra);
    const audit = await app.send("GET", "/api/projects/default/audit?event=settings_changed");
    expect((audit.body as { value: { detail: Body }[] }).value[0]?.detail).toMatchObject({
      fields: "issuers",
      secretsChanged: false,
    });
  });

  test("can come with the project, secret and all", async () => {
    const settings = { issuers: [{ ...oidc, exchange }] };
    const made = await app.send("POST", "/api/projects", { body: { name: "born", settings } });
    expect([made.status, made.text.includes(SECRET)]).toEqual([201, false]);
    expect(await secret("acme", "born")).toBe(SECRET);
  });

  test("of a row from before there were any are none", async () => {
    const before = await app.world.store.projects.get("default");
    if (!before) throw new Error("no project");
    const { issuers: _, ...old } = before.settings;
    const settings = old as typeof before.settings; // Seam: as an older version wrote it.
    const { name, version } = before;
    await app.world.store.projects.updateSettings({ name, version, settings, sealed: null }, []);
    expect(((await app.send("GET", path)).body as Body)["issuers"]).toEqual([]);
  });

  test.each([
    ["issuers[0].type", [{ ...oidc, type: "saml" }]],
    ["issuers[0].audience", [{ ...oidc, audience: "x" }]],
    ["issuers[0].audiences", [{ ...oidc, audiences: [] }]],
    ["issuers[0].audiences", [{ ...entra, audiences: undefined }]],
    ["issuers[0].name", [{ ...oidc, name: "entra" }]],
    ["issuers[0].name", [{ ...oidc, name: "A" }]],
    ["issuers[1].name", [oidc, { ...oidc, issuer: "https://other.example.com" }]],
    ["issuers[1].issuer", [oidc, { ...oidc, name: "other" }]],
    ["issuers[1].tenants", [entra, { ...entra, name: "other" }]],
    ["issuers[1].tenants", [entra, { ...entra, name: "other", tenants: [TENANT.toUpperCase()] }]],
    ["issuers[0].tenants", [{ ...entra, tenants: [] }]],
    ["issuers[0].tenants[1]", [{ ...entra, tenants: [TENANT, "common"] }]],
    ["issuers[0].authority", [{ ...entra, authority: "https://login.microsoftonline.com/" }]],
    ["issuers[0].authority", [{ ...entra, authority: "http://login.microsoftonline.com" }]],
    ["issuers[0].authority", [{ ...entra, authority: `https://${HOST}` }]],
    ["issuers[0].issuer", [{ ...oidc, issuer: `https://${HOST}/dev/identity` }]],
    ["issuers[0].issuer", [{ ...oidc, issuer: `https://${HOST}` }]],
    ["issuers[0].issuer", [{ ...oidc, issuer: "http://id.example.com" }]],
    ["issuers[0].issuer", [{ ...oidc, issuer: "https://169.254.169.254" }]],
    ["issuers[0].issuer", [{ ...oidc, issuer: "https://id.example.com/?tenant=a" }]],
    ["issuers[0].issuer", [{ ...oidc, issuer: `https://login.microsoftonline.com/${TENANT}/v2.0` }]],
    ["issuers[0].issuer", [{ ...oidc, issuer: `https://sts.windows.net/${TENANT}/` }]],
    ["issuers[0].algorithms[0]", [{ ...oidc, algorithms: ["HS256"] }]],
    ["issuers[0].algorithms[0]", [{ ...oidc, algorithms: ["none"] }]],
    ["issuers[0].algorithms", [{ ...oidc, algorithms: [] }]],
    ["issuers[0].algorithms", [{ ...entra, algorithms: ["RS256"] }]],
    ["issuers[0].clockSkewSeconds", [{ ...oidc, clockSkewSeconds: 301 }]],
    ["issuers[0].clients", [{ ...oidc, clients: [] }]],
    ["issuers[0].delegated.claim", [{ ...oidc, delegated: { claim: "" } }]],
    ["issuers[0].roles[0].roles[0]", [{ ...oidc, roles: [{ claim: "a", value: "b", roles: ["owner"] }] }]],
    ["issuers[0].roles[0].roles", [{ ...oidc, roles: [{ claim: "a", value: "b" }] }]],
    ["issuers[0].roles[0].right", [{ ...oidc, roles: [{ claim: "a", value: "b", right: [] }] }]],
    ["issuers[0].confirmUrl", [{ ...oidc, confirmUrl: "https://app.example.com/?consent_code=x" }]],
    ["issuers[0].exchange.clientId", [{ ...oidc, exchange: { clientId: "" } }]],
    ["issuers[0].exchange.secret", [{ ...oidc, exchange: { clientId: "x", secret: "y" } }]],
    [
      "issuers[0].exchange.tokenEndpoint",
      [{ ...oidc, exchange: { ...exchange, tokenEndpoint: "http://x.y" } }],
    ],
    ["issuers", Array.from({ length: 21 }, (_, at) => ({ ...oidc, name: `i${at}` }))],
  ])("are refused for %s", async (param, issuers) => {
    const answer = await patch({ issuers });
    expect([answer.status, faultsOf(answer.body)]).toEqual([400, expect.arrayContaining([param])]);
  });

  test("are told all their faults at once", async () => {
    const answer = await set({ ...entra, name: "X", audiences: [] }, { ...oidc, clockSkewSeconds: -1 });
    expect(faultsOf(answer.body)).toEqual([
      "issuers[0].name",
      "issuers[0].audiences",
      "issuers[1].clockSkewSeconds",
    ]);
  });

  test("have the name that the sign-in has for the same issuer, whichever comes second", async () => {
    const signIn = { name: "acme", issuer: oidc.issuer, clientId: "c" };
    expect((await patch({ signIn, issuers: [oidc] })).status).toBe(200);
    expect(faultsOf((await set({ ...oidc, name: "other" })).body)).toEqual(["issuers[0].name"]);
    const renamed = await patch({ signIn: { ...signIn, name: "other" } });
    expect(faultsOf(renamed.body)).toEqual(["issuers[0].name"]);
    const moved = await patch({ signIn: { ...signIn, issuer: "https://other.example.com" } });
    expect(faultsOf(moved.body)).toEqual(["issuers[0].name"]);
    const tenant = { ...signIn, name: "corp", issuer: `https://login.microsoftonline.com/${TENANT}/v2.0` };
    expect((await patch({ signIn: tenant, issuers: [entra] })).status).toBe(200);
  });

  test("may be what asserted names mean, by name or issuer, and then stay", async () => {
    for (const issuer of ["acme", oidc.issuer]) {
      const answer = await patch({ issuers: [oidc], users: { assertedAs: { issuer, claim: "email" } } });
      expect(answer.status).toBe(200);
    }
    expect(faultsOf((await set()).body)).toEqual(["users.assertedAs.issuer"]);
    const mutable = { issuers: [oidc], users: { assertedAs: { issuer: "acme", claim: "upn" } } };
    expect(faultsOf((await patch(mutable)).body)).toEqual(["users.assertedAs.claim"]);
  });
});

describe("the secret of an exchange", () => {
  test("is never read back, and stays through every other change", async () => {
    const made = await set({ ...oidc, exchange });
    expect([made.status, made.text.includes(SECRET)]).toEqual([200, false]);
    await patch({ adhocServers: "deny" });
    await set(entra, { ...oidc, audiences: ["other"], exchange: { clientId: "broker" } });
    expect(await secret()).toBe(SECRET);
    const box = await app.world.store.projects.secrets("default");
    expect(Buffer.from(box?.sealed ?? []).includes(SECRET)).toBe(false);
    const read = await app.send("GET", path);
    const audit = await app.send("GET", "/api/projects/default/audit?event=settings_changed");
    expect(read.text + audit.text + JSON.stringify(app.logs)).not.toContain(SECRET);
  });

  test("goes to no other issuer, client or endpoint, and to no other entry by its name", async () => {
    for (const other of [
      { issuer: "https://evil.example.com", exchange: { clientId: "broker" } },
      { exchange: { clientId: "other" } },
      { exchange: { clientId: "broker", tokenEndpoint: "https://id.example.com/another/token" } },
    ]) {
      await set({ ...oidc, exchange });
      const answer = await set({ ...oidc, ...other });
      expect(faultsOf(answer.body)).toEqual(["issuers[0].exchange.clientSecret"]);
      expect(await secret()).toBe(SECRET);
    }
    const replaced = await app.send("PUT", path, {
      body: { issuers: [{ ...oidc, exchange: { clientId: "broker" } }] },
    });
    expect(faultsOf(replaced.body)).toEqual(["issuers[0].exchange.clientSecret"]);
    await set({ ...oidc, name: "constructor", exchange: { clientId: "broker" } });
    expect([await secret(), await secret("constructor")]).toEqual([null, null]);
  });

  test("people's tokens are sent to their own issuer and to nobody else's endpoint", async () => {
    const tokenEndpoint = "https://evil.example.com/token";
    const answer = await set({ ...oidc, exchange: { ...exchange, tokenEndpoint } });
    expect(faultsOf(answer.body)).toEqual(["issuers[0].exchange.tokenEndpoint"]);
  });

  test("changed by ten at once is sealed for the version that it ends at", async () => {
    await set({ ...oidc, exchange });
    const hosts = Array.from({ length: 10 }, (_, at) => `h${at}.example.com`);
    const answers = await Promise.all(hosts.map((host) => patch({ adhocServers: [host] })));
    expect(answers.map(({ status }) => status)).toEqual(hosts.map(() => 200));
    expect(await secret()).toBe(SECRET);
  });

  test("is given up with null, with its exchange and with its entry", async () => {
    for (const without of [[{ ...oidc, exchange: { ...exchange, clientSecret: null } }], [oidc], []]) {
      await set({ ...oidc, exchange });
      expect((await set(...without)).status).toBe(200);
      expect(await secret()).toBeNull();
      expect((await app.world.store.projects.secrets("default"))?.sealed).toBeNull();
    }
  });

  test("is kept beside that of the sign-in", async () => {
    const signIn = { name: "acme", issuer: oidc.issuer, clientId: "c", clientSecret: "sign-in-canary" };
    await patch({ signIn, issuers: [{ ...oidc, exchange }] });
    await patch({ signIn: null });
    expect(await secret()).toBe(SECRET);
  });
});
