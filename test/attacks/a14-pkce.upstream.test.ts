import { createHash } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { AuthServer, OAuth } from "../../src/core/oauth.ts";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import { createOAuth } from "../../src/upstream/oauth.ts";
import { REDIRECT_URI, startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";

// A14: PKCE with S256 in every authorization request, whatever a connection, a provider or the metadata say.

const VERIFIER = "the-verifier-is-a-secret-of-forty-three-chars";
const STATE = "the-state-is-as-long-as-a-verifier-would-be-here";

let as: TestAuthServer;
let oauth: OAuth;
let server: AuthServer;
let stops: (() => Promise<void>)[];

beforeEach(async () => {
  as = await startAuthServer();
  const egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  oauth = createOAuth({ egress, clientInfo: { name: "consentry-test", version: "1" }, urlFault: () => null });
  stops = [() => egress.close(), () => as.stop()];
  const found = await oauth.authServer(as.issuer, forLong());
  if (!found.ok) throw new Error("it was not found");
  server = found.value;
});
afterEach(async () => {
  for (const stop of stops) await stop();
});

test.each<[string, Partial<AuthServer>, Record<string, string>, string | null]>([
  ["that says S256", {}, {}, null],
  ["that says plain only", { pkceMethods: ["plain"] }, {}, null],
  ["that says nothing", { pkceMethods: null, described: false }, {}, null],
  ["of a provider of its own ways", {}, {}, "slack"],
  [
    "with parameters that would weaken it",
    {},
    { code_challenge_method: "plain", code_challenge: VERIFIER },
    null,
  ],
  ["with parameters that would take its place", {}, { state: VERIFIER, response_type: "token" }, null],
])("a server %s gets the hash of the verifier, and never the verifier", async (_, change, params, quirks) => {
  const url = new URL(await authorizationUrl({ ...server, ...change }, params, quirks));
  const hash = createHash("sha256").update(VERIFIER).digest("base64url");
  expect(url.searchParams.getAll("code_challenge")).toEqual([hash]);
  expect(url.searchParams.getAll("code_challenge_method")).toEqual(["S256"]);
  expect(url.searchParams.getAll("response_type")).toEqual(["code"]);
  expect(url.searchParams.getAll("state")).toEqual([STATE]);
  expect(url.href).not.toContain(VERIFIER);
});

test("a code that somebody else has caught is worth nothing without the verifier", async () => {
  for (const verifier of [STATE, "w".repeat(43), createHash("sha256").update(VERIFIER).digest("base64url")]) {
    const callback = await as.authorize(await authorizationUrl(server), "ada");
    const outcome = await exchange(callback, verifier);
    expect(outcome).toMatchObject({ ok: false, failure: { kind: "refused", error: "invalid_grant" } });
    expect(JSON.stringify(outcome)).not.toContain(callback.searchParams.get("code"));
  }
  const callback = await as.authorize(await authorizationUrl(server), "ada");
  expect((await exchange(callback, VERIFIER)).ok).toBe(true);
});

test("a parameter for token requests takes the place of none of ours", async () => {
  const callback = await as.authorize(await authorizationUrl(server), "ada");
  const params = {
    code_verifier: "theirs",
    code: "theirs",
    redirect_uri: "https://evil.example",
    grant_type: "x",
  };
  expect((await exchange(callback, VERIFIER, params)).ok).toBe(true);
  const [seen] = as.tokenRequests;
  expect(seen?.params.getAll("code_verifier")).toEqual([VERIFIER]);
  expect(seen?.params.getAll("redirect_uri")).toEqual([REDIRECT_URI]);
  expect(seen?.params.getAll("grant_type")).toEqual(["authorization_code"]);
});

function authorizationUrl(at: AuthServer, params: Record<string, string> = {}, quirks: string | null = null) {
  const { post: client } = as.clients;
  const request = { client, redirectUri: REDIRECT_URI, state: STATE, verifier: VERIFIER, scopes: ["read"] };
  return oauth.authorizationUrl({ ...request, server: at, resource: null, params, quirks });
}

function exchange(callback: URL, verifier: string, params: Record<string, string> = {}) {
  const { post: client } = as.clients;
  const code = callback.searchParams.get("code") ?? "";
  const request = {
    server,
    client,
    resource: null,
    params,
    quirks: null,
    now: () => 0,
    commit: async () => {},
  };
  return oauth.exchangeCode({ ...request, code, redirectUri: REDIRECT_URI, verifier }, forLong());
}

const forLong = () => AbortSignal.timeout(30_000);
