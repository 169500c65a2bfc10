import { generateKeyPair, exportJWK, SignJWT, UnsecuredJWT, type CryptoKey, type JWTPayload } from "jose";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { OAuthFailure, OAuthOutcome, SignIn, SignInClient } from "../../src/core/oauth.ts";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import type { Egress } from "../../src/upstream/egress.ts";
import { createSignIn } from "../../src/upstream/signin.ts";
import { REDIRECT_URI, startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { type HttpServer, startHttpServer } from "../helpers/http-server.ts";

const NONCE = "the-nonce";
const STATE = "the-state";
const VERIFIER = "v".repeat(43);
const stops: (() => Promise<void>)[] = [];

let egress: Egress;
let signIn: SignIn;
let now: number;

beforeEach(() => {
  now = Date.now();
  egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  signIn = createOn(() => null);
  stops.push(() => egress.close());
});
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

describe("at a real OpenID provider", () => {
  let as: TestAuthServer;
  beforeEach(async () => {
    as = await startAuthServer();
    stops.push(() => as.stop());
  });

  test.each(["basic", "public"] as const)("the client %s learns who is there", async (name) => {
    const { clientId, clientSecret } = as.clients[name];
    as.knobs.claimsOf = () => ({ email: "ada@example.com", email_verified: true, oid: "o-1" });
    const client = { issuer: as.issuer, clientId, clientSecret, redirectUri: REDIRECT_URI };
    const { url, outcome } = await signedIn(as, client, "ada");
    expect(Object.fromEntries(url.searchParams)).toMatchObject({
      scope: "openid email",
      prompt: "select_account",
      response_type: "code",
      code_challenge_method: "S256",
      state: STATE,
      nonce: NONCE,
    });
    expect(valueOf(outcome)).toMatchObject({
      iss: as.issuer,
      aud: clientId,
      sub: "ada",
      oid: "o-1",
      email: "ada@example.com",
      email_verified: true,
      nonce: NONCE,
    });
  });

  test("a person who declines, and a wrong secret, are refusals", async () => {
    const client = clientAt(as);
    expect(failureOf((await signedIn(as, client, "ada", { answer: "decline" })).outcome)).toMatchObject({
      kind: "refused",
      error: "access_denied",
    });
    const wrong = { ...client, clientSecret: "guessed" };
    expect(failureOf((await signedIn(as, wrong, "ada")).outcome)).toMatchObject({
      kind: "refused",
      error: "invalid_client",
    });
  });

  test.each([
    ["another state", { state: "another" }],
    ["another nonce", { nonce: "another" }],
    ["another iss", { iss: "https://evil.example" }],
    ["no iss, though it is promised", { iss: "" }],
    ["two codes", { code: "twice" }],
  ])("with %s nobody is there", async (_, change: Record<string, string>) => {
    const { outcome } = await signedIn(as, clientAt(as), "ada", { change });
    expect(failureOf(outcome).kind).toBe("invalid");
  });

  test("an error of somebody else's is not believed: iss comes first", async () => {
    const callback = new URLSearchParams({
      error: "access_denied",
      iss: "https://evil.example",
      state: STATE,
    });
    const failure = failureOf(await signIn.claims({ ...clientAt(as), ...checks, callback }, forLong()));
    expect(failure.kind).toBe("invalid");
    expect(JSON.stringify(failure)).not.toContain("access_denied");
  });

  test("a code works once, and no failure repeats it", async () => {
    const client = clientAt(as);
    const { callback } = await signedIn(as, client, "ada");
    const again = failureOf(await signIn.claims({ ...client, ...checks, callback }, forLong()));
    expect(again).toMatchObject({ kind: "refused", error: "invalid_grant" });
    expect(JSON.stringify(again)).not.toContain(callback.get("code"));
  });
});

describe("at a provider that is not honest", () => {
  let provider: HttpServer;
  let key: CryptoKey;
  let issuer: string;
  let pages: Record<string, { status: number; body: unknown }>;
  let client: SignInClient;

  beforeEach(async () => {
    provider = await startHttpServer(({ path }, response) => {
      const { status, body } = pages[path] ?? { status: 404, body: "not here" };
      response.writeHead(status, { "content-type": "application/json" });
      response.end(typeof body === "string" ? body : JSON.stringify(body));
    });
    stops.push(() => provider.stop());
    issuer = `${provider.url}/tenant`;
    const pair = await generateKeyPair("ES256", { extractable: true });
    key = pair.privateKey;
    pages = {
      [METADATA]: { status: 200, body: metadata() },
      "/jwks": {
        status: 200,
        body: { keys: [{ ...(await exportJWK(pair.publicKey)), kid: "1", use: "sig" }] },
      },
    };
    client = { issuer, clientId: "us", clientSecret: null, redirectUri: REDIRECT_URI };
  });

  const metadata = (change: object = {}) => ({
    issuer,
    authorization_endpoint: `${provider.url}/authorize?tenant=1`,
    token_endpoint: `${provider.url}/token`,
    jwks_uri: `${provider.url}/jwks`,
    id_token_signing_alg_values_supported: ["RS256", "ES256", "none", "HS256"],
    ...change,
  });

  const claims = (change: Record<string, unknown> = {}): JWTPayload => {
    const seconds = Math.floor(Date.now() / 1000);
    return { iss: issuer, aud: "us", sub: "ada", nonce: NONCE, iat: seconds, exp: seconds + 300, ...change };
  };
  const signed = (payload: JWTPayload, by = key, header: object = {}) =>
    new SignJWT(payload).setProtectedHeader({ alg: "ES256", kid: "1", ...header }).sign(by);

  async function claimsFrom(idToken: string | undefined, extra: object = {}) {
    const body = { access_token: "a", token_type: "Bearer", id_token: idToken, ...extra };
    pages["/token"] = { status: 200, body };
    const callback = new URLSearchParams({ code: "c", state: STATE });
    return signIn.claims({ ...client, ...checks, callback }, forLong());
  }

  test("a good token is believed, so that what follows fails for its own reason", async () => {
    expect(valueOf(await claimsFrom(await signed(claims())))).toMatchObject({ sub: "ada" });
  });

  test.each<[string, Record<string, unknown>]>([
    ["another issuer", { iss: "https://evil.example" }],
    ["the issuer with a slash", { iss: "{issuer}/" }],
    ["another audience", { aud: "them" }],
    ["several audiences, made for another", { aud: ["us", "them"], azp: "them" }],
    ["another nonce", { nonce: "theirs" }],
    ["no nonce", { nonce: undefined }],
    ["no subject", { sub: undefined }],
    ["an end long ago", { exp: 1_000_000_000 }],
    ["no end", { exp: undefined }],
    ["a beginning to come", { nbf: 9_999_999_999 }],
  ])("a token with %s is not", async (_, change) => {
    const { iss } = change;
    const exact = typeof iss === "string" ? { ...change, iss: iss.replace("{issuer}", issuer) } : change;
    expect(failureOf(await claimsFrom(await signed(claims(exact)))).kind).toBe("invalid");
  });

  test("nor one that is not signed, by a foreign key, by a shared secret, or broken", async () => {
    const foreign = await generateKeyPair("ES256");
    const rsa = await generateKeyPair("RS256");
    const good = await signed(claims());
    const [head = "", body = ""] = good.split(".");
    const forged = await new SignJWT(claims())
      .setProtectedHeader({ alg: "HS256", kid: "1" })
      .sign(new TextEncoder().encode("s".repeat(32)));
    const tokens = [
      new UnsecuredJWT(claims()).encode(),
      await signed(claims(), foreign.privateKey),
      await signed(claims(), foreign.privateKey, { jwk: await exportJWK(foreign.publicKey) }),
      await signed(claims(), foreign.privateKey, { jku: `${provider.url}/theirs`, kid: "2" }),
      await new SignJWT(claims()).setProtectedHeader({ alg: "RS256", kid: "1" }).sign(rsa.privateKey),
      forged,
      `${head}.${body}.`,
      `${head}.${body}`,
      "not.a.jwt",
      "",
    ];
    for (const token of tokens) {
      const failure = failureOf(await claimsFrom(token));
      expect({ token, kind: failure.kind }).toEqual({ token, kind: "invalid" });
    }
    expect(failureOf(await claimsFrom(undefined)).kind).toBe("invalid");
    expect(provider.requests.some(({ path }) => path === "/theirs")).toBe(false);
  });

  test.each(["RS256", "PS256", "ES384", "EdDSA"])("a token that is signed by %s is believed", async (alg) => {
    const pair = await generateKeyPair(alg, { extractable: true });
    pages[METADATA] = { status: 200, body: metadata({ id_token_signing_alg_values_supported: [alg] }) };
    pages["/jwks"] = { status: 200, body: { keys: [await exportJWK(pair.publicKey)] } };
    const token = await new SignJWT(claims()).setProtectedHeader({ alg }).sign(pair.privateKey);
    expect(valueOf(await claimsFrom(token))).toMatchObject({ sub: "ada" });
  });

  test("an algorithm that the provider does not use is refused", async () => {
    pages[METADATA] = { status: 200, body: metadata({ id_token_signing_alg_values_supported: ["RS256"] }) };
    expect(failureOf(await claimsFrom(await signed(claims()))).kind).toBe("invalid");
  });

  test("keys that do not come are trouble, not a refusal", async () => {
    pages["/jwks"] = { status: 503, body: "" };
    expect(failureOf(await claimsFrom(await signed(claims()))).kind).toBe("transient");
    pages["/jwks"] = { status: 200, body: "<html>" };
    expect(failureOf(await claimsFrom(await signed(claims()))).kind).toBe("invalid");
  });

  test("metadata and keys are remembered for minutes", async () => {
    const asked = (path: string) => provider.requests.filter((request) => request.path === path).length;
    for (let round = 0; round < 3; round++) valueOf(await claimsFrom(await signed(claims())));
    valueOf(await signIn.authorizationUrl({ ...client, ...checks }, forLong()));
    expect([asked(METADATA), asked("/jwks")]).toEqual([1, 1]);
    now += 6 * 60_000;
    valueOf(await claimsFrom(await signed(claims())));
    expect([asked(METADATA), asked("/jwks")]).toEqual([2, 2]);
  });

  test("metadata that could not be had is asked for again", async () => {
    pages[METADATA] = { status: 503, body: "" };
    expect(failureOf(await start()).kind).toBe("transient");
    pages[METADATA] = { status: 200, body: metadata() };
    expect((await start()).ok).toBe(true);
  });

  test.each([
    ["another issuer", () => ({ issuer: "https://evil.example" })],
    ["the issuer with a slash", () => ({ issuer: `${issuer}/` })],
    ["no keys", () => ({ jwks_uri: undefined })],
    ["no token endpoint", () => ({ token_endpoint: undefined })],
    ["a script for a page", () => ({ authorization_endpoint: "javascript:alert(1)" })],
    ["keys at a refused place", () => ({ jwks_uri: "https://10.0.0.1/jwks" })],
  ])("metadata with %s is refused", async (_, change) => {
    signIn = createOn((url) => (/^https:\/\/10\.|^javascript:/.test(url) ? "It may not be called." : null));
    pages[METADATA] = { status: 200, body: metadata(change()) };
    expect(failureOf(await start()).kind).toBe("invalid");
  });

  test("an issuer of many tenants is refused, and the message says what to do", async () => {
    pages[METADATA] = { status: 200, body: metadata({ issuer: "https://login.example/{tenantid}/v2.0" }) };
    expect(failureOf(await start())).toMatchObject({
      kind: "invalid",
      message: expect.stringContaining("name the one of your tenant") as string,
    });
  });

  test.each<[unknown, string | null]>([
    [undefined, "select_account"],
    [["none", "login", "consent", "select_account"], "select_account"],
    [["none", "login", "consent"], null],
    ["select_account", "select_account"],
  ])("an issuer that understands the prompts %j is sent %j", async (prompts, expected) => {
    pages[METADATA] = { status: 200, body: metadata({ prompt_values_supported: prompts }) };
    expect(await promptSent()).toBe(expected);
  });

  test.each([
    ["invalid_request", null],
    ["account_selection_required", null],
    ["access_denied", "select_account"],
    ["server_error", "select_account"],
  ])("after %s it is sent %j, for an hour", async (error, expected) => {
    expect(await promptSent()).toBe("select_account");
    const callback = new URLSearchParams({ error, state: STATE });
    const failure = failureOf(await signIn.claims({ ...client, ...checks, callback }, forLong()));
    expect(failure).toMatchObject({ kind: "refused", error });
    now += 59 * 60_000;
    expect(await promptSent()).toBe(expected);
    now += 60_000;
    expect(await promptSent()).toBe("select_account");
  });

  test("an error for another state says nothing about prompts", async () => {
    const callback = new URLSearchParams({ error: "invalid_request", state: "another" });
    await signIn.claims({ ...client, ...checks, callback }, forLong());
    expect(await promptSent()).toBe("select_account");
  });

  const start = () => signIn.authorizationUrl({ ...client, ...checks }, forLong());
  const promptSent = async () => new URL(valueOf(await start())).searchParams.get("prompt");
});

async function signedIn(
  as: TestAuthServer,
  client: SignInClient,
  account: string,
  { answer = "allow" as "allow" | "decline", change = {} as Record<string, string> } = {},
) {
  const url = new URL(valueOf(await signIn.authorizationUrl({ ...client, ...checks }, forLong())));
  const { searchParams: callback } = await as.authorize(url.href, account, answer);
  const { nonce = NONCE, code, ...params } = change;
  for (const [name, value] of Object.entries(params)) {
    if (value === "") callback.delete(name);
    else callback.set(name, value);
  }
  if (code !== undefined) callback.append("code", code);
  const outcome = await signIn.claims({ ...client, ...checks, nonce, callback }, forLong());
  return { url, callback, outcome };
}

const checks = { state: STATE, nonce: NONCE, verifier: VERIFIER };

function clientAt(as: TestAuthServer): SignInClient {
  const { clientId, clientSecret } = as.clients.basic;
  return { issuer: as.issuer, clientId, clientSecret, redirectUri: REDIRECT_URI };
}

function createOn(urlFault: (url: string) => string | null): SignIn {
  const clientInfo = { name: "consentry-test", version: "1" };
  return createSignIn({ egress, clientInfo, urlFault, clock: { now: () => now } });
}

function valueOf<T>(outcome: OAuthOutcome<T>): T {
  if (!outcome.ok) throw new Error(`it failed: ${JSON.stringify(outcome.failure)}`);
  return outcome.value;
}

function failureOf<T>(outcome: OAuthOutcome<T>): OAuthFailure {
  if (outcome.ok) throw new Error(`it did not fail: ${JSON.stringify(outcome.value)}`);
  return outcome.failure;
}

const forLong = () => AbortSignal.timeout(30_000);
const METADATA = "/tenant/.well-known/openid-configuration";
