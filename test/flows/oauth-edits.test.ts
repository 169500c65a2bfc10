// What an edit of a connection does to what people have allowed: it stays as long as it is for the same thing.
import type OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { headingOf } from "../../demo/browser.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import {
  allow,
  audited,
  beginAuthorization,
  consentsOf,
  linkOf,
  person,
  submit,
  visit,
} from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;
let elsewhere: ProtectedServer;
let ann: OpenAI;
let bob: OpenAI;
let name = "";
let made = 0;

beforeAll(async () => {
  authServer = await startAuthServer();
  [server, elsewhere] = await Promise.all([
    startProtectedServer({ authServer }),
    startProtectedServer({ authServer }),
  ]);
  world = await createWorld({ env: { CONSENTRY_AUDIT: "sync" } });
  ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
  bob = await world.runtime({ user: "bob", rights: ["act_for_users"] });
});
afterAll(async () => {
  await world.stop();
  await Promise.all([server.stop(), elsewhere.stop()]);
  await authServer.stop();
});

/** A connection of its own for every test, with an account of ann's. */
beforeEach(async () => {
  name = `orders-${++made}`;
  const { body } = await world.connect(name, own());
  authServer.addRedirectUris(String(body["redirectUrl"]));
  const page = await allow(person(authServer, "ann"), linkOf(await whoami(ann)));
  if (!headingOf(page).startsWith("Connected")) throw new Error(headingOf(page));
});

const own = () => {
  const { clientId, clientSecret } = authServer.clients.post;
  return {
    authType: "OAuth2",
    target: server.url,
    credentials: { clientId, clientSecret },
    clientAuth: "post",
    authorizationUrl: `${authServer.issuer}/auth`,
    tokenUrl: `${authServer.issuer}/token`,
    scopes: ["read"],
  };
};
/** Another origin, so that the secret comes along. */
const toElsewhere = () => {
  const { clientSecret } = authServer.clients.post;
  return { target: elsewhere.url, credentials: { clientSecret } };
};
const path = () => `/api/projects/default/connections/${name}`;
const edit = (properties: Record<string, unknown>) => world.rest("PATCH", path(), { properties });
const whoami = (client: OpenAI) =>
  client.responses.create({
    tools: [{ type: "mcp", server_label: name, require_approval: "never" }],
    input: [call(name, "whoami", {})],
  });
const outputsOf = (response: Parameters<typeof itemsOf>[0]) =>
  itemsOf(response, "mcp_call").map(({ output }) => output);
const grants = async () =>
  (await world.rest("GET", `${path()}/grants`)).body["value"] as unknown as Record<string, unknown>[];
const dropped = async () =>
  (await audited(world, "grant_revoked")).filter(
    (entry) => "connection" in entry && entry.connection === name,
  );

describe("what keeps people's accounts", () => {
  const edits: [string, () => Record<string, unknown>][] = [
    ["the client's secret", () => ({ credentials: { clientSecret: authServer.clients.post.clientSecret } })],
    ["scopes", () => ({ scopes: ["read", "write"] })],
    ["the policy", () => ({ requireApproval: "never", allowedTools: ["whoami"], timeoutMs: 5_000 })],
    ["parameters", () => ({ tokenParams: { tenant: "t" }, authorizeParams: { prompt: "consent" } })],
    ["metadata", () => ({ metadata: { team: "blue" } })],
    ["an issuer that is looked for again", () => ({ issuer: null })],
    ["the issuer that was found", () => ({ issuer: authServer.issuer })],
    ["all that it said before", () => own()],
  ];
  test.each(edits)("%s", async (_, change) => {
    const toldBefore = authServer.revocations.length;
    expect((await edit(change())).status).toBe(200);
    const called = await whoami(ann);
    expect([outputsOf(called), consentsOf(called)]).toEqual([["ann"], []]);
    world.advance(2 * 60 * 60_000);
    expect(outputsOf(await whoami(ann))).toEqual(["ann"]);
    expect(await grants()).toMatchObject([{ user: "app:ann", status: "active" }]);
    expect(authServer.revocations).toHaveLength(toldBefore);
  });

  test("a PUT that says the same", async () => {
    await world.connect(name, own());
    expect(outputsOf(await whoami(ann))).toEqual(["ann"]);
  });
});

