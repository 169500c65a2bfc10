// Providers as they are, imitated on this machine as their documents describe them.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { AuthServer, OAuth, OAuthClient, OAuthOutcome, RawTokens } from "../../src/core/oauth.ts";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import type { Egress } from "../../src/upstream/egress.ts";
import { NO_QUIRK, PROVIDERS, quirkFor } from "../../src/upstream/oauth-quirks.ts";
import { createOAuth } from "../../src/upstream/oauth.ts";
import {
  APP,
  PROVIDER_NAMES,
  type ProviderName,
  startProvider,
  type TestProvider,
} from "../helpers/providers.ts";

let egress: Egress;
let oauth: OAuth;
let provider: TestProvider;

beforeEach(() => {
  egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  oauth = createOAuth({ egress, clientInfo: { name: "consentry-test", version: "1" }, urlFault: () => null });
});
afterEach(async () => {
  await egress.close();
  await provider?.stop();
});

/** What each gives for the scopes `read` and `write` (and what it needs beside them), and after a refresh. */
const EXPECTED: Record<
  ProviderName,
  { asked: string[]; first: Partial<RawTokens>; second: Partial<RawTokens> | null }
> = {
  github: {
    asked: ["read", "write"],
    first: { accessToken: "access-2", refreshToken: null, expiresAt: null, scopes: ["read", "write"] },
    second: null,
  },
  slack: {
    asked: ["read", "write"],
    first: { refreshToken: "refresh-2", expiresAt: 43_200_000, scopes: ["read", "write"] },
    second: { accessToken: "access-3", refreshToken: "refresh-3", scopes: ["read", "write"] },
  },
  google: {
    asked: ["read", "write"],
    first: { refreshToken: "refresh-2", expiresAt: 3_599_000, scopes: ["read", "write"] },
    second: { accessToken: "access-3", refreshToken: null },
  },
  atlassian: {
    asked: ["read", "write", "offline_access"],
    first: { refreshToken: "refresh-2", scopes: ["read", "write", "offline_access"] },
    second: { refreshToken: "refresh-3", expiresAt: 3_600_000 },
  },
  notion: {
    asked: [],
    first: { refreshToken: "refresh-2", expiresAt: null, scopes: null },
    second: { refreshToken: "refresh-3", expiresAt: null },
  },
  entra: {
    asked: ["api://app/read", "offline_access"],
    first: { refreshToken: "refresh-2", scopes: ["api://app/read", "offline_access"] },
    second: { refreshToken: "refresh-3" },
  },
};

describe.each(PROVIDER_NAMES)("%s", (name) => {
  const { asked, first, second } = EXPECTED[name];
  // The advice of its documents, which an admin has taken.
  const advice = PROVIDERS[name]?.advice ?? {};
  const resource = advice.resource === "omit" ? null : "https://mcp.example/mcp";

  test("takes our request, and its tokens are the person's", async () => {
    const { outcome, committed } = await connect();
    const tokens = valueOf(outcome);
    expect(tokens).toMatchObject({ accessToken: "access-2", ...first });
    expect(committed).toEqual([tokens]);
  });

  test("refreshes, and what it gives is kept", async () => {
    if (!second) return;
    const { refreshToken } = valueOf((await connect()).outcome);
    const { outcome } = await refresh(refreshToken ?? "");
    expect(valueOf(outcome)).toMatchObject(second);
  });

  test("says that a refresh token is dead, and it is understood", async () => {
    provider = await startProvider(name);
    const { outcome, committed } = await refresh("dead");
    expect(outcome).toMatchObject({ ok: false, failure: { kind: "refused", error: "invalid_grant" } });
    expect(committed).toEqual([]);
  });

  test("says that a code is no good, and it is understood", async () => {
    provider = await startProvider(name);
    const { outcome } = await exchange("guessed");
    expect(outcome).toMatchObject({ ok: false, failure: { kind: "refused", error: "invalid_grant" } });
  });

  test("is found by its token endpoint, and a connection's own parameters win", async () => {
    provider = await startProvider(name);
    const place = PROVIDERS[name]?.places[0] ?? "";
    const path = place.includes("/") ? "" : "/token";
    const server = { ...serverOf(), tokenEndpoint: `https://${place}${path}` };
    const request = { ...common(), server, state: "s", quirks: null, scopes: asked };
    const url = await oauth.authorizationUrl(request);
    expect(() => provider.allow(url)).not.toThrow();
    const own = new URL(await oauth.authorizationUrl({ ...request, params: { prompt: "login" } }));
    expect(own.searchParams.getAll("prompt")).toEqual(["login"]);
  });

  async function connect() {
    provider = await startProvider(name);
    const url = await oauth.authorizationUrl({ ...common(), state: "s", quirks: name, scopes: asked });
    return exchange(provider.allow(url).searchParams.get("code") ?? "");
  }

  async function exchange(code: string) {
    const committed: RawTokens[] = [];
    const request = { ...common(), ...keeping(committed), quirks: name, code };
    return { outcome: await oauth.exchangeCode(request, forLong()), committed };
  }

  async function refresh(refreshToken: string) {
    const committed: RawTokens[] = [];
    const scopes = asked.length > 0 ? asked : null;
    const request = { ...common(), ...keeping(committed), quirks: name, refreshToken, scopes };
    return { outcome: await oauth.refresh(request, forLong()), committed };
  }

  function common() {
    const redirectUri = "https://broker.example/oauth/callback/1";
    return {
      server: serverOf(),
      client: CLIENT,
      redirectUri,
      resource,
      verifier: "v".repeat(43),
      params: {},
    };
  }
});

