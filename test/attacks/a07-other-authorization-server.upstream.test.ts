import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { AuthServer, OAuth, OAuthClient } from "../../src/core/oauth.ts";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import { createOAuth } from "../../src/upstream/oauth.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { type HttpServer, startHttpServer } from "../helpers/http-server.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";

// A7, on the way out: what a server says of authorization servers moves no credential to one of them.

const SECRET = "canary-client-secret";
const REFRESH_TOKEN = "canary-refresh-token";
const CLIENT: OAuthClient = { clientId: "us", clientSecret: SECRET, privateKey: null, auth: "post" };

let as: TestAuthServer;
let server: ProtectedServer;
/** The attacker's: it takes whatever comes, and remembers. */
let evil: HttpServer;
let oauth: OAuth;
let stops: (() => Promise<void>)[];

beforeEach(async () => {
  as = await startAuthServer();
  server = await startProtectedServer({ authServer: as });
  evil = await startHttpServer((_, response) => {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ access_token: "a", token_type: "bearer" }));
  });
  const egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  oauth = createOAuth({ egress, clientInfo: { name: "consentry-test", version: "1" }, urlFault: () => null });
  stops = [() => egress.close(), () => evil.stop(), () => server.stop(), () => as.stop()];
});
afterEach(async () => {
  for (const stop of stops) await stop();
});

describe("a server that points elsewhere", () => {
  test("by a challenge of another origin is refused, and nobody there is asked", async () => {
    for (const place of [`${evil.url}/prm`, `${server.url.replace("127.0.0.1", "127.0.0.1.")}/prm`]) {
      const challenge = { resourceMetadata: place, scope: null };
      expect(await oauth.protectedResource(server.url, challenge, forLong())).toMatchObject({
        ok: false,
        failure: { kind: "invalid" },
      });
    }
    expect(evil.requests).toEqual([]);
  });

  test("by its metadata is heard, and that alone asks nobody there", async () => {
    server.knobs.prm = (document) => ({ ...document, authorization_servers: [evil.url, as.issuer] });
    expect(await oauth.protectedResource(server.url, null, forLong())).toMatchObject({
      ok: true,
      value: { authorizationServers: [evil.url, as.issuer] },
    });
    expect(evil.requests).toEqual([]);
  });

  test("by metadata of another resource is refused", async () => {
    server.knobs.prm = (document) => ({ ...document, resource: `${evil.url}/mcp` });
    expect(await oauth.protectedResource(server.url, null, forLong())).toMatchObject({ ok: false });
  });
});

describe("an authorization server that is another one", () => {
  test("by its own metadata is refused", async () => {
    as.knobs.metadata = (document) => ({ ...document, issuer: evil.url });
    expect(await oauth.authServer(as.issuer, forLong())).toMatchObject({
      ok: false,
      failure: { kind: "invalid" },
    });
    expect(evil.requests).toEqual([]);
  });

  test("is asked without any credential", async () => {
    await oauth.authServer(evil.url, forLong());
    expect(evil.requests.length).toBeGreaterThan(0);
    for (const { headers, body } of evil.requests) {
      expect(headers.authorization).toBeUndefined();
      expect(body).toBe("");
    }
  });

  test.each([301, 302, 303, 307, 308])("gets nothing by a redirect of status %i", async (status) => {
    const turning = await startHttpServer((_, response) => {
      response.writeHead(status, { location: `${evil.url}/token` }).end();
    });
    stops.push(() => turning.stop());
    const at = serverAt(turning.url);
    const [refreshed, exchanged, revoked] = await requestsTo(at);
    for (const outcome of [refreshed, exchanged, revoked]) {
      expect(outcome).toMatchObject({ ok: false, failure: { kind: "invalid" } });
    }
    expect(turning.requests.every(({ body }) => body.includes(SECRET))).toBe(true);
    expect(turning.requests).toHaveLength(3);
    expect(evil.requests).toEqual([]);
  });

  test("gets nothing of what belongs to the first, which alone is asked", async () => {
    server.knobs.prm = (document) => ({ ...document, authorization_servers: [evil.url] });
    await oauth.protectedResource(server.url, null, forLong());
    await requestsTo(serverAt(as.issuer));
    expect(as.tokenRequests).toHaveLength(2);
    expect(evil.requests).toEqual([]);
  });
});

function requestsTo(server: AuthServer) {
  const common = { server, client: CLIENT, resource: null, params: {}, quirks: null, now: () => 0 };
  const request = { ...common, commit: async () => {} };
  const scopes = ["read"];
  const code = { code: "c", redirectUri: "https://broker.example/cb", verifier: "v".repeat(43) };
  const revoke = { server, client: CLIENT, token: REFRESH_TOKEN, hint: "refresh_token" as const };
  return Promise.all([
    oauth.refresh({ ...request, refreshToken: REFRESH_TOKEN, scopes }, forLong()),
    oauth.exchangeCode({ ...request, ...code }, forLong()),
    oauth.revoke(revoke, forLong()),
  ]);
}

function serverAt(url: string): AuthServer {
  return {
    issuer: url,
    issuerAssumed: false,
    described: true,
    authorizationEndpoint: `${url}/auth`,
    tokenEndpoint: `${url}/token`,
    refreshEndpoint: `${url}/token`,
    revocationEndpoint: `${url}/token/revocation`,
    registrationEndpoint: null,
    sendsIss: true,
    pkceMethods: ["S256"],
    clientAuthMethods: null,
    takesMetadataDocument: false,
    scopesSupported: null,
  };
}

const forLong = () => AbortSignal.timeout(30_000);
