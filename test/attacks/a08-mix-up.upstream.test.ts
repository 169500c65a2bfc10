import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { issFault, type SignIn, type SignInClient } from "../../src/core/oauth.ts";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import { createSignIn } from "../../src/upstream/signin.ts";
import { REDIRECT_URI, startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";

// A8: a response that comes from another authorization server than the one that was asked. Its code goes nowhere, and its
// words are not believed (RFC 9207; MCP C33 to C35).

describe("iss of a response", () => {
  const ISSUER = "https://as.example/tenant";
  const told = {
    issuer: ISSUER,
    issuerAssumed: false,
    authorizationEndpoint: "https://login.example/authorize",
    sendsIss: true,
  };
  const silent = { ...told, sendsIss: false };

  test.each<[string, string | null, string | null, string | null]>([
    ["the issuer", ISSUER, null, null],
    ["missing", null, "iss_missing", null],
    ["empty", "", "iss_mismatch", "iss_mismatch"],
    ["another one", "https://evil.example", "iss_mismatch", "iss_mismatch"],
    ["with a slash", `${ISSUER}/`, "iss_mismatch", "iss_mismatch"],
    ["without its path", "https://as.example", "iss_mismatch", "iss_mismatch"],
    ["in capitals", "HTTPS://AS.EXAMPLE/tenant", "iss_mismatch", "iss_mismatch"],
    ["with its port", "https://as.example:443/tenant", "iss_mismatch", "iss_mismatch"],
    ["with an escape", "https://as.example/%74enant", "iss_mismatch", "iss_mismatch"],
    ["with a dot segment", "https://as.example/x/../tenant", "iss_mismatch", "iss_mismatch"],
    ["with a space", `${ISSUER} `, "iss_mismatch", "iss_mismatch"],
    ["where the person was sent", "https://login.example/authorize", "iss_mismatch", "iss_mismatch"],
  ])("%s", (_, iss, whereTold, whereSilent) => {
    expect(issFault(told, iss)).toBe(whereTold);
    expect(issFault(silent, iss)).toBe(whereSilent);
  });

  test.each<[string | null, string | null]>([
    ["https://login.example", null],
    ["https://login.example/any", null],
    [null, null],
    ["http://login.example", "iss_mismatch"],
    ["https://login.example:444", "iss_mismatch"],
    ["https://login.example.evil.example", "iss_mismatch"],
    ["https://login.example@evil.example", "iss_mismatch"],
    ["https://evil.example/login.example", "iss_mismatch"],
    ["login.example", "iss_mismatch"],
    ["", "iss_mismatch"],
  ])("%j, where nobody has said what the server is called, is %j", (iss, fault) => {
    const assumed = { ...silent, issuer: "https://token.example", issuerAssumed: true };
    expect(issFault(assumed, iss)).toBe(fault);
  });
});

describe("a sign-in", () => {
  let as: TestAuthServer;
  let signIn: SignIn;
  let client: SignInClient;
  let stops: (() => Promise<void>)[];
  const checks = { state: "s", nonce: "n", verifier: "v".repeat(43) };

  beforeEach(async () => {
    as = await startAuthServer();
    const egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
    const clientInfo = { name: "consentry-test", version: "1" };
    signIn = createSignIn({ egress, clientInfo, urlFault: () => null, clock: { now: () => Date.now() } });
    stops = [() => egress.close(), () => as.stop()];
    const { clientId, clientSecret } = as.clients.post;
    client = { issuer: as.issuer, clientId, clientSecret, redirectUri: REDIRECT_URI };
  });
  afterEach(async () => {
    for (const stop of stops) await stop();
  });

  test.each<[string, (callback: URLSearchParams) => void]>([
    ["from another issuer", (callback) => callback.set("iss", "https://evil.example")],
    ["from an issuer with a slash", (callback) => callback.set("iss", `${as.issuer}/`)],
    ["from nobody, though it promised", (callback) => callback.delete("iss")],
    ["from two issuers", (callback) => callback.append("iss", "https://evil.example")],
    ["with another state", (callback) => callback.set("state", "theirs")],
    ["with two states", (callback) => callback.append("state", "theirs")],
    ["without a state", (callback) => callback.delete("state")],
  ])("%s: the code is not sent anywhere", async (_, spoil) => {
    const started = await signIn.authorizationUrl({ ...client, ...checks }, forLong());
    if (!started.ok) throw new Error("it did not start");
    const { searchParams: callback } = await as.authorize(started.value, "ada");
    const spoiled = new URLSearchParams(callback);
    spoil(spoiled);
    expect(await signIn.claims({ ...client, ...checks, callback: spoiled }, forLong())).toMatchObject({
      ok: false,
      failure: { kind: "invalid" },
    });
    expect(as.tokenRequests).toEqual([]);
    // The code was good: with the true callback it is taken.
    expect((await signIn.claims({ ...client, ...checks, callback }, forLong())).ok).toBe(true);
  });

  test("an error from another issuer is neither acted on nor shown", async () => {
    const words = { error: "server_error", error_description: "call 0800-EVIL", state: "s" };
    const callback = new URLSearchParams({ ...words, iss: "https://evil.example" });
    const outcome = await signIn.claims({ ...client, ...checks, callback }, forLong());
    expect(outcome).toMatchObject({ ok: false, failure: { kind: "invalid" } });
    expect(JSON.stringify(outcome)).not.toMatch(/server_error|EVIL|evil/);
  });
});

const forLong = () => AbortSignal.timeout(30_000);