describe("a quirk", () => {
  test.each<[string | null, string, string | null]>([
    ["github", "https://ghe.example/login/oauth/access_token", "github"],
    [null, "https://github.com/login/oauth/access_token", "github"],
    ["nobody", "https://github.com/login/oauth/access_token", "github"],
    [null, "https://slack.com/api/oauth.v2.access", "slack"],
    [null, "https://slack.com/api/oauth.v2.user.access", "slack-user"],
    ["slack", "https://slack.com/api/oauth.v2.user.access", "slack"],
    [null, "https://oauth2.googleapis.com/token", "google"],
    [null, "https://login.microsoftonline.com/t/oauth2/v2.0/token", "entra"],
    [null, "https://api.notion.com/v1/oauth/token", "notion"],
    [null, "https://mcp.notion.com/token", null],
    [null, "https://github.com.evil.example/token", null],
    [null, "https://evil.example/github.com/", null],
    [null, "https://notgithub.com/token", null],
    [null, "http://github.com/token", null],
    [null, "https://github.com:8443/token", null],
    [null, "https://slack.com/api/oauth.v2.access.evil", null],
    [null, "not a url", null],
    ["toString", "https://as.example/token", null],
  ])("of %s at %s is that of %s", (name, endpoint, expected) => {
    const wanted = expected === null ? {} : PROVIDERS[expected];
    expect(quirkFor(name, endpoint)).toEqual({ ...NO_QUIRK, ...wanted });
  });

  test("changes nothing about a server that nobody knows", async () => {
    provider = await startProvider("entra");
    const request = {
      server: serverOf(),
      client: CLIENT,
      redirectUri: "https://b.example/cb",
      resource: null,
    };
    const more = { verifier: "v".repeat(43), params: {}, state: "s", quirks: null, scopes: ["a", "b"] };
    const { searchParams } = new URL(await oauth.authorizationUrl({ ...request, ...more }));
    expect([...searchParams.keys()].toSorted()).toEqual([
      "client_id",
      "code_challenge",
      "code_challenge_method",
      "redirect_uri",
      "response_type",
      "scope",
      "state",
    ]);
    expect(searchParams.get("scope")).toBe("a b");
  });
});

function serverOf(): AuthServer {
  const { authorizationEndpoint, tokenEndpoint } = provider;
  return {
    issuer: new URL(tokenEndpoint).origin,
    issuerAssumed: true,
    described: false,
    authorizationEndpoint,
    tokenEndpoint,
    refreshEndpoint: tokenEndpoint,
    revocationEndpoint: null,
    registrationEndpoint: null,
    sendsIss: false,
    pkceMethods: null,
    clientAuthMethods: null,
    takesMetadataDocument: false,
    scopesSupported: null,
  };
}

function keeping(committed: RawTokens[]) {
  return {
    now: () => 0,
    commit: async (tokens: RawTokens) => {
      committed.push(tokens);
    },
  };
}

const CLIENT: OAuthClient = { clientId: APP.id, clientSecret: APP.secret, privateKey: null, auth: "basic" };

function valueOf<T>(outcome: OAuthOutcome<T>): T {
  if (!outcome.ok) throw new Error(`it failed: ${JSON.stringify(outcome.failure)}`);
  return outcome.value;
}

const forLong = () => AbortSignal.timeout(30_000);
