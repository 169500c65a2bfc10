import { decodeJwt } from "jose";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type AuthServer,
  issFault,
  type OAuth,
  type OAuthClient,
  type OAuthOutcome,
  type RawTokens,
} from "../../src/core/oauth.ts";
import { createOAuth } from "../../src/upstream/oauth.ts";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import type { Egress } from "../../src/upstream/egress.ts";
import { REDIRECT_URI, startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";

let egress: Egress;
let oauth: OAuth;
let as: TestAuthServer;
let server: AuthServer;

beforeEach(async () => {
  as = await startAuthServer({ resources: [RESOURCE] });
  egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  oauth = createOAuth({ egress, clientInfo: { name: "consentry-test", version: "1" }, urlFault: () => null });
  server = valueOf(await oauth.authServer(as.issuer, forLong()));
});
afterEach(async () => {
  await egress.close();
  await as.stop();
});

describe("the code flow", () => {
  test.each(["basic", "post", "public", "privateKeyJwt"] as const)(
    "gives a token for the resource to the client %s",
    async (name) => {
      const client = as.clients[name];
      const { outcome, committed } = await connect(client);

      const tokens = valueOf(outcome);
      expect(committed).toEqual([tokens]);
      expect(decodeJwt(tokens.accessToken)).toMatchObject({ iss: as.issuer, aud: RESOURCE, sub: "ada" });
      expect(tokens).toMatchObject({ expiresAt: NOW + 3600_000, scopes: ["read"] });
      const [seen] = as.tokenRequests;
      expect(seen?.params.get("resource")).toBe(RESOURCE);
      expect(seen?.params.get("code_verifier")).toBe(VERIFIER);
      expect(seen?.params.get("client_secret")).toBe(name === "post" ? client.clientSecret : null);
      expect(seen?.headers.authorization?.startsWith("Basic ") ?? false).toBe(name === "basic");
      expect(seen?.headers["user-agent"]).toBe("consentry-test/1");
    },
  );

  test("our own parameters win over a connection's", async () => {
    const url = new URL(
      await urlFor(as.clients.public, { prompt: "login", state: "theirs", code_challenge_method: "plain" }),
    );
    expect(url.searchParams.getAll("state")).toEqual([STATE]);
    expect(url.searchParams.getAll("code_challenge_method")).toEqual(["S256"]);
    expect(url.searchParams.get("prompt")).toBe("login");
  });

  test("a browser is not sent to an endpoint that the rules refuse", async () => {
    const strict = createOAuth({
      egress,
      clientInfo: { name: "consentry-test", version: "1" },
      urlFault: (url) => (url === server.authorizationEndpoint ? "It is not https." : null),
    });
    oauth = strict;
    await expect(urlFor(as.clients.public)).rejects.toMatchObject({ code: "target_refused" });
  });

  test("a wrong verifier is refused as invalid_grant", async () => {
    const { outcome, committed } = await connect(as.clients.post, { verifier: "w".repeat(43) });
    expect(failureOf(outcome)).toMatchObject({ kind: "refused", error: "invalid_grant" });
    expect(committed).toEqual([]);
  });

  test("a wrong secret is refused as invalid_client, whatever challenge comes with it", async () => {
    const { outcome } = await connect({ ...as.clients.basic, clientSecret: "guessed" });
    expect(failureOf(outcome)).toMatchObject({ kind: "refused", error: "invalid_client" });
  });

  test("a foreign resource and a person who declines come back with iss and error", async () => {
    const foreign = await as.authorize(
      await urlFor(as.clients.public, {}, "https://other.example/mcp"),
      "ada",
    );
    expect(foreign.searchParams.get("error")).toBe("invalid_target");
    const declined = await as.authorize(await urlFor(as.clients.public), "ada", "decline");
    expect(declined.searchParams.get("error")).toBe("access_denied");
    for (const callback of [foreign, declined]) {
      expect(callback.searchParams.get("iss")).toBe(as.issuer);
      expect(callback.searchParams.get("state")).toBe(STATE);
    }
  });
});

describe("iss", () => {
  test("of a real response is the issuer; missing or another one is a fault", async () => {
    const callback = await as.authorize(await urlFor(as.clients.public), "ada");
    expect(server.sendsIss).toBe(true);
    expect(issFault(server, callback.searchParams.get("iss"))).toBeNull();
    expect(issFault(server, null)).toBe("iss_missing");
    expect(issFault({ ...server, sendsIss: false }, null)).toBeNull();
    for (const iss of [`${as.issuer}/`, as.issuer.toUpperCase(), "https://evil.example", ""]) {
      expect(issFault(server, iss)).toBe("iss_mismatch");
      expect(issFault({ ...server, sendsIss: false }, iss)).toBe("iss_mismatch");
    }
  });
});

describe("a refresh", () => {
  test("rotates, and names resource and scopes", async () => {
    const first = await connected();
    as.knobs.accessTokenSeconds = 120;
    const { outcome, committed } = await refresh(first);
    const second = valueOf(outcome);
    expect(committed).toEqual([second]);
    expect(second.refreshToken).not.toBe(first.refreshToken);
    expect(second.accessToken).not.toBe(first.accessToken);
    expect(second.expiresAt).toBe(NOW + 120_000);
    const seen = as.tokenRequests[1];
    expect(seen?.params.get("resource")).toBe(RESOURCE);
    expect(seen?.params.get("scope")).toBe("read");
  });

  test("names no scopes and no resource where there are none to name", async () => {
    const first = await connected();
    await refresh(first, { scopes: null, resource: null });
    await refresh(first, { scopes: [] });
    expect(as.tokenRequests[1]?.params.has("resource")).toBe(false);
    expect(as.tokenRequests.slice(1).map(({ params }) => params.has("scope"))).toEqual([false, false]);
  });

  test("with a spent token revokes the family, and is invalid_grant", async () => {
    const first = await connected();
    const second = valueOf((await refresh(first)).outcome);
    const again = await refresh(first);
    expect(failureOf(again.outcome)).toMatchObject({ kind: "refused", error: "invalid_grant" });
    expect(again.committed).toEqual([]);
    const next = await refresh(second);
    expect(failureOf(next.outcome)).toMatchObject({ kind: "refused", error: "invalid_grant" });
    expect(as.countTokenRequests("refresh_token")).toBe(3);
  });

  test("whose answer is lost has an unknown outcome, and is sent once", async () => {
    const first = await connected();
    as.mishaps.push("lost_response");
    const { outcome, committed } = await refresh(first);
    expect(failureOf(outcome)).toMatchObject({ kind: "transient", outcome: "unknown" });
    expect(committed).toEqual([]);
    expect(as.countTokenRequests("refresh_token")).toBe(1);
    const spent = await refresh(first);
    expect(failureOf(spent.outcome)).toMatchObject({ kind: "refused", error: "invalid_grant" });
  });

  test.each(["malformed_id_token", "no_token_type"] as const)(
    "whose answer has a %s loses nothing: its tokens were committed before",
    async (mishap) => {
      const first = await connected();
      as.mishaps.push(mishap);
      const { outcome, committed } = await refresh(first);
      expect(failureOf(outcome).kind).toBe("invalid");
      expect(committed).toHaveLength(1);
      const [second] = committed;
      if (!second) throw new Error("nothing was committed");
      expect(second.refreshToken).not.toBe(first.refreshToken);
      expect(valueOf((await refresh(second)).outcome).refreshToken).not.toBeNull();
    },
  );

  test("whose answer is broken JSON has an unknown outcome", async () => {
    const first = await connected();
    as.mishaps.push("malformed_json");
    const { outcome, committed } = await refresh(first);
    expect(failureOf(outcome)).toMatchObject({ kind: "transient", outcome: "unknown" });
    expect(committed).toEqual([]);
  });

  test("at a server in trouble is transient, and the token stays good", async () => {
    const first = await connected();
    as.mishaps.push("error");
    expect(failureOf((await refresh(first)).outcome)).toMatchObject({ kind: "transient" });
    expect((await refresh(first)).outcome.ok).toBe(true);
  });

  test("whose commit fails fails with the commit's own fault, and is not sent again", async () => {
    const first = await connected();
    const fault = new Error("the disk is full");
    let commits = 0;
    const failing = refresh(first, {
      commit: () => {
        commits++;
        return Promise.reject(fault);
      },
    });
    await expect(failing).rejects.toBe(fault);
    expect(commits).toBe(1);
    expect(as.countTokenRequests("refresh_token")).toBe(1);
  });

  test("that is cancelled is unknown once it is under way, and not sent before", async () => {
    const first = await connected();
    const before = await refresh(first, {}, AbortSignal.abort());
    expect(failureOf(before.outcome)).toMatchObject({ kind: "transient", outcome: "not_sent" });
    expect(as.countTokenRequests("refresh_token")).toBe(0);

    as.knobs.tokenLatencyMs = 30_000;
    const leaving = new AbortController();
    const under = refresh(first, {}, leaving.signal);
    await expect.poll(() => as.countTokenRequests("refresh_token")).toBe(1);
    leaving.abort();
    expect(failureOf((await under).outcome)).toMatchObject({ kind: "transient", outcome: "unknown" });
  });

  test("at a server that nobody answers for was not sent", async () => {
    const first = await connected();
    const gone = { ...server, refreshEndpoint: "http://127.0.0.1:1/token" };
    const { outcome } = await refresh(first, { server: gone });
    expect(failureOf(outcome)).toMatchObject({ kind: "transient", outcome: "not_sent" });
  });
});

describe("the rest of a grant's life", () => {
  test("a revoked refresh token is dead upstream", async () => {
    const tokens = await connected();
    const token = tokens.refreshToken ?? "";
    expect(await as.introspect(token)).toMatchObject({ active: true });
    const revoked = await oauth.revoke(
      { server, client: as.clients.post, token, hint: "refresh_token" },
      forLong(),
    );
    expect(revoked).toEqual({ ok: true, value: null });
    expect(await as.introspect(token)).toEqual({ active: false });
    const without = { ...server, revocationEndpoint: null };
    const impossible = await oauth.revoke(
      { server: without, client: as.clients.post, token, hint: "refresh_token" },
      forLong(),
    );
    expect(failureOf(impossible).kind).toBe("invalid");
  });

  test.each([
    [["client_secret_basic", "none"], "basic"],
    [["none", "client_secret_post"], "post"],
    [["none"], "none"],
    [null, "basic"],
  ] as const)("a client registered where %j is offered proves itself by %s", async (methods, auth) => {
    const offered = { ...server, clientAuthMethods: methods && [...methods] };
    const wanted = { name: "Consentry", redirectUri: REDIRECT_URI, scopes: ["read"] };
    const { client, secretExpiresAt } = valueOf(await oauth.register(offered, wanted, forLong()));
    expect(secretExpiresAt).toBeNull();
    expect(client.auth).toBe(auth);
    expect(client.clientSecret === null).toBe(auth === "none");
    expect(valueOf((await connect(client)).outcome).refreshToken).not.toBeNull();
  });

  test("a registration that is refused says why", async () => {
    const wanted = { name: "Consentry", redirectUri: REDIRECT_URI, scopes: ["everything"] };
    const failure = failureOf(await oauth.register(server, wanted, forLong()));
    expect(failure).toMatchObject({ kind: "refused", error: "invalid_client_metadata" });
  });
});

async function urlFor(
  client: OAuthClient,
  params: Record<string, string> = {},
  resource = RESOURCE,
): Promise<string> {
  return oauth.authorizationUrl({
    server,
    client,
    redirectUri: REDIRECT_URI,
    state: STATE,
    verifier: VERIFIER,
    scopes: ["read"],
    resource,
    params,
    quirks: null,
  });
}

/** The whole flow up to the tokens, as Ada. */
async function connect(client: OAuthClient, { verifier = VERIFIER } = {}) {
  const callback = await as.authorize(await urlFor(client), "ada");
  const committed: RawTokens[] = [];
  const request = { ...withCommit(client, committed), redirectUri: REDIRECT_URI, verifier };
  const code = callback.searchParams.get("code") ?? "";
  return { outcome: await oauth.exchangeCode({ ...request, code }, forLong()), committed };
}

async function connected(): Promise<RawTokens> {
  return valueOf((await connect(as.clients.post)).outcome);
}

async function refresh(
  { refreshToken }: RawTokens,
  change: Partial<Parameters<OAuth["refresh"]>[0]> = {},
  signal = forLong(),
) {
  const committed: RawTokens[] = [];
  const request = withCommit(as.clients.post, committed);
  const whole = { ...request, refreshToken: refreshToken ?? "", scopes: ["read"], ...change };
  return { outcome: await oauth.refresh(whole, signal), committed };
}

function withCommit(client: OAuthClient, committed: RawTokens[]) {
  return {
    server,
    client,
    resource: RESOURCE,
    params: {},
    quirks: null,
    now: () => NOW,
    commit: async (tokens: RawTokens) => {
      committed.push(tokens);
    },
  };
}

function valueOf<T>(outcome: OAuthOutcome<T>): T {
  if (!outcome.ok) throw new Error(`it failed: ${JSON.stringify(outcome.failure)}`);
  return outcome.value;
}

function failureOf<T>(outcome: OAuthOutcome<T>) {
  if (outcome.ok) throw new Error("it did not fail");
  return outcome.failure;
}

const forLong = () => AbortSignal.timeout(30_000);
const RESOURCE = "https://mcp.example/mcp";
const STATE = "the-state";
const VERIFIER = "v".repeat(43);
const NOW = Date.UTC(2026, 6, 28);
