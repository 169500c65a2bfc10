import { decodeJwt, decodeProtectedHeader, exportJWK, generateKeyPair } from "jose";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { AuthServer, OAuth, OAuthClient, OAuthOutcome, RawTokens } from "../../src/core/oauth.ts";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import type { Egress } from "../../src/upstream/egress.ts";
import { createOAuth } from "../../src/upstream/oauth.ts";
import { type HttpServer, startHttpServer } from "../helpers/http-server.ts";

const NOW = Date.UTC(2026, 6, 28);

let egress: Egress;
let oauth: OAuth;
let endpoint: HttpServer;
let answer: { status: number; body: unknown; headers?: Record<string, string> };

beforeEach(async () => {
  endpoint = await startHttpServer((_, response) => {
    const { status, body, headers } = answer;
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(typeof body === "string" ? body : JSON.stringify(body));
  });
  egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  oauth = createOAuth({ egress, clientInfo: { name: "consentry-test", version: "1" }, urlFault: () => null });
});
afterEach(async () => {
  await egress.close();
  await endpoint.stop();
});

describe("a token endpoint's refusal", () => {
  test.each([
    [400, { error: "invalid_grant" }, { kind: "refused", error: "invalid_grant", description: null }],
    [
      401,
      { error: "invalid_client", error_description: "who\u0007?" },
      { kind: "refused", error: "invalid_client", description: "who ?" },
    ],
    [403, { error: "access_denied" }, { kind: "refused", error: "access_denied" }],
    [400, { error: "temporarily_unavailable" }, { kind: "transient", outcome: "not_sent" }],
    [400, { error: "server_error" }, { kind: "transient", outcome: "unknown" }],
    [429, { error: "invalid_grant" }, { kind: "transient", outcome: "not_sent" }],
    [503, { error: "invalid_grant" }, { kind: "transient", outcome: "not_sent" }],
    [500, { error: "invalid_grant" }, { kind: "transient", outcome: "unknown" }],
    [502, "<html>", { kind: "transient", outcome: "unknown" }],
    [408, "", { kind: "transient", outcome: "unknown" }],
    [200, "<html>", { kind: "transient", outcome: "unknown" }],
    [200, "[]", { kind: "transient", outcome: "unknown" }],
    [404, "not here", { kind: "invalid" }],
    [400, { error: "" }, { kind: "invalid" }],
    [400, { error: { code: "invalid_grant" } }, { kind: "invalid" }],
    [302, "", { kind: "invalid" }],
    [200, {}, { kind: "invalid" }],
    [200, { error: "invalid_grant" }, { kind: "invalid" }],
    [200, { access_token: 7, token_type: "bearer" }, { kind: "invalid" }],
    [200, `{"a":${"[".repeat(40)}`, { kind: "transient", outcome: "unknown" }],
    [200, `"${"a".repeat(300_000)}"`, { kind: "transient", outcome: "unknown" }],
  ])("%i with %j is %j", async (status, body, expected) => {
    answer = { status, body };
    const { outcome, committed } = await refresh();
    expect(failureOf(outcome)).toMatchObject(expected);
    expect(committed).toEqual([]);
    expect(endpoint.requests).toHaveLength(1);
  });

  test("with a challenge beside it is still read from the body", async () => {
    const headers = { "www-authenticate": 'Basic realm="as"' };
    answer = { status: 401, body: { error: "invalid_client" }, headers };
    expect(failureOf((await refresh()).outcome)).toMatchObject({ kind: "refused", error: "invalid_client" });
  });

  test("never repeats what it was sent", async () => {
    const said = `token ${REFRESH_TOKEN} (${encodeURIComponent(REFRESH_TOKEN)}) of ${SECRET} is bad`;
    answer = { status: 400, body: { error: `bad ${SECRET}`, error_description: said } };
    const failure = failureOf((await refresh()).outcome);
    expect(failure).toEqual({
      kind: "refused",
      error: "bad [hidden]",
      description: "token [hidden] ([hidden]) of [hidden] is bad",
    });
  });

  test("is kept short", async () => {
    answer = { status: 400, body: { error: "e".repeat(1000), error_description: "d".repeat(5000) } };
    const failure = failureOf((await refresh()).outcome);
    expect(failure).toEqual({ kind: "refused", error: "e".repeat(100), description: "d".repeat(300) });
  });
});

