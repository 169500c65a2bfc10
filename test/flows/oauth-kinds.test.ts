// Every way to an authorization server, from outside: the first call asks, the person allows, calls run as them, and go on
// after the token has ended.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { getCACertificates, setDefaultCACertificates } from "node:tls";
import type OpenAI from "openai";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { headingOf } from "../../demo/browser.ts";
import { type AuthServerOptions, startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { allow, beginAuthorization, consentsOf, linkOf, person, visit } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { type Answer, call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

const HOUR = 60 * 60_000;

let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;
let ann: OpenAI;
let stops: (() => Promise<void>)[];

async function setUp(options: AuthServerOptions = {}, env: Record<string, string> = {}): Promise<void> {
  authServer = await startAuthServer(options);
  server = await startProtectedServer({ authServer });
  world = await createWorld({ env });
  stops = [world.stop, server.stop, authServer.stop];
}
const tearDown = async () => {
  for (const stop of stops) await stop();
};
const runtime = async (project = "default") =>
  world.runtime({ user: "ann", rights: ["act_for_users"], project });

const tools = (label: string) => [
  { type: "mcp" as const, server_label: label, require_approval: "never" as const },
];
const whoami = (client: OpenAI, label: string) =>
  client.responses.create({ tools: tools(label), input: [call(label, "whoami", {})] });
const outputsOf = (response: Parameters<typeof itemsOf>[0]) =>
  itemsOf(response, "mcp_call").map(({ output }) => output);

/** An app of one's own at the authorization server. */
const typed = (client: TestAuthServer["clients"]["basic"]) => ({
  authType: "OAuth2",
  target: server.url,
  credentials: {
    clientId: client.clientId,
    ...(client.clientSecret !== null && { clientSecret: client.clientSecret }),
    ...(client.privateKey !== null && { privateKey: client.privateKey }),
  },
  clientAuth: client.auth,
  authorizationUrl: `${authServer.issuer}/auth`,
  tokenUrl: `${authServer.issuer}/token`,
  scopes: ["read"],
});
const settingsOf = (answer: Answer) => answer.body["properties"] as unknown as Record<string, unknown>;

/** Makes a connection, and registers its redirect URL with the clients that the authorization server knows. */
async function connection(name: string, properties: Record<string, unknown>, project?: string) {
  const made = await world.connect(name, properties, project);
  expect([made.status, made.body]).toEqual([200, expect.objectContaining({ name })]);
  authServer.addRedirectUris(String(made.body["redirectUrl"]));
  return made;
}

/** Asked, allowed, called, the token ended, called again: as the person, and nobody was asked twice. */
async function goesThrough(label: string, client = ann): Promise<void> {
  const page = await allow(person(authServer, "ann@provider"), linkOf(await whoami(client, label)));
  expect(headingOf(page)).toContain("Connected");
  expect(outputsOf(await whoami(client, label))).toEqual(["ann@provider"]);
  const before = authServer.countTokenRequests("refresh_token");
  world.advance(2 * HOUR);
  const again = await whoami(client, label);
  expect(consentsOf(again)).toEqual([]);
  expect(outputsOf(again)).toEqual(["ann@provider"]);
  expect(authServer.countTokenRequests("refresh_token")).toBe(before + 1);
}

describe("an app of one's own", () => {
  beforeAll(async () => {
    await setUp({ registration: "off" });
    ann = await runtime();
  });
  afterAll(tearDown);
  afterEach(() => {
    authServer.knobs.metadata = (document) => document;
  });

  test.each(["basic", "post", "public", "privateKeyJwt"] as const)("%s", async (kind) => {
    await connection(`own-${kind}`, typed(authServer.clients[kind]));
    await goesThrough(`own-${kind}`);
    const sent = authServer.tokenRequests.slice(-2);
    const { clientId, clientSecret } = authServer.clients[kind];
    const shown = sent.map(({ params, headers }) => ({
      header: headers.authorization?.split(" ")[0],
      id: params.get("client_id"),
      secret: params.get("client_secret"),
      assertion: params.get("client_assertion")?.split(".").length,
    }));
    const nothing = { header: undefined, id: clientId, secret: null, assertion: undefined };
    const proof = {
      basic: { ...nothing, header: "Basic", id: null },
      post: { ...nothing, secret: clientSecret },
      public: nothing,
      privateKeyJwt: { ...nothing, assertion: 3 },
    }[kind];
    expect(shown).toEqual([proof, proof]);
  });

  test("whose issuer is given", async () => {
    const made = await connection("given", {
      ...typed(authServer.clients.post),
      issuer: authServer.issuer,
    });
    expect(settingsOf(made)["issuer"]).toBe(authServer.issuer);
    await goesThrough("given");
  });

  test("whose issuer is found at its token URL's origin: a callback without iss is then refused", async () => {
    const made = await connection("found", typed(authServer.clients.post));
    expect(settingsOf(made)["issuer"]).toBe(authServer.issuer);
    const { cookie, authorizationUrl } = await beginAuthorization(linkOf(await whoami(ann, "found")));
    const callback = await authServer.authorize(authorizationUrl.href, "ann");
    callback.searchParams.delete("iss");
    expect((await visit(callback, cookie)).text).not.toContain("Connected");
    await goesThrough("found");
  });

  test("whose issuer nobody knows: iss may be missing, and may not be another's", async () => {
    authServer.knobs.metadata = () => ({ issuer: "https://elsewhere.example" });
    const made = await connection("unknown", typed(authServer.clients.post));
    expect(settingsOf(made)["issuer"]).toBeNull();
    const begin = async () => {
      const underway = await beginAuthorization(linkOf(await whoami(ann, "unknown")));
      return { ...underway, callback: await authServer.authorize(underway.authorizationUrl.href, "ann") };
    };
    const strange = await begin();
    strange.callback.searchParams.set("iss", "https://elsewhere.example");
    expect((await visit(strange.callback, strange.cookie)).text).not.toContain("Connected");
    const silent = await begin();
    silent.callback.searchParams.delete("iss");
    expect((await visit(silent.callback, silent.cookie)).text).toContain("Connected");
    expect(outputsOf(await whoami(ann, "unknown"))).toEqual(["ann"]);
  });

  test("sends its parameters and its audience along, and refreshes where it is told to", async () => {
    const { issuer } = authServer;
    await connection("params", {
      ...typed(authServer.clients.post),
      refreshUrl: `${issuer}/token?for=refresh`,
      authorizeParams: { access_type: "offline", color: "a b&c" },
      tokenParams: { tenant: "t 1" },
      audience: "https://api.example",
    });
    const { authorizationUrl } = await beginAuthorization(linkOf(await whoami(ann, "params")));
    expect(Object.fromEntries(authorizationUrl.searchParams)).toMatchObject({
      access_type: "offline",
      color: "a b&c",
      audience: "https://api.example",
      resource: server.url,
    });
    world.advance(11 * 60_000);
    await goesThrough("params");
    const [exchange, refresh] = authServer.tokenRequests.slice(-2);
    for (const request of [exchange, refresh]) {
      expect(Object.fromEntries(request?.params ?? [])).toMatchObject({
        tenant: "t 1",
        audience: "https://api.example",
        resource: server.url,
      });
      expect(request?.params.has("access_type")).toBe(false);
    }
  });

  test("its redirect URL is used byte for byte, and stays over PATCH, PUT, and deletion", async () => {
    const properties = typed(authServer.clients.post);
    const made = await connection("stable", properties);
    const redirectUrl = String(made.body["redirectUrl"]);
    expect(redirectUrl).toMatch(new RegExp(`^${world.url}/oauth/callback/[0-9a-f]{32}$`));
    const path = "/api/projects/default/connections/stable";
    const patched = await world.rest("PATCH", path, { properties: { scopes: ["read"] } });
    const replaced = await world.connect("stable", { ...properties, tokenParams: { a: "b" } });
    expect((await world.rest("DELETE", path)).status).toBe(204);
    const anew = await world.connect("stable", properties);
    const said = [patched, replaced, anew].map(({ body }) => String(body["redirectUrl"]));
    expect(said).toEqual([redirectUrl, redirectUrl, redirectUrl]);
    const { authorizationUrl } = await beginAuthorization(linkOf(await whoami(ann, "stable")));
    expect(authorizationUrl.searchParams.get("redirect_uri")).toBe(redirectUrl);
    world.advance(11 * 60_000);
    await goesThrough("stable");
    const exchange = authServer.tokenRequests.findLast(({ grantType }) => grantType === "authorization_code");
    expect(exchange?.params.get("redirect_uri")).toBe(redirectUrl);
    const other = await connection("stable2", properties);
    expect(other.body["redirectUrl"]).not.toBe(redirectUrl);
  });
});

describe("a connector", () => {
  beforeAll(async () => {
    await setUp({ registration: "off" });
    const { target: _, credentials, authType: _kind, ...app } = typed(authServer.clients.post);
    const connector = { ...app, ...credentials, targets: [new URL(server.url).host] };
    const made = await world.rest("PUT", "/api/connectors/shared", connector);
    authServer.addRedirectUris(String(made.body["redirectUrl"]));
    for (const name of ["one", "two"]) await world.rest("POST", "/api/projects", { name });
  });
  afterAll(tearDown);
  const use = (project: string, target = server.url) =>
    world.connect("shared", { authType: "OAuth2", target, connectorName: "shared" }, project);

  test("serves two projects, whose users are asked by each", async () => {
    const [one, two] = [await use("one"), await use("two")];
    expect(one.body["redirectUrl"]).toBe(two.body["redirectUrl"]);
    await goesThrough("shared", await runtime("one"));
    const other = await runtime("two");
    expect(consentsOf(await whoami(other, "shared"))).toHaveLength(1);
    await goesThrough("shared", other);
  });

  test("sends its tokens to its targets alone, and its app is not to be had", async () => {
    const elsewhere = await use("one", server.url.replace("127.0.0.1", "localhost"));
    expect(elsewhere.status).toBe(400);
    expect(JSON.stringify(elsewhere.body)).toContain("properties.target");
    const shown = await world.rest("GET", "/api/projects/one/connections/shared");
    const text = JSON.stringify([shown.body, (await world.rest("GET", "/api/connectors/shared")).body]);
    expect(text).not.toContain(authServer.clients.post.clientSecret);
  });

  test("a target that its operator takes back is not used again, though the grant is there", async () => {
    await use("one");
    const client = await world.runtime({ user: "dan", rights: ["act_for_users"], project: "one" });
    await allow(person(authServer, "dan"), linkOf(await whoami(client, "shared")));
    expect(outputsOf(await whoami(client, "shared"))).toEqual(["dan"]);
    const seen = server.requests.length;
    await world.rest("PATCH", "/api/connectors/shared", { targets: ["elsewhere.example"] });
    const refused = await whoami(client, "shared");
    expect(itemsOf(refused, "mcp_call")).toMatchObject([{ status: "failed" }]);
    expect(server.requests).toHaveLength(seen);
  });
});

describe("discovery", () => {
  afterEach(tearDown);
  const found = { authType: "OAuth2", credentials: {} };

  test("registers a client, once", async () => {
    await setUp();
    ann = await runtime();
    const made = await world.connect("notes", { ...found, target: server.url });
    await goesThrough("notes");
    const bob = await world.runtime({ user: "bob", rights: ["act_for_users"] });
    await allow(person(authServer, "bob"), linkOf(await whoami(bob, "notes")));
    expect(authServer.registrations).toMatchObject([{ redirect_uris: [made.body["redirectUrl"]] }]);
  });

  test("is the client that our metadata document describes, over https, and registers nothing", async () => {
    const system = getCACertificates("default");
    try {
      await setUp({ metadataDocuments: "on" }, { CONSENTRY_TLS: "development" });
      setDefaultCACertificates([...system, await readFile(join(world.folder, "dev-ca.pem"), "utf8")]);
      ann = await runtime();
      const made = await world.connect("notes", { ...found, target: server.url });
      const redirectUrl = String(made.body["redirectUrl"]);
      expect(redirectUrl).toMatch(/^https:\/\/127\.0\.0\.1:\d+\/oauth\/callback\/[0-9a-f]{32}$/);
      await goesThrough("notes");
      expect(authServer.registrations).toEqual([]);
      const documentUrl = redirectUrl.replace("/oauth/callback/", "/oauth/client/");
      const shown = authServer.tokenRequests.map(({ params }) => params.get("client_id"));
      expect(shown).toEqual([documentUrl, documentUrl]);
      const { text, headers } = await visit(documentUrl);
      expect(headers.get("content-type")).toContain("application/json");
      expect(JSON.parse(text)).toMatchObject({ client_id: documentUrl, redirect_uris: [redirectUrl] });
    } finally {
      setDefaultCACertificates(system);
    }
  });
});

describe("a client of one's own at a server that registers none", () => {
  afterEach(tearDown);

  test("as at Entra: silent about PKCE, refusing `resource`: what differs is set, with a reason", async () => {
    authServer = await startAuthServer({ registration: "off", resources: [] });
    server = await startProtectedServer({ authServer });
    world = await createWorld();
    stops = [world.stop, server.stop, authServer.stop];
    server.knobs.audience = null;
    authServer.knobs.metadata = (document) => ({
      ...document,
      code_challenge_methods_supported: undefined,
    });
    ann = await runtime();
    const { clientId, clientSecret } = authServer.clients.post;
    const own = {
      authType: "OAuth2",
      target: server.url,
      credentials: { clientId, clientSecret },
      clientAuth: "post",
      scopes: ["openid"],
    };
    await connection("entra", own);
    const refused = await whoami(ann, "entra");
    expect(itemsOf(refused, "mcp_call")).toMatchObject([
      { status: "failed", error: { message: expect.stringContaining("assume-S256") } },
    ]);
    const unexplained = await world.connect("entra", { ...own, pkce: "assume-S256", resource: "omit" });
    expect(unexplained.status).toBe(400);
    expect(JSON.stringify(unexplained.body)).toContain("overrideReason");

    const differs = { pkce: "assume-S256", resource: "omit", overrideReason: "as its documents say" };
    for (const refreshScope of ["granted", "omit"] as const) {
      const made = await world.connect("entra", { ...own, ...differs, refreshScope });
      expect(settingsOf(made)["issuer"]).toBe(authServer.issuer);
      const { authorizationUrl } = await beginAuthorization(linkOf(await whoami(ann, "entra")));
      expect(authorizationUrl.searchParams.has("resource")).toBe(false);
      expect(authorizationUrl.searchParams.get("code_challenge_method")).toBe("S256");
      world.advance(11 * 60_000);
      await goesThrough("entra");
      const [exchange, refresh] = authServer.tokenRequests.slice(-2);
      expect(refresh?.params.get("scope")).toBe(refreshScope === "granted" ? "openid" : null);
      expect([exchange, refresh].map((request) => request?.params.has("resource"))).toEqual([false, false]);
      await world.rest("DELETE", "/api/projects/default/connections/entra/grants/ann");
    }
  });
});

describe("what is asked for", () => {
  beforeEach(async () => {
    await setUp();
    ann = await runtime();
  });
  afterEach(tearDown);

  const asked = async (name: string, more: Record<string, unknown> = {}) => {
    await world.connect(name, { authType: "OAuth2", credentials: {}, target: server.url, ...more });
    const { authorizationUrl } = await beginAuthorization(linkOf(await whoami(ann, name)));
    return authorizationUrl.searchParams.get("scope");
  };
  const listing = (scopes: string[] | undefined) => {
    authServer.knobs.metadata = (document) => ({ ...document, scopes_supported: scopes });
  };

  test("typed scopes go before the challenge's, and these before the metadata's", async () => {
    listing(["read", "write"]);
    server.knobs.challengeScope = "read";
    expect(await asked("typed", { scopes: ["write", "extra"] })).toBe("write extra");
    expect(await asked("challenged")).toBe("read");
    server.knobs.challengeScope = null;
    expect(await asked("described")).toBe("read write");
    server.knobs.prm = (document) => ({ ...document, scopes_supported: undefined });
    expect(await asked("nothing")).toBeNull();
  });

  test("offline_access is added where the authorization server lists it, and nowhere else", async () => {
    listing(["read", "offline_access"]);
    expect(await asked("listed")).toBe("read offline_access");
    listing(undefined);
    expect(await asked("unlisted")).toBe("read");
    listing(["offline_access"]);
    expect(await asked("typed", { scopes: ["read"] })).toBe("read");
  });
});
