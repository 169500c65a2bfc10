// The ten refresh rules of the threat model (A19, A20), on a real authorization server that rotates refresh tokens and
// revokes the family when an old one comes back, and on two stores on one database, as two replicas have them.
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Context } from "../../src/core/context.ts";
import { BrokerError } from "../../src/core/errors.ts";
import { CONSENT_LEAP, type Grant, grantAad, type GrantKey } from "../../src/core/grants.ts";
import type { RawTokens } from "../../src/core/oauth.ts";
import { noObserver } from "../../src/core/observe.ts";
import type { Clock, World } from "../../src/core/ports.ts";
import { DEFAULT_SETTINGS } from "../../src/core/project.ts";
import { type Binding, createTokenDesk, type TokenDesk, type TokenOutcome } from "../../src/core/refresh.ts";
import type { Store } from "../../src/core/storage.ts";
import { createNodeCrypto } from "../../src/secrets/crypto.node.ts";
import { createNewId } from "../../src/secrets/ids.ts";
import { parseKeyring } from "../../src/secrets/keyring.ts";
import { createSealer } from "../../src/secrets/seal.ts";
import { openSqlite } from "../../src/store/better-sqlite3.ts";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import type { Egress } from "../../src/upstream/egress.ts";
import { systemClock } from "../../src/system-clock.ts";
import { createOAuth } from "../../src/upstream/oauth.ts";
import { REDIRECT_URI, startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { giveGrant } from "../helpers/grants.ts";
import { scriptedClock } from "../helpers/scripted-clock.ts";

const RESOURCE = "https://mcp.example.com/mcp";
const MINUTE = 60_000;
const KEY: GrantKey = { project: "p", connectionId: "conn_1", user: "app:ann" };

let server: TestAuthServer;
let folder: string;
let stores: Store[];
let desks: TokenDesk[];
let ahead: number;
let binding: Binding;
let egress: Egress;

const suite = createNodeCrypto();
const newId = createNewId({ randomBytes, now: () => Date.now() });
const sealer = createSealer({ keyring: parseKeyring(`k:${randomBytes(32).toString("base64")}`), suite });
const clock: Clock = {
  now: () => Date.now() + ahead,
  sleep: systemClock.sleep,
};

beforeEach(async () => {
  ahead = 0;
  server = await startAuthServer();
  folder = await mkdtemp(join(tmpdir(), "consentry-refresh-"));
  const open = () =>
    openSqlite(join(folder, "db"), { migrations: join(import.meta.dirname, "../../drizzle/sqlite") });
  stores = [open(), open()];
  egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  desks = stores.map((store) => deskOf(store));
  await first(stores).projects.insert(
    { name: "p", settings: DEFAULT_SETTINGS, version: 1, createdAt: 1 },
    [],
  );
  const { issuer, clients } = server;
  binding = {
    connection: "notes",
    server: {
      issuer,
      issuerAssumed: false,
      described: true,
      authorizationEndpoint: `${issuer}/auth`,
      tokenEndpoint: `${issuer}/token`,
      refreshEndpoint: `${issuer}/token`,
      revocationEndpoint: null,
      registrationEndpoint: null,
      sendsIss: true,
      pkceMethods: ["S256"],
      clientAuthMethods: null,
      takesMetadataDocument: false,
      scopesSupported: null,
    },
    client: clients.post,
    clientGeneration: "1",
    resource: RESOURCE,
    params: {},
    quirks: null,
    refreshScope: "granted",
  };
  await grantByConsent();
});
afterEach(async () => {
  await Promise.all(stores.map((store) => store.close()));
  await egress.close();
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

function deskOf(store: Store, change: Partial<Pick<World, "clock" | "sealer">> = {}): TokenDesk {
  const oauth = createOAuth({
    egress,
    clientInfo: { name: "consentry", version: "1" },
    urlFault: () => null,
  });
  const outside = { clock, newId, sealer, store, log: () => {}, oauth, observer: noObserver };
  return createTokenDesk({ ...outside, ...change });
}

const first = <T>(list: T[]): T => list[0] as T;
const context = (): Context => ({
  project: { name: "p", settings: DEFAULT_SETTINGS, version: 1, createdAt: 1 },
  caller: { keyId: "key_1", principal: "key:app", name: "app", project: "p", roles: ["runtime"], rights: [] },
  user: KEY.user,
  userToken: null,
  requestId: "req_1",
  signal: new AbortController().signal,
});
const token = (at = 0) => (desks[at % desks.length] ?? first(desks)).token(context(), KEY, binding);
const stored = async () => (await first(stores).grants.get(KEY)) as Grant;
const refreshes = () => server.countTokenRequests("refresh_token");
const expire = () => {
  ahead += 61 * MINUTE;
};

function rawOf(answer: Record<string, unknown>): RawTokens {
  return {
    accessToken: String(answer["access_token"]),
    refreshToken: typeof answer["refresh_token"] === "string" ? answer["refresh_token"] : null,
    expiresAt: clock.now() + Number(answer["expires_in"]) * 1000,
    scopes: String(answer["scope"]).split(" "),
  };
}

/** What a finished consent leaves behind: a grant with tokens of the authorization server. */
async function grantByConsent(change: Partial<Grant> = {}): Promise<void> {
  const verifier = randomBytes(32).toString("base64url");
  const { clientId, clientSecret } = server.clients.post;
  const url = new URL(`${server.issuer}/auth`);
  const asked = {
    client_id: clientId,
    response_type: "code",
    redirect_uri: REDIRECT_URI,
    scope: "openid offline_access read",
    resource: RESOURCE,
    code_challenge: createHash("sha256").update(verifier).digest("base64url"),
    code_challenge_method: "S256",
    prompt: "consent",
    state: "s",
  };
  for (const [name, value] of Object.entries(asked)) url.searchParams.set(name, value);
  const back = await server.authorize(url.href, "ann");
  const body = new URLSearchParams({
    grant_type: "authorization_code",
    code: back.searchParams.get("code") ?? "",
    redirect_uri: REDIRECT_URI,
    code_verifier: verifier,
    client_id: clientId,
    client_secret: clientSecret ?? "",
    resource: RESOURCE,
  });
  const answer = (await (await fetch(`${server.issuer}/token`, { method: "POST", body })).json()) as Record<
    string,
    unknown
  >;
  const raw = rawOf(answer);
  if (raw.refreshToken === null) throw new Error(`no refresh token: ${JSON.stringify(answer)}`);
  const before = await first(stores).grants.get(KEY);
  const version = before ? before.version + CONSENT_LEAP : 1;
  const place = { ...KEY, issuer: server.issuer, version };
  const secrets = JSON.stringify({ accessToken: raw.accessToken, refreshToken: raw.refreshToken });
  const grant: Grant = {
    ...place,
    id: before?.id ?? newId("grant"),
    status: "active",
    reason: null,
    resource: RESOURCE,
    clientGeneration: "1",
    scopes: raw.scopes ?? [],
    sealed: await sealer.seal(secrets, grantAad(place)),
    expiresAt: raw.expiresAt,
    hasRefreshToken: true,
    createdAt: clock.now(),
    refreshedAt: null,
    lastUsedAt: null,
    lastUsedBy: null,
    leaseUntil: null,
    lease: null,
    ...change,
  };
  await giveGrant(first(stores), grant);
}

test("a token that is good is used as it is", async () => {
  expect(await token()).toMatchObject({ ok: true, grant: { version: 1 } });
  expect(refreshes()).toBe(0);
});

test("A19: 200 callers on two replicas at expiry make one request, and all succeed with the new token", async () => {
  server.knobs.tokenLatencyMs = 200;
  expire();
  const outcomes = await Promise.all(Array.from({ length: 200 }, (_, at) => token(at)));
  expect(refreshes()).toBe(1);
  expect(new Set(outcomes.map((outcome) => JSON.stringify(outcome))).size).toBe(1);
  expect(outcomes[0]).toMatchObject({ ok: true, grant: { version: 2 } });
  // The family lives: the next refresh works, too.
  expire();
  expect(await token()).toMatchObject({ ok: true, grant: { version: 3 } });
});

test("before its end the token is refreshed by one, and the others go on with the old one without waiting", async () => {
  server.knobs.tokenLatencyMs = 500;
  ahead += 59.5 * MINUTE;
  const refreshing = token(0);
  await expect.poll(refreshes).toBe(1);
  expect(await token(1)).toMatchObject({ ok: true, grant: { version: 1 } });
  expect(await refreshing).toMatchObject({ ok: true, grant: { version: 2 } });
});

test("A20: an answer lost after the rotation is tried once more, and then the person is asked; no loop", async () => {
  server.mishaps.push("lost_response");
  expire();
  expect(await token()).toEqual({ ok: false, need: "consent", reason: "invalid_grant" });
  expect(refreshes()).toBe(2);
  expect(await token(1)).toEqual({ ok: false, need: "consent", reason: "invalid_grant" });
  expect(refreshes()).toBe(2);
  expect(await stored()).toMatchObject({ status: "needs_consent", version: 1 });
});

test("an authorization server in trouble is not the person's affair: later, and not asked by every call", async () => {
  server.mishaps.push("error", "error", "error");
  expire();
  expect(await token()).toMatchObject({ ok: false, need: "later" });
  expect(await token()).toMatchObject({ ok: false, need: "later" });
  // A 500 may have done something: it is tried once more, after a pause.
  expect(refreshes()).toBe(2);
  expect(await stored()).toMatchObject({ status: "active", lease: null });
  server.mishaps.length = 0;
  ahead += 10_000;
  expect(await token()).toMatchObject({ ok: true, grant: { version: 2 } });
});

test("while the old token still serves, trouble is not even noticed", async () => {
  server.mishaps.push("error", "error");
  ahead += 59.5 * MINUTE;
  expect(await token()).toMatchObject({ ok: true, grant: { version: 1 } });
  expect(refreshes()).toBe(2);
});

test.each(["malformed_id_token", "no_token_type"] as const)(
  "rule 4: an answer with a %s loses nothing",
  async (mishap) => {
    server.mishaps.push(mishap);
    expire();
    expect(await token()).toMatchObject({ ok: true, grant: { version: 2 } });
    expire();
    expect(await token()).toMatchObject({ ok: true, grant: { version: 3 } });
  },
);

test("somebody else's newer tokens are kept, not overwritten", async () => {
  server.knobs.tokenLatencyMs = 300;
  expire();
  const refreshing = token();
  await expect.poll(refreshes).toBe(1);
  // A new consent finishes meanwhile.
  server.knobs.tokenLatencyMs = 0;
  await grantByConsent();
  const mine = await stored();
  expect(await refreshing).toMatchObject({ ok: true, grant: { version: mine.version } });
  expect(await stored()).toMatchObject({ version: mine.version, status: "active" });
});

test("revoked during a refresh stays revoked", async () => {
  server.knobs.tokenLatencyMs = 300;
  expire();
  const refreshing = token();
  await expect.poll(refreshes).toBe(1);
  await stores[1]?.grants.revoke(KEY, 9_000, []);
  expect(await refreshing).toMatchObject({ ok: false, need: "consent" });
  expect(await stored()).toMatchObject({ status: "revoked" });
});

test.each([
  [
    "issuer_changed",
    (own: Binding): Binding => ({ ...own, server: { ...own.server, issuer: "https://evil.example" } }),
  ],
  ["client_changed", (own: Binding): Binding => ({ ...own, clientGeneration: "2" })],
  ["resource_changed", (own: Binding): Binding => ({ ...own, resource: "https://elsewhere.example" })],
])("A7: %s: the tokens are not used, not sent, and a new consent is needed", async (reason, change) => {
  expire();
  const outcome = await first(desks).token(context(), KEY, change(binding));
  expect(outcome).toEqual({ ok: false, need: "consent", reason });
  expect(refreshes()).toBe(0);
  expect(await stored()).toMatchObject({ status: "needs_consent", reason });
});

test("a refused token is refreshed once; a newer one that is there already is used instead", async () => {
  const rejected = (version: number) => first(desks).rejected(context(), KEY, binding, version);
  expect(await rejected(1)).toMatchObject({ ok: true, grant: { version: 2 } });
  expect(await rejected(1)).toMatchObject({ ok: true, grant: { version: 2 } });
  expect(refreshes()).toBe(1);
});

test("without a refresh token the end of the token is the end of the grant", async () => {
  await grantByConsent({ hasRefreshToken: false });
  expect(await token()).toMatchObject({ ok: true });
  expire();
  expect(await token()).toEqual({ ok: false, need: "consent", reason: "token_expired" });
});

test("a refresher that died holds nobody up for longer than its lease", async () => {
  expire();
  await leaseOfTheDead(1_000);
  expect(await token(1)).toMatchObject({ ok: true, grant: { version: 2 } });
  expect(refreshes()).toBe(1);
});

async function leaseOfTheDead(forMs: number): Promise<void> {
  const now = clock.now();
  const { version } = await stored();
  await first(stores).grants.lease({ key: KEY, version, lease: "w_dead", leaseUntil: now + forMs, now });
}

const unavailable = () => new BrokerError("unavailable", { what: "database", passing: true });

test("a database that is silent while new tokens are kept: the others wait for them, and no token is sent twice", async () => {
  const { grants } = first(stores);
  const { refreshed } = grants;
  const others: ReturnType<typeof token>[] = [];
  // Two connections in turn say nothing until their time is over.
  let silent = 2;
  grants.refreshed = async (...args) => {
    if (silent-- <= 0) return refreshed(...args);
    ahead += 38_000;
    if (others.length === 0) others.push(token(1));
    throw unavailable();
  };
  expire();
  expect(await token()).toMatchObject({ ok: true, grant: { version: 2 } });
  expect(await Promise.all(others)).toMatchObject([{ ok: true, grant: { version: 2 } }]);
  expect(refreshes()).toBe(1);
  expect(await stored()).toMatchObject({ status: "active", version: 2, lease: null });
});

test("who waits for another's refresh is told to come later, each after their own time, and nobody is asked", async () => {
  expire();
  await leaseOfTheDead(110_000);
  const scripted = scriptedClock(clock.now());
  const desk = deskOf(first(stores), { clock: scripted });
  const told: string[] = [];
  const ask = (name: string) =>
    desk.token(context(), KEY, binding).then((outcome) => {
      told.push(name);
      return outcome;
    });
  // What a move of the clock sets off reads files, so it is over before long.
  const passes = async (ms: number) => {
    scripted.advance(ms);
    await new Promise((resolve) => setTimeout(resolve, 50));
  };
  const asked = [ask("ann")];
  await passes(30_000);
  asked.push(ask("bob"));
  await passes(0);
  await passes(16_000);
  await expect.poll(() => told).toEqual(["ann"]);
  await passes(30_000);
  const later = { ok: false, need: "later", message: "another refresh of this grant takes too long" };
  expect(await Promise.all(asked)).toMatchObject([later, later]);
  expect(refreshes()).toBe(0);
  expect(await stored()).toMatchObject({ status: "active", lease: "w_dead" });
});

test("a replica that cannot open the tokens does not keep the lease: another one refreshes at once", async () => {
  expire();
  const stranger = createSealer({ keyring: parseKeyring(`x:${randomBytes(32).toString("base64")}`), suite });
  const desk = deskOf(first(stores), { sealer: stranger });
  expect(await desk.token(context(), KEY, binding)).toMatchObject({ ok: false, need: "later" });
  expect(await stored()).toMatchObject({ status: "active", lease: null });
  expect(await token(1)).toMatchObject({ ok: true, grant: { version: 2 } });
  expect(refreshes()).toBe(1);
});

test("tokens that could not be kept, and a lease that could not be given back, are a failure for now", async () => {
  const { grants } = first(stores);
  grants.refreshed = async () => {
    ahead += 38_000;
    throw unavailable();
  };
  grants.release = async () => {
    throw unavailable();
  };
  expire();
  expect(await token()).toMatchObject({ ok: false, need: "later" });
  expect(refreshes()).toBe(1);
});

test("a refresh that ended with its request holds nobody up for longer than its lease", async () => {
  expire();
  const scripted = scriptedClock(clock.now());
  let opened = 0;
  const hanging: typeof sealer = {
    ...sealer,
    open: (...box) => (opened++ === 0 ? new Promise(() => {}) : sealer.open(...box)),
  };
  const desk = deskOf(first(stores), {
    clock: { ...scripted, cutsAfterMs: 25_000 },
    sealer: hanging,
  });
  void desk.token(context(), KEY, binding);
  await expect.poll(async () => (await stored()).lease).not.toBeNull();
  const ask = async () => {
    let outcome: TokenOutcome | null = null;
    void desk.token(context(), KEY, binding).then((came) => (outcome = came));
    await expect
      .poll(() => (scripted.advance(1_000), outcome), { timeout: 20_000, interval: 10 })
      .not.toBeNull();
    return outcome;
  };
  expect(await ask()).toMatchObject({ ok: false, need: "later" });
  expect(refreshes()).toBe(0);
  scripted.advance(110_000);
  expect(await ask()).toMatchObject({ ok: true, grant: { version: 2 } });
  expect(refreshes()).toBe(1);
});