describe("what is committed", () => {
  const whole = { access_token: "at", token_type: "Bearer" };
  const tokens = { accessToken: "at", refreshToken: null, expiresAt: null, scopes: null };

  test.each([
    [{}, {}],
    [{ refresh_token: "rt" }, { refreshToken: "rt" }],
    [{ refresh_token: null, scope: null, id_token: null, expires_in: null }, {}],
    [{ expires_in: 60 }, { expiresAt: NOW + 60_000 }],
    [{ expires_in: "60" }, { expiresAt: NOW + 60_000 }],
    [{ expires_in: 1.0005 }, { expiresAt: NOW + 1000 }],
    [{ expires_in: 1e300 }, {}],
    [{ scope: "a  b" }, { scopes: ["a", "b"] }],
    [{ scope: "" }, { scopes: [] }],
  ])("of an answer with %j has %j", async (change, expected) => {
    answer = { status: 200, body: { ...whole, ...change } };
    const { outcome, committed } = await refresh();
    expect(outcome).toEqual({ ok: true, value: { ...tokens, ...expected } });
    expect(committed).toEqual([{ ...tokens, ...expected }]);
  });

  test.each([
    [{ token_type: undefined }],
    [{ token_type: "mac" }],
    [{ token_type: "DPoP" }],
    [{ id_token: "not.a.jwt" }],
    [{ id_token: 7 }],
    [{ refresh_token: 7 }],
    [{ scope: ["a"] }],
    [{ expires_in: "soon" }],
    [{ expires_in: -1 }],
  ])("of an answer with %j is there, though the answer is invalid", async (change) => {
    answer = { status: 200, body: { ...whole, ...change } };
    const { outcome, committed } = await refresh();
    expect(failureOf(outcome).kind).toBe("invalid");
    expect(committed).toEqual([tokens]);
  });
});

describe("a provider's own ways", () => {
  test("GitHub answers errors with 200, in codes of its own", async () => {
    answer = {
      status: 200,
      body: { error: "bad_refresh_token", error_description: "The refresh token is bad." },
    };
    expect(failureOf((await refresh("github")).outcome)).toEqual({
      kind: "refused",
      error: "invalid_grant",
      description: "The refresh token is bad.",
    });
    answer = { status: 200, body: { error: "redirect_uri_mismatch" } };
    expect(failureOf((await refresh("github")).outcome)).toMatchObject({ error: "redirect_uri_mismatch" });
  });

  test("GitHub's tokens have no end and commas between their scopes", async () => {
    answer = { status: 200, body: { access_token: "gho", token_type: "bearer", scope: "repo,gist" } };
    const value = { accessToken: "gho", refreshToken: null, expiresAt: null, scopes: ["repo", "gist"] };
    expect((await refresh("github")).outcome).toEqual({ ok: true, value });
  });

  test("Slack's own token of the person wins over the app's", async () => {
    const person = { id: "U1", access_token: "xoxp", token_type: "user", scope: "chat:write,users:read" };
    const app = { ok: true, access_token: "xoxb", token_type: "bot", refresh_token: "of the app" };
    answer = { status: 200, body: { ...app, authed_user: { ...person, refresh_token: "of the person" } } };
    const { outcome, committed } = await refresh("slack");
    expect(outcome).toEqual({ ok: true, value: committed[0] });
    expect(committed).toMatchObject([
      { accessToken: "xoxp", refreshToken: "of the person", scopes: ["chat:write", "users:read"] },
    ]);
  });

  test.each([
    ["invalid_refresh_token", { kind: "refused", error: "invalid_grant" }],
    ["ratelimited", { kind: "transient", outcome: "not_sent" }],
    ["internal_error", { kind: "transient", outcome: "unknown" }],
    ["constructor", { kind: "refused", error: "constructor" }],
  ])("Slack's %s is %j", async (error, expected) => {
    answer = { status: 200, body: { ok: false, error } };
    expect(failureOf((await refresh("slack")).outcome)).toMatchObject(expected);
  });

  test("a name that no table holds is none", async () => {
    answer = { status: 200, body: { error: "invalid_grant" } };
    expect(failureOf((await refresh("constructor")).outcome).kind).toBe("invalid");
  });
});