describe("what drops them: audited, told to the authorization server, and the next call asks", () => {
  const basic = () => {
    const { clientId, clientSecret } = authServer.clients.basic;
    return { clientAuth: "basic", credentials: { clientId, clientSecret } };
  };
  const edits: [string, () => Record<string, unknown>][] = [
    ["another target", toElsewhere],
    ["the same target with a query", () => ({ target: `${server.url}?tenant=2` })],
    [
      "another authorization URL",
      () => ({ authorizationUrl: `${authServer.issuer}/auth?v=2`, issuer: null }),
    ],
    ["another token URL", () => ({ tokenUrl: `${authServer.issuer}/token?v=2`, issuer: null })],
    ["another refresh URL", () => ({ refreshUrl: `${authServer.issuer}/token?v=2` })],
    ["another revocation URL", () => ({ revocationUrl: `${authServer.issuer}/token/revocation?v=2` })],
    ["another client", basic],
    ["another resource", () => ({ resource: "omit", overrideReason: "it knows none" })],
  ];
  test.each(edits)("%s", async (_, change) => {
    const tokens = server.requests.length;
    expect((await edit(change())).status).toBe(200);
    expect(await grants()).toMatchObject([{ user: "app:ann", status: "revoked" }]);
    expect(await dropped()).toMatchObject([{ user: "app:ann", detail: { why: "connection_changed" } }]);
    const told = authServer.revocations.at(-1);
    expect(told?.get("token_type_hint")).toBe("refresh_token");
    expect(await authServer.introspect(told?.get("token") ?? "")).toEqual({ active: false });
    const asked = await whoami(ann);
    expect([outputsOf(asked), consentsOf(asked).length]).toEqual([[], 1]);
    expect([...server.requests.slice(tokens), ...elsewhere.requests].map((one) => one.authorization)).toEqual(
      [],
    );
  });

  test("another source, here discovery, which is no custom app any more", async () => {
    await world.connect(name, { authType: "OAuth2", target: server.url, credentials: {} });
    expect(await dropped()).toMatchObject([{ user: "app:ann", detail: { why: "connection_changed" } }]);
    const page = await allow(person(authServer, "ann"), linkOf(await whoami(ann)));
    expect(headingOf(page)).toContain("Connected");
    expect(outputsOf(await whoami(ann))).toEqual(["ann"]);
  });

  test("another issuer of a discovered server", async () => {
    await world.connect(name, { authType: "OAuth2", target: server.url, credentials: {} });
    await allow(person(authServer, "ann"), linkOf(await whoami(ann)));
    await edit({ issuer: "http://127.0.0.1:9" });
    expect(await grants()).toMatchObject([{ user: "app:ann", status: "revoked" }]);
    const refused = await whoami(ann);
    expect(itemsOf(refused, "mcp_call")).toMatchObject([
      { status: "failed", error: { message: expect.stringContaining("http://127.0.0.1:9") } },
    ]);
  });

  test("no OAuth at all any more", async () => {
    await world.connect(name, { authType: "None", target: server.url });
    expect(await dropped()).toMatchObject([{ user: "app:ann" }]);
    await whoami(ann);
    expect(server.requests.at(-1)).toMatchObject({ authorization: null, status: 401 });
  });
});

describe("a consent that was open before the edit", () => {
  test("fails, and its page says so", async () => {
    const link = linkOf(await whoami(bob));
    const browser = person(authServer, "bob");
    const page = await browser.open(link);
    await edit(toElsewhere());
    for (const after of [await browser.open(link), await browser.press(page, "allow")]) {
      expect(headingOf(after)).toContain("was not connected");
      expect(after.html).toContain("The connection was changed while you were on your way");
    }
    expect(linkOf(await whoami(bob))).not.toBe(link);
  });

  test("fails when the person comes back from the authorization server, and says so", async () => {
    const { cookie, authorizationUrl } = await beginAuthorization(linkOf(await whoami(bob)));
    const callback = await authServer.authorize(authorizationUrl.href, "bob");
    await edit(toElsewhere());
    const exchanges = authServer.countTokenRequests("authorization_code");
    for (let times = 0; times < 2; times++) {
      const page = await visit(callback, cookie);
      expect(page.text).toContain("The connection was changed while you were on your way");
    }
    // To their browser alone.
    for (const other of ["", `consentry-browser=${"s".repeat(43)}`]) {
      const page = await visit(callback, other);
      expect([page.status, page.text.includes(name)]).toEqual([403, false]);
    }
    expect(authServer.countTokenRequests("authorization_code")).toBe(exchanges);
    expect((await grants()).map(({ user }) => user)).toEqual(["app:ann"]);
  });

  test("goes on when only scopes and policy changed", async () => {
    const link = linkOf(await whoami(bob));
    await edit({ scopes: ["write"], requireApproval: "never" });
    expect(headingOf(await allow(person(authServer, "bob"), link))).toContain("Connected");
  });

  test("is over when the connection is gone, and no form of it does anything", async () => {
    const link = linkOf(await whoami(bob));
    const { cookie } = await beginAuthorization(link);
    await world.rest("DELETE", path());
    const page = await visit(link, cookie);
    expect(page.text).toContain("The connection was removed");
    const answer = await submit(link, { cookie, form: { action: "allow", csrf: "x" } });
    expect(answer.headers.get("location")).toBeNull();
  });
});

