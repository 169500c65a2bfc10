import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createDisconnect } from "../../src/core/disconnect.ts";
import { createAuthorizationDesk } from "../../src/core/authorization.ts";
import { CONSENT_LEAP, type Grant, grantAad } from "../../src/core/grants.ts";
import type { UserId } from "../../src/core/ids.ts";
import { createTestApp, type TestApp } from "../helpers/app.ts";
import { REDIRECT_URI, startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { startProtectedServer, type ProtectedServer } from "../helpers/protected-server.ts";
import { giveGrant } from "../helpers/grants.ts";

type Body = Record<string, unknown>;

let app: TestApp;
let issuer: TestAuthServer;
let server: ProtectedServer;
beforeAll(async () => {
  app = await createTestApp();
  issuer = await startAuthServer();
  server = await startProtectedServer({ authServer: issuer });
});
afterAll(async () => {
  await server.stop();
  await issuer.stop();
  await app.stop();
});

const base = "/api/projects/default/connections";
const put = (name: string, over: Body = {}) =>
  app.send("PUT", `${base}/${name}`, {
    body: {
      properties: {
        authType: "OAuth2",
        target: server.url,
        credentials: { clientId: "client-basic", clientSecret: issuer.clients.basic.clientSecret },
        authorizationUrl: `${issuer.issuer}/auth`,
        tokenUrl: `${issuer.issuer}/token`,
        ...over,
      },
    },
  });
const grantOf = async (name: string, user: UserId): Promise<Grant | null> => {
  const record = await app.world.store.connections.get("default", name);
  if (!record) throw new Error(`there is no ${name}`);
  return app.world.store.grants.get({ project: "default", connectionId: record.connection.id, user });
};
/** What a finished consent leaves: real tokens of the authorization server. */
async function makeGrant(name: string, user: UserId) {
  const { world } = app;
  const record = await world.store.connections.get("default", name);
  const way = record && (await createAuthorizationDesk(world).known(record));
  if (!record || !way) throw new Error(`there is no way to ${name}`);
  const { server: at, client, resource, params, quirks } = way;
  const verifier = world.crypto.randomText(48);
  const scopes = ["offline_access", "read"];
  const asked = { redirectUri: REDIRECT_URI, state: "s", verifier, scopes, params: { prompt: "consent" } };
  const url = await world.oauth.authorizationUrl({ server: at, client, resource, quirks, ...asked });
  const back = await issuer.authorize(url, user);
  const token = {
    server: at,
    client,
    resource,
    params,
    quirks,
    now: world.clock.now,
    commit: async () => {},
  };
  const code = back.searchParams.get("code") ?? "";
  const outcome = await world.oauth.exchangeCode(
    { ...token, code, redirectUri: REDIRECT_URI, verifier },
    AbortSignal.timeout(5_000),
  );
  if (!outcome.ok) throw new Error(JSON.stringify(outcome.failure));
  const { accessToken, refreshToken } = outcome.value;
  if (refreshToken === null) throw new Error("the server gave no refresh token");
  const key = { project: "default", connectionId: record.connection.id, user };
  // The one before, if any, was taken back; the new one is far above it.
  const version = ((await world.store.grants.get(key))?.version ?? 0) + CONSENT_LEAP;
  const place = { ...key, issuer: at.issuer, version };
  const grant: Grant = {
    ...place,
    id: world.newId("grant"),
    status: "active",
    reason: null,
    resource,
    clientGeneration: way.clientGeneration,
    scopes,
    sealed: await world.sealer.seal(JSON.stringify({ accessToken, refreshToken }), grantAad(place)),
    expiresAt: null,
    hasRefreshToken: true,
    createdAt: world.clock.now(),
    refreshedAt: null,
    lastUsedAt: null,
    lastUsedBy: null,
    leaseUntil: null,
    lease: null,
  };
  return { grant: await giveGrant(world.store, grant), tokens: { accessToken, refreshToken } };
}

const audited = async (connection: string) => {
  const query = `event=grant_revoked&connection=${connection}`;
  const audit = await app.send("GET", `/api/projects/default/audit?${query}`);
  return (audit.body as { value: { user: string; detail: Body }[] }).value;
};

describe("the grants of a connection", () => {
  beforeEach(async () => {
    await put("orders");
  });

  test("are listed without their tokens", async () => {
    await makeGrant("orders", "app:ann");
    const listed = await app.send("GET", `${base}/orders/grants`);
    expect((listed.body as { value: Body[] }).value).toEqual([
      {
        id: expect.stringMatching(/^grant_/),
        user: "app:ann",
        status: "active",
        reason: null,
        scopes: expect.any(Array),
        createdAt: expect.any(String),
        lastUsedAt: null,
        renewsItself: true,
      },
    ]);
    expect((await app.send("GET", `${base}/unknown/grants`)).status).toBe(404);
  });

  test.each<[string, (grant: Grant) => string]>([
    ["their id", ({ id }) => id],
    ["their user", ({ user }) => user],
    ["a bare name", ({ user }) => user.slice("app:".length)],
  ])("are taken back by %s, here and at the authorization server", async (_, nameOf) => {
    const { grant, tokens } = await makeGrant("orders", "app:bob");
    expect((await issuer.introspect(tokens.refreshToken)).active).toBe(true);
    const answer = await app.send("DELETE", `${base}/orders/grants/${encodeURIComponent(nameOf(grant))}`);
    expect(answer.body).toEqual({ id: grant.id, user: "app:bob", status: "revoked", upstream: "revoked" });
    expect((await issuer.introspect(tokens.refreshToken)).active).toBe(false);
    const after = await grantOf("orders", "app:bob");
    expect(after).toMatchObject({ status: "revoked", reason: "revoked" });
    expect(after?.sealed).toHaveLength(0);
    expect((await audited("orders"))[0]).toMatchObject({ user: "app:bob", detail: { grant: grant.id } });
    const again = await app.send("DELETE", `${base}/orders/grants/${encodeURIComponent(nameOf(grant))}`);
    expect(again.status).toBe(404);
  });

  test("are for an admin alone, and not another project's", async () => {
    const { grant } = await makeGrant("orders", "app:cat");
    const { key } = await app.makeKey({ roles: ["runtime", "approver"] });
    expect((await app.send("GET", `${base}/orders/grants`, { key })).status).toBe(403);
    expect((await app.send("DELETE", `${base}/orders/grants/${grant.id}`, { key })).status).toBe(403);
    await app.makeProject("foreign");
    await put("elsewhere");
    expect((await app.send("DELETE", `${base}/elsewhere/grants/${grant.id}`)).status).toBe(404);
    const foreign = `/api/projects/foreign/connections/orders/grants/${grant.id}`;
    expect((await app.send("DELETE", foreign)).status).toBe(404);
    expect((await grantOf("orders", "app:cat"))?.status).toBe("active");
  });

  test("cannot be told to a server without a revocation endpoint, and are gone here all the same", async () => {
    await put("silent", { authorizationUrl: `${issuer.issuer}/auth?x=1` });
    const { grant } = await makeGrant("silent", "app:ann");
    const answer = await app.send("DELETE", `${base}/silent/grants/${grant.id}`);
    expect(answer.body).toMatchObject({ status: "revoked", upstream: "impossible" });
  });
});

describe("a connection's grants are taken back", () => {
  test("when it means something else, by what it knew before, and not when only secrets change", async () => {
    await put("moving");
    const { tokens } = await makeGrant("moving", "app:ann");
    const secret = issuer.clients.basic.clientSecret;
    await app.send("PATCH", `${base}/moving`, {
      body: { properties: { credentials: { clientSecret: secret }, scopes: ["read"] } },
    });
    expect((await grantOf("moving", "app:ann"))?.status).toBe("active");
    const moved = await app.send("PATCH", `${base}/moving`, {
      body: { properties: { target: `${server.url}?tenant=2` } },
    });
    expect(moved.status).toBe(200);
    expect(await grantOf("moving", "app:ann")).toMatchObject({ status: "revoked", reason: "revoked" });
    expect((await issuer.introspect(tokens.refreshToken)).active).toBe(false);
    expect(await audited("moving")).toMatchObject([{ detail: { why: "connection_changed" } }]);
  });

  test("when it is deleted", async () => {
    await put("deleted");
    const { tokens, grant } = await makeGrant("deleted", "app:ann");
    expect((await app.send("DELETE", `${base}/deleted`)).status).toBe(204);
    expect((await issuer.introspect(tokens.refreshToken)).active).toBe(false);
    expect(await app.world.store.grants.find("default", grant.id)).toMatchObject({ status: "revoked" });
    expect(await audited("deleted")).toMatchObject([
      { user: "app:ann", detail: { why: "connection_deleted" } },
    ]);
  });

  test("when its user is blocked, and nobody else's", async () => {
    await put("shared");
    const ann = await makeGrant("shared", "app:ann");
    const bob = await makeGrant("shared", "app:bob");
    expect((await app.send("DELETE", "/api/projects/default/users/bob")).status).toBe(200);
    expect((await issuer.introspect(bob.tokens.refreshToken)).active).toBe(false);
    expect((await issuer.introspect(ann.tokens.refreshToken)).active).toBe(true);
    expect((await grantOf("shared", "app:ann"))?.status).toBe("active");
    await app.send("POST", "/api/projects/default/users/bob:restore");
    expect((await grantOf("shared", "app:bob"))?.status).toBe("revoked");
  });
});

describe("the sweep", () => {
  const disconnect = () => createDisconnect(app.world, createAuthorizationDesk(app.world));
  test("tells a server that was away, and gives up after a day", async () => {
    await put("later", { revocationUrl: "http://127.0.0.1:9/revoke" });
    const first = await makeGrant("later", "app:ann");
    const told = await app.send("DELETE", `${base}/later/grants/ann`);
    expect(told.body).toMatchObject({ status: "revoked", upstream: "failed" });
    const kept = await grantOf("later", "app:ann");
    expect(kept?.sealed).not.toHaveLength(0);
    if (!kept) throw new Error("the grant is gone");
    expect(await app.world.sealer.open(kept.sealed, grantAad(kept))).toContain(first.tokens.refreshToken);
    // The day begins when the server is first found away.
    app.advance(25 * 60 * 60_000);
    const desk = disconnect();
    await desk.sweep();
    expect((await grantOf("later", "app:ann"))?.sealed).not.toHaveLength(0);
    app.advance(25 * 60 * 60_000);
    await desk.sweep();
    const ended = await grantOf("later", "app:ann");
    expect(ended).toMatchObject({ status: "revoked", reason: "gave_up" });
    expect(ended?.sealed).toHaveLength(0);
  });

  test("tells what a process that died has left", async () => {
    await put("left");
    const { tokens, grant } = await makeGrant("left", "app:ann");
    await app.world.store.grants.revoke(grant, 9_000, []);
    expect((await issuer.introspect(tokens.refreshToken)).active).toBe(true);
    await disconnect().sweep();
    expect((await issuer.introspect(tokens.refreshToken)).active).toBe(false);
    expect(await grantOf("left", "app:ann")).toMatchObject({ reason: "revoked" });
  });
});
