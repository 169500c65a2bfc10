import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { UserId } from "../../src/core/ids.ts";
import { connectionAad } from "../../src/core/storage.ts";
import { createTestApp, HOST, type TestApp } from "../helpers/app.ts";
import { type AuthServerKnobs, startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";

type Body = Record<string, unknown>;

let app: TestApp;
let issuer: TestAuthServer;
let server: ProtectedServer;
let described: AuthServerKnobs["metadata"];
beforeAll(async () => {
  app = await createTestApp();
  issuer = await startAuthServer();
  server = await startProtectedServer({ authServer: issuer });
  described = issuer.knobs.metadata;
});
afterAll(async () => {
  await server.stop();
  await issuer.stop();
  await app.stop();
});
beforeEach(() => {
  issuer.knobs.metadata = described;
});

const base = "/api/projects/default/connections";
const arm =
  "/subscriptions/s1/resourceGroups/g1/providers/Microsoft.CognitiveServices/accounts/a1/projects/default/connections";
const put = (name: string, properties: Body, path = base) =>
  app.send("PUT", `${path}/${name}`, { body: { properties } });
const patch = (name: string, properties: Body, path = base) =>
  app.send("PATCH", `${path}/${name}`, { body: { properties } });
const read = async (name: string) => propertiesOf((await app.send("GET", `${base}/${name}`)).body);
const stored = async (name: string) => {
  const record = await app.world.store.connections.get("default", name);
  if (!record) throw new Error(`there is no ${name}`);
  return record;
};
const propertiesOf = (body: unknown) => (body as { properties: Body }).properties;
const faultsOf = (body: unknown) => {
  const { error } = body as { error: { details?: { target: string; message: string }[] } };
  return (error.details ?? []).map(({ target }) => target);
};
const messageOf = (body: unknown) => (body as { error: { message: string } }).error.message;

const SECRET = "s3cret-canary";
const own = (over: Body = {}) => ({
  authType: "OAuth2",
  category: "RemoteTool",
  target: server.url,
  credentials: { clientId: "app-1", clientSecret: SECRET },
  authorizationUrl: `${issuer.issuer}/auth`,
  tokenUrl: `${issuer.issuer}/token`,
  ...over,
});

async function openBox(name: string): Promise<Body> {
  const { connection, sealed } = await stored(name);
  if (!sealed) throw new Error(`${name} has no box`);
  const aad = connectionAad("default", connection.id, connection.version);
  return JSON.parse(await app.world.sealer.open(sealed, aad)) as Body;
}

describe("an app of one's own", () => {
  test("is answered with a stable redirect URL, everything but its secrets, and a type that is never null", async () => {
    const made = await put("orders", own({ scopes: ["offline_access", "orders.read"] }));
    expect(made.status).toBe(200);
    const { redirectUrl } = made.body as Body;
    expect(redirectUrl).toMatch(new RegExp(`^https://${HOST}/oauth/callback/[0-9a-f]{32}$`));
    expect(made.body).toMatchObject({
      credentials: { type: "OAuth2" },
      properties: {
        authType: "OAuth2",
        credentials: { type: "OAuth2" },
        redirectUrl,
        clientId: "app-1",
        clientAuth: "basic",
        authorizationUrl: `${issuer.issuer}/auth`,
        tokenUrl: `${issuer.issuer}/token`,
        refreshUrl: `${issuer.issuer}/token`,
        scopes: ["offline_access", "orders.read"],
        connectorName: null,
        resource: "prm",
        refreshScope: "granted",
        pkce: "strict",
        overrideReason: null,
      },
    });
    for (const path of [`${base}/orders`, base, `${arm}/orders`]) {
      const answer = await app.send("GET", path);
      expect(answer.text).not.toContain(SECRET);
      expect(answer.text).toContain(String(redirectUrl));
    }
    const managed = (await app.send("GET", `${arm}/orders`)).body;
    expect(propertiesOf(managed)["credentials"]).toBeNull();
    await app.send("POST", `${base}/orders/getConnectionWithCredentials`).then(({ text, body }) => {
      expect(text).not.toContain(SECRET);
      expect((body as Body)["credentials"]).toEqual({ type: "OAuth2" });
    });
    expect(await openBox("orders")).toEqual({ clientSecret: SECRET, privateKey: null });
  });

  test("takes the metadata at its token URL's origin, if they name the same endpoints", async () => {
    await put("found", own());
    expect(await read("found")).toMatchObject({ issuer: issuer.issuer });
    const { connection } = await stored("found");
    expect(connection.auth).toMatchObject({
      source: {
        app: { server: { issuerAssumed: false, described: true, sendsIss: true, pkceMethods: ["S256"] } },
      },
    });
    expect((await read("found"))["revocationUrl"]).toBe(`${issuer.issuer}/token/revocation`);
  });

  test("does without metadata that name other endpoints, and then nobody has said the issuer", async () => {
    await put("other", own({ authorizationUrl: `${issuer.issuer}/elsewhere` }));
    expect((await read("other"))["issuer"]).toBeNull();
    expect((await stored("other")).connection.auth).toMatchObject({
      source: { app: { server: { issuer: issuer.issuer, issuerAssumed: true, described: false } } },
    });
  });

  test("with an issuer whose metadata name other endpoints is refused, naming both", async () => {
    const answer = await put("wrong", own({ issuer: issuer.issuer, tokenUrl: `${issuer.issuer}/tokens` }));
    expect(answer.status).toBe(400);
    expect(faultsOf(answer.body)).toEqual(["properties.tokenUrl"]);
    expect(messageOf(answer.body)).toContain(`${issuer.issuer}/tokens`);
    expect(messageOf(answer.body)).toContain(`${issuer.issuer}/token;`);
  });

  test("with an issuer that cannot be read keeps it as it was typed", async () => {
    await put("typed", own({ issuer: "http://127.0.0.1:9/tenant" }));
    expect((await stored("typed")).connection.auth).toMatchObject({
      source: {
        app: { server: { issuer: "http://127.0.0.1:9/tenant", issuerAssumed: false, described: false } },
      },
    });
  });

  test("is not another one because its server is away when it is written again", async () => {
    await put("steady", own());
    issuer.knobs.metadata = () => ({ broken: true });
    const before = (await stored("steady")).connection.generation;
    expect((await put("steady", own())).status).toBe(200);
    expect((await stored("steady")).connection.generation).toBe(before);
  });

  test("proves itself as it is told, under both names, or by what it was given", async () => {
    const authOf = async (properties: Body) => {
      await put("proving", own(properties));
      return (await read("proving"))["clientAuth"];
    };
    expect(await authOf({})).toBe("basic");
    expect(await authOf({ clientAuth: "client_secret_post" })).toBe("post");
    expect(await authOf({ credentials: { clientId: "a" } })).toBe("none");
    const { privateKey } = issuer.clients.privateKeyJwt;
    expect(await authOf({ credentials: { clientId: "a", privateKey } })).toBe("private_key_jwt");
    expect(JSON.stringify(await read("proving"))).not.toContain('"d":');
    expect((await openBox("proving"))["privateKey"]).toEqual(privateKey);
  });

  test("sends its audience with both requests, and shows it once", async () => {
    await put(
      "aud",
      own({ audience: "https://api.example.com", authorizeParams: { access_type: "offline" } }),
    );
    expect(await read("aud")).toMatchObject({
      audience: "https://api.example.com",
      authorizeParams: { access_type: "offline" },
      tokenParams: {},
    });
    const { connection } = await stored("aud");
    expect(connection.auth).toMatchObject({
      source: {
        app: {
          authorizeParams: { access_type: "offline", audience: "https://api.example.com" },
          tokenParams: { audience: "https://api.example.com" },
        },
      },
    });
  });
});

describe("what is wrong", () => {
  test("is told all at once", async () => {
    const answer = await put("x", {
      authType: "OAuth2",
      target: "ftp://x",
      credentials: { clientSecret: "a\nb" },
      authorizationUrl: "javascript:alert(1)",
      tokenUrl: "https://user:pass@auth.example.com/token",
      refreshUrl: "https://auth.example.com/token#part",
      revocationUrl: "https://10.0.0.1/revoke",
      issuer: "data:text/html,x",
      scopes: ["two words"],
      authorizeParams: { state: "x", code_challenge: "x", Client_Assertion_Type: "x", nonce: "fine" },
      provider: "nobody",
      pkce: "assume-S256",
    });
    expect(answer.status).toBe(400);
    expect(new Set(faultsOf(answer.body))).toEqual(
      new Set([
        "name",
        "properties.target",
        "properties.credentials.clientId",
        "properties.credentials.clientSecret",
        "properties.authorizationUrl",
        "properties.tokenUrl",
        "properties.refreshUrl",
        "properties.revocationUrl",
        "properties.issuer",
        "properties.scopes[0]",
        "properties.authorizeParams.state",
        "properties.authorizeParams.code_challenge",
        "properties.authorizeParams.Client_Assertion_Type",
        "properties.provider",
        "properties.overrideReason",
      ]),
    );
    expect(answer.text).not.toContain("a\\nb");
  });

  test.each([
    ["scopes that are a text", { scopes: "orders.read" }, "properties.scopes"],
    ["a replacement without credentials", { credentials: undefined }, "properties.credentials.clientId"],
    [
      "basic without a secret",
      { credentials: { clientId: "a" }, clientAuth: "basic" },
      "properties.credentials.clientSecret",
    ],
    ["none with a secret", { clientAuth: "none" }, "properties.credentials.clientSecret"],
    [
      "a public key",
      { credentials: { clientId: "a", privateKey: { kty: "EC" } } },
      "properties.credentials.privateKey",
    ],
    ["keys of another kind", { credentials: { clientId: "a", keys: { A: "b" } } }, "properties.credentials"],
    ["a resource that is none", { resource: "not a uri", overrideReason: "x" }, "properties.resource"],
    ["a connector beside an app", { connectorName: "github" }, "properties.tokenUrl"],
    ["a misspelt field", { client_auth: "none" }, "properties.client_auth"],
    [
      "a secret without a client",
      { authorizationUrl: null, tokenUrl: null, credentials: { clientSecret: "x" } },
      "properties.credentials.clientSecret",
    ],
  ])("refuses %s", async (_, over, param) => {
    const answer = await put("refused", own(over));
    expect(answer.status).toBe(400);
    expect(faultsOf(answer.body)).toContain(param);
  });

  test("keeps a client's secret out of a connection of another kind", async () => {
    const answer = await put("open", {
      authType: "None",
      target: server.url,
      credentials: { clientSecret: SECRET },
    });
    expect(faultsOf(answer.body)).toEqual(["properties.credentials.clientSecret"]);
    expect(answer.text).not.toContain(SECRET);
  });
});

describe("discovery", () => {
  test("needs nothing but the target, whatever form empty credentials have", async () => {
    for (const credentials of [{}, null, undefined]) {
      const made = await put("bare", {
        authType: "OAuth2",
        target: server.url,
        credentials,
        peRequirement: "NotRequired",
        isSharedToAll: false,
        metadata: { type: "catalog_MCP", toolEntityId: "x" },
      });
      expect(made.status).toBe(200);
    }
    expect((await stored("bare")).connection.auth).toMatchObject({
      source: { kind: "discovery", issuer: null, clientId: null },
    });
    expect((await stored("bare")).sealed).toBeNull();
  });

  test("A7: a client of one's own is pinned to the one authorization server that is there at save", async () => {
    const properties = {
      authType: "OAuth2",
      target: server.url,
      credentials: { clientId: "a", clientSecret: SECRET },
    };
    expect((await put("pinned", properties)).status).toBe(200);
    expect(await read("pinned")).toMatchObject({ issuer: issuer.issuer, clientId: "a", clientAuth: "basic" });
    const two = [issuer.issuer, "https://other.example.com"];
    const { prm } = server.knobs;
    server.knobs.prm = (document) => ({ ...document, authorization_servers: two });
    const several = await put("pinned", properties);
    server.knobs.prm = () => null;
    const none = await put("pinned", properties);
    server.knobs.prm = prm;
    expect(messageOf(several.body)).toContain(two.join(", "));
    expect(faultsOf(several.body)).toEqual(["properties.issuer"]);
    expect(faultsOf(none.body)).toEqual(["properties.issuer"]);
  });
});

describe("an edit", () => {
  test("that sends back what it read changes nothing", async () => {
    const over = { audience: "aud", resource: "omit", overrideReason: "It refuses it.", scopes: ["a"] };
    await put("echoed", own(over));
    const before = await stored("echoed");
    for (const path of [base, arm]) {
      const body = (await app.send("GET", `${path}/echoed`)).body;
      expect((await patch("echoed", propertiesOf(body), path)).status).toBe(200);
    }
    const { connection } = await stored("echoed");
    expect(connection).toEqual({ ...before.connection, version: 3, updatedAt: expect.any(Number) });
    expect(await openBox("echoed")).toEqual({ clientSecret: SECRET, privateKey: null });
  });

  test("of secrets, scopes, parameters and policy is the same place", async () => {
    await put("same", own());
    await patch("same", { credentials: { clientSecret: "new" } });
    await patch("same", { scopes: ["a"], authorizeParams: { a: "b" }, clientAuth: "post", timeoutMs: 500 });
    expect((await stored("same")).connection.generation).toBe(1);
    expect(await openBox("same")).toEqual({ clientSecret: "new", privateKey: null });
  });

  test.each<[string, () => Body]>([
    ["target", () => ({ target: `${server.url}?tenant=2` })],
    ["client", () => ({ credentials: { clientId: "app-2", clientSecret: "b" } })],
    ["authorization endpoint", () => ({ authorizationUrl: `${issuer.issuer}/auth2`, issuer: null })],
    ["refresh endpoint", () => ({ refreshUrl: `${issuer.issuer}/refresh` })],
    ["resource", () => ({ resource: "omit", overrideReason: "It refuses it." })],
    ["way to the app", () => ({ authorizationUrl: null, tokenUrl: null, credentials: { clientId: null } })],
  ])("of the %s is another place, and the redirect URL stays", async (_, change) => {
    await app.send("DELETE", `${base}/moved`);
    await put("moved", own());
    const before = (await stored("moved")).connection;
    const changed = await patch("moved", change());
    expect([changed.status, changed.text]).toEqual([200, expect.any(String)]);
    const { connection } = await stored("moved");
    expect(connection.generation).toBe(before.generation + 1);
    expect(connection.redirectId).toBe(before.redirectId);
  });

  test("may not take a kept secret to another server, nor give it to another client", async () => {
    await put("kept", own());
    const elsewhere = "https://evil.example.com/token";
    for (const change of [
      { tokenUrl: elsewhere, issuer: null },
      { refreshUrl: elsewhere },
      { revocationUrl: elsewhere },
      { issuer: "https://evil.example.com" },
      { credentials: { clientId: "app-2" } },
    ]) {
      const answer = await patch("kept", change);
      expect([change, answer.status, faultsOf(answer.body)]).toEqual([
        change,
        400,
        expect.arrayContaining(["properties.credentials.clientSecret"]),
      ]);
    }
    expect((await patch("kept", { refreshUrl: elsewhere, credentials: { clientSecret: "x" } })).status).toBe(
      200,
    );
  });

  test("keeps its redirect URL when it is deleted and made again, and for no longer than 30 days", async () => {
    const urlOf = async () => ((await app.send("GET", `${base}/again`)).body as Body)["redirectUrl"];
    await put("again", own());
    const first = await urlOf();
    await app.send("DELETE", `${base}/again`);
    await put("again", own());
    expect(await urlOf()).toBe(first);
  });

  test("is audited with its fields, and every override with its reason", async () => {
    await put("told", own());
    await patch("told", { pkce: "assume-S256", resource: "omit", overrideReason: "Entra says neither." });
    const audit = await app.send(
      "GET",
      "/api/projects/default/audit?connection=told&event=connection_changed",
    );
    expect((audit.body as { value: Body[] }).value).toMatchObject([
      {
        detail: {
          fields: "auth",
          secretsChanged: false,
          generation: 2,
          overrides: "resource=omit, pkce=assume-S256",
          overrideReason: "Entra says neither.",
        },
      },
    ]);
    expect(audit.text).not.toContain(SECRET);
  });
});

describe(":validate", () => {
  type Validation = {
    ok: boolean;
    cause: string;
    message: string;
    authorization: Body | null;
    notes: string[];
  };
  const validate = async (name: string, headers: Record<string, string> = {}) =>
    (await app.send("POST", `${base}/${name}:validate`, { headers })).body as Validation;

  test("says how users are authorized, and opens no consent", async () => {
    await put("asked", own());
    const user: UserId = "app:ann";
    const found = await validate("asked", { "x-ms-user-identity": "ann" });
    expect(found).toMatchObject({
      ok: true,
      message: expect.stringContaining("Ready"),
      authorization: {
        issuer: issuer.issuer,
        resource: server.url,
        client: "custom",
        grant: "none",
        overrides: [],
      },
    });
    const { id: connectionId } = (await stored("asked")).connection;
    expect(await app.world.store.consents.since({ project: "default", connectionId, user }, 0)).toEqual([]);
    expect((await validate("asked")).authorization).toMatchObject({ grant: null });
  });

  test("registers what discovery needs, and shows overrides with their reason", async () => {
    await put("discovered", {
      authType: "OAuth2",
      target: server.url,
      refreshScope: "omit",
      overrideReason: "Why not.",
    });
    const found = await validate("discovered");
    expect(found.authorization).toMatchObject({ issuer: issuer.issuer, overrides: ["refreshScope=omit"] });
    expect(found.notes.join(" ")).toContain("Why not.");
  });

  test("names a server that does not say that it knows PKCE", async () => {
    issuer.knobs.metadata = (document) => ({
      ...described(document),
      code_challenge_methods_supported: undefined,
    });
    await put("plain", own());
    const found = await validate("plain");
    expect(found).toMatchObject({ ok: false, cause: "authorization", authorization: null });
    expect(found.message).toContain("assume-S256");
  });
});