describe("a client that cannot prove itself", () => {
  test.each<[string, Partial<OAuthClient>]>([
    ["no secret", { clientSecret: null }],
    ["an empty one", { auth: "post", clientSecret: "" }],
    ["no key", { auth: "private_key_jwt" }],
    [
      "a broken key",
      { auth: "private_key_jwt", privateKey: { kty: "EC", crv: "P-256", d: "x", x: "y", y: "z" } },
    ],
    ["a key of a strange kind", { auth: "private_key_jwt", privateKey: { kty: "oct", k: "AAAA" } }],
    ["no id", { clientId: "" }],
  ])("for it has %s, sends nothing", async (_, change) => {
    const { outcome } = await refresh(null, { ...CLIENT, ...change });
    expect(failureOf(outcome).kind).toBe("invalid");
    expect(endpoint.requests).toEqual([]);
  });
});

describe("a client that signs", () => {
  test.each([
    [false, "the issuer", (url: string) => url],
    [
      true,
      "the endpoint that is asked, where nobody has said the issuer's name",
      (url: string) => `${url}/refresh`,
    ],
  ])("(assumed: %s) does so for %s", async (issuerAssumed, _, audience) => {
    const { privateKey } = await generateKeyPair("ES256", { extractable: true });
    const { kty = "", crv = "", x = "", y = "", d = "" } = await exportJWK(privateKey);
    const jwk = { kty, crv, x, y, d, kid: "ours" };
    const client: OAuthClient = { ...CLIENT, clientSecret: null, privateKey: jwk, auth: "private_key_jwt" };
    answer = { status: 200, body: { access_token: "a", token_type: "bearer" } };
    expect((await refresh(null, client, { issuerAssumed })).outcome.ok).toBe(true);
    const sent = new URLSearchParams(endpoint.requests[0]?.body).get("client_assertion") ?? "";
    expect(decodeJwt(sent)).toMatchObject({
      iss: CLIENT.clientId,
      sub: CLIENT.clientId,
      aud: audience(endpoint.url),
    });
    expect(decodeProtectedHeader(sent)).toEqual({ alg: "ES256", kid: "ours" });
  });
});

async function refresh(
  quirks: string | null = null,
  client: OAuthClient = CLIENT,
  change: Partial<AuthServer> = {},
) {
  const committed: RawTokens[] = [];
  const request = {
    server: { ...serverAt(endpoint.url), ...change },
    client,
    resource: null,
    params: {},
    quirks,
    now: () => NOW,
    refreshToken: REFRESH_TOKEN,
    scopes: null,
    commit: async (tokens: RawTokens) => {
      committed.push(tokens);
    },
  };
  return { outcome: await oauth.refresh(request, AbortSignal.timeout(30_000)), committed };
}

function serverAt(url: string): AuthServer {
  return {
    issuer: url,
    authorizationEndpoint: `${url}/authorize`,
    tokenEndpoint: `${url}/token`,
    refreshEndpoint: `${url}/refresh`,
    revocationEndpoint: null,
    registrationEndpoint: null,
    issuerAssumed: false,
    described: true,
    sendsIss: false,
    pkceMethods: ["S256"],
    clientAuthMethods: null,
    takesMetadataDocument: false,
    scopesSupported: null,
  };
}

function failureOf<T>(outcome: OAuthOutcome<T>) {
  if (outcome.ok) throw new Error("it did not fail");
  return outcome.failure;
}

const SECRET = "the-client's secret";
const REFRESH_TOKEN = "the+refresh/token=";
const CLIENT: OAuthClient = { clientId: "client", clientSecret: SECRET, privateKey: null, auth: "basic" };