describe("a kept secret", () => {
  const strays: [string, () => Record<string, unknown>][] = [
    ["to another token URL's origin", () => ({ tokenUrl: "http://127.0.0.1:9/token" })],
    ["to another refresh URL's origin", () => ({ refreshUrl: "http://127.0.0.1:9/token" })],
    ["to another revocation URL's origin", () => ({ revocationUrl: "http://127.0.0.1:9/revoke" })],
    ["to another client", () => ({ credentials: { clientId: "client-basic" } })],
  ];
  test("cannot be kept by an endpoint that the issuer does not name", async () => {
    const answer = await edit({ tokenUrl: `${authServer.issuer}/token?v=2` });
    expect(answer.status).toBe(400);
    expect(outputsOf(await whoami(ann))).toEqual(["ann"]);
  });

  test.each(strays)("does not follow %s", async (_, change) => {
    const seen = authServer.tokenRequests.length;
    const answer = await edit(change());
    expect(answer.status).toBe(400);
    expect(JSON.stringify(answer.body)).toContain("credentials.clientSecret");
    expect(outputsOf(await whoami(ann))).toEqual(["ann"]);
    expect(authServer.tokenRequests).toHaveLength(seen);
  });

  const kept: [string, () => Record<string, unknown>][] = [
    ["a custom app's secret", own],
    ["a custom app's key", () => ({ ...own(), clientAuth: "private_key_jwt", credentials: keyed() })],
    ["a registered client's secret", () => ({ ...found(), credentials: own().credentials })],
    [
      "a registered client's key",
      () => ({ ...found(), clientAuth: "private_key_jwt", credentials: keyed() }),
    ],
  ];
  const found = () => ({ authType: "OAuth2", target: server.url, issuer: authServer.issuer });
  const keyed = () => ({ clientId: "client-key", privateKey: { kty: "EC", d: "x" } });
  test.each(kept)("does not follow its connection to another origin: %s", async (_, properties) => {
    expect((await world.connect(name, properties())).status).toBeLessThan(300);
    const answer = await edit({ target: elsewhere.url });
    expect(answer.status).toBe(400);
    expect(JSON.stringify(answer.body)).toContain(
      "must be given again when the target moves to another origin",
    );
    expect((await world.rest("GET", path())).body["properties"]).toMatchObject({ target: server.url });
    expect((await edit({ target: `${server.url}?tenant=2` })).status).toBe(200);
    const { credentials } = properties() as { credentials: Record<string, unknown> };
    expect((await edit({ target: elsewhere.url, credentials })).status).toBe(200);
  });

  const secretless: [string, () => Record<string, unknown>][] = [
    ["a public client", () => ({ ...own(), clientAuth: "none", credentials: { clientId: "public" } })],
    ["a public client that is registered", () => ({ ...found(), credentials: { clientId: "public" } })],
    ["discovery", () => ({ ...found(), credentials: {} })],
    ["a connector", () => ({ authType: "OAuth2", target: server.url, connectorName: "shared" })],
  ];
  test.each(secretless)("is not asked of %s, which may move", async (_, properties) => {
    const { clientId, clientSecret } = authServer.clients.post;
    const { authorizationUrl, tokenUrl } = own();
    const targets = [server.url, elsewhere.url].map((url) => new URL(url).host);
    const connector = { clientId, clientSecret, clientAuth: "post", authorizationUrl, tokenUrl, targets };
    await world.rest("PUT", "/api/connectors/shared", connector);
    expect((await world.connect(name, properties())).status).toBeLessThan(300);
    expect((await edit({ target: elsewhere.url })).status).toBe(200);
  });

  test("is not found in a PUT without it", async () => {
    const { clientId } = authServer.clients.post;
    const answer = await world.connect(name, { ...own(), credentials: { clientId } });
    expect(answer.status).toBe(400);
    expect(JSON.stringify(answer.body)).toContain("credentials.clientSecret");
  });
});
