import { createCache } from "./cache.ts";
import { auditEntry, type Context } from "./context.ts";
import { isRefusal } from "./errors.ts";
import { type Grant, grantAad, type GrantKey, type NewTokens } from "./grants.ts";
import { isJsonObject, type Json } from "./json.ts";
import type { AuthServer, OAuth, OAuthClient, OAuthFailure, RawTokens } from "./oauth.ts";
import type { World } from "./ports.ts";

/** What a grant's tokens may be used with; anything else is another grant (threats, rule 8). */
export type Binding = {
  /** The connection's name, for the audit. */
  connection: string;
  server: AuthServer;
  client: OAuthClient;
  /** Changes with the registration: tokens of one client are nothing to another. */
  clientGeneration: string;
  resource: string | null;
  params: Record<string, string>;
  quirks: string | null;
  /** Whether a refresh names its scopes: as granted, or not at all for servers that refuse them. */
  refreshScope: "granted" | "omit";
};

/**
 * What came of asking for a token. `later`: the authorization server is in trouble and the person is not (rule 6); never
 * turned into a question.
 */
export type TokenOutcome =
  | { ok: true; accessToken: string; grant: Grant }
  | { ok: false; need: "consent"; reason: string }
  /** `clientRefused`: it is our client that is not known there any more. */
  | { ok: false; need: "later"; message: string; clientRefused: boolean };

/** The one place that refreshes (DESIGN 10; the ten rules of the threat model, by number). */
export type TokenDesk = {
  /**
   * A token that may be sent now: the stored one, refreshed first when it is about to end. However many callers and
   * replicas ask at once, the authorization server sees one request.
   */
  token: (context: Context, key: GrantKey, binding: Binding) => Promise<TokenOutcome>;
  /** The server refused the token of `version`: a newer one if there is one, else a refresh, once. */
  rejected: (context: Context, key: GrantKey, binding: Binding, version: number) => Promise<TokenOutcome>;
};

type Outside = Pick<World, "clock" | "newId" | "sealer" | "store" | "log"> & { oauth: OAuth };

export function createTokenDesk(outside: Outside): TokenDesk {
  // Spares the others of this process their waiting in the store; what holds between replicas is the lease alone.
  const underWay = new Map<string, Promise<Attempt>>();
  const failedLately = createCache<Attempt>({ max: MAX_FAILED, now: outside.clock.now });
  const waiting = new Map<string, Promise<void>>();

  async function obtain(
    context: Context,
    key: GrantKey,
    binding: Binding,
    staleVersion: number,
  ): Promise<TokenOutcome> {
    const until = outside.clock.now() + WAIT_MS;
    for (let round = 0; ; round++) {
      if (round > 0 && (context.signal.aborted || outside.clock.now() >= until)) {
        const message = "another refresh of this grant takes too long";
        return { ok: false, need: "later", message, clientRefused: false };
      }
      const grant = await outside.store.grants.get(key);
      const state = stateOf(grant, binding, { now: outside.clock.now(), staleVersion });
      switch (state.kind) {
        case "consent":
          return { ok: false, need: "consent", reason: state.reason };
        case "foreign":
        case "ended":
          await failGrant(outside, context, { ...state, connection: binding.connection });
          continue;
        case "fresh":
          return tokenOf(outside, state.grant);
        case "due": {
          const attempt = isLeased(state.grant) ? BUSY : await attemptOnce(context, state.grant, binding);
          if (attempt.kind === "moved") continue;
          // About to end is not ended: while somebody else refreshes, or cannot, the old one still serves.
          if (state.stillGood) return tokenOf(outside, state.grant);
          if (attempt.kind === "failed") {
            const { message, clientRefused } = attempt;
            return { ok: false, need: "later", message, clientRefused };
          }
          await leftOr(context.signal, waitOnce(state.grant));
        }
      }
    }
  }

  /** Somebody has it: until the lease is over there is nothing to try. */
  function isLeased({ leaseUntil }: Grant): boolean {
    return leaseUntil !== null && leaseUntil > outside.clock.now();
  }

  /** Until somebody else's refresh is done, or its lease over. However many wait here, one of them looks. */
  function waitOnce(grant: Grant): Promise<void> {
    const id = `${grant.id}:${grant.version}`;
    const running = waiting.get(id);
    if (running) return running;
    const started = waitFor(outside, grant).finally(() => waiting.delete(id));
    waiting.set(id, started);
    return started;
  }

  function attemptOnce(context: Context, grant: Grant, binding: Binding): Promise<Attempt> {
    const id = `${grant.id}:${grant.version}`;
    const running = underWay.get(id);
    if (running) return running;
    const failed = failedLately.get(id);
    if (failed) return Promise.resolve(failed);
    const started = attempt(outside, context, grant, binding)
      .then((done) => {
        if (done.kind === "failed") failedLately.set(id, done, { ttlMs: BACK_OFF_MS });
        return done;
      })
      .finally(() => underWay.delete(id));
    underWay.set(id, started);
    return started;
  }

  return {
    token: (context, key, binding) => obtain(context, key, binding, NO_VERSION),
    rejected: (context, key, binding, version) => obtain(context, key, binding, version),
  };
}

const NO_VERSION = -1;
/** The longest a token request takes. */
const REQUEST_MS = 15_000;
/** Rule 1: two requests (the second after a lost answer), the pause between them, the write, and room to spare. */
const LEASE_MS = 2 * REQUEST_MS + 10_000;
const WAIT_MS = LEASE_MS + 5_000;
const POLL_MS = 50;
const MAX_POLL_MS = 1_000;
/** A token that was made so lately is served, however soon its server says that it ends: another would be no better. */
const JUST_MADE_MS = 5_000;
/** Rule 6: a server in trouble is not asked again by every call. */
const BACK_OFF_MS = 3_000;
const MAX_FAILED = 10_000;
/** Rule 6: before the one retry of a request whose answer was lost. */
const PAUSE_MS = 1_000;
/** Rule 7: a token without an end is taken to live this long. */
const UNSAID_LIFE_MS = 10 * 60_000;
/** Refreshed so long before its end, but not in the first four fifths of a short life. */
const AHEAD_MS = 60_000;

/** Between once and twice as long, so that those who wait do not all come at once. */
function jittered(ms: number, newId: World["newId"]): number {
  return ms + (ms * Number.parseInt(newId("w").slice(-4), 16)) / 0xffff;
}

async function waitFor({ store, clock, newId }: Outside, grant: Grant): Promise<void> {
  const until = clock.now() + WAIT_MS;
  for (let pause = POLL_MS; clock.now() < until; pause = Math.min(2 * pause, MAX_POLL_MS)) {
    await clock.sleep(jittered(pause, newId));
    const row = await store.grants.get(keyOf(grant));
    const isSame = row?.version === grant.version && row.status === grant.status;
    if (!isSame || row.leaseUntil === null || row.leaseUntil <= clock.now()) return;
  }
}

/** The work of many is not given up because one of them leaves; that one need not wait for it. */
async function leftOr(signal: AbortSignal, work: Promise<void>): Promise<void> {
  const { promise: left, resolve } = Promise.withResolvers<void>();
  const leave = () => resolve();
  if (signal.aborted) leave();
  signal.addEventListener("abort", leave, { once: true });
  await Promise.race([work, left]);
  signal.removeEventListener("abort", leave);
}

type State =
  | { kind: "consent"; reason: string }
  | { kind: "foreign" | "ended"; grant: Grant; reason: string }
  | { kind: "fresh"; grant: Grant }
  | { kind: "due"; grant: Grant; stillGood: boolean };

function stateOf(
  grant: Grant | null,
  binding: Binding,
  { now, staleVersion }: { now: number; staleVersion: number },
): State {
  if (!grant) return { kind: "consent", reason: "none" };
  if (grant.status !== "active") return { kind: "consent", reason: grant.reason ?? grant.status };
  const foreign = foreignFault(grant, binding);
  if (foreign !== null) return { kind: "foreign", grant, reason: foreign };
  const isStale = grant.version === staleVersion;
  const begun = grant.refreshedAt ?? grant.createdAt;
  const end = grant.expiresAt ?? (grant.hasRefreshToken ? begun + UNSAID_LIFE_MS : Infinity);
  const ahead = Math.min(AHEAD_MS, (end - begun) / 5);
  const isNew = grant.refreshedAt !== null && now - grant.refreshedAt < JUST_MADE_MS;
  if (!isStale && (now < end - ahead || isNew)) return { kind: "fresh", grant };
  if (grant.hasRefreshToken) return { kind: "due", grant, stillGood: !isStale && now < end };
  if (!isStale && now < end) return { kind: "fresh", grant };
  return { kind: "ended", grant, reason: isStale ? "token_rejected" : "token_expired" };
}

function foreignFault(grant: Grant, binding: Binding): string | null {
  if (grant.issuer !== binding.server.issuer) return "issuer_changed";
  if (grant.clientGeneration !== binding.clientGeneration) return "client_changed";
  return grant.resource === binding.resource ? null : "resource_changed";
}

/** `moved`: read again. `busy`: somebody else has the lease. `failed`: not now, and not because of the person. */
type Attempt =
  | { kind: "moved" }
  | { kind: "busy" }
  | { kind: "failed"; message: string; clientRefused: boolean };

const BUSY: Attempt = { kind: "busy" };

async function attempt(outside: Outside, context: Context, grant: Grant, binding: Binding): Promise<Attempt> {
  const { store, clock } = outside;
  const key = keyOf(grant);
  const lease = outside.newId("w");
  const now = clock.now();
  // The lease is for this version alone: who receives it has just re-read the grant (rule 2).
  const held = await store.grants.lease({
    key,
    version: grant.version,
    lease,
    leaseUntil: now + LEASE_MS,
    now,
  });
  if (!held) return (await hasMoved(outside, grant)) ? { kind: "moved" } : { kind: "busy" };
  try {
    return await refreshHeld(outside, context, held, binding, lease);
  } catch (error) {
    // The tokens could not be kept, however often it was tried; the next one to come finds out what is left.
    if (!isRefusal(error, "unavailable")) throw error;
    outside.log("error", "grant_not_kept", { grant: grant.id, err: error });
    return { kind: "failed", message: `${error.details.what} is not available`, clientRefused: false };
  }
}

async function refreshHeld(
  outside: Outside,
  context: Context,
  held: Grant,
  binding: Binding,
  lease: string,
): Promise<Attempt> {
  const { store, clock } = outside;
  let failure = await refreshOnce(outside, context, held, binding);
  if (failure?.kind === "transient" && failure.outcome === "unknown" && !(await hasMoved(outside, held))) {
    await clock.sleep(PAUSE_MS);
    failure = await refreshOnce(outside, context, held, binding);
  }
  if (!failure || (await hasMoved(outside, held))) return { kind: "moved" };
  if (failure.kind === "refused" && failure.error === "invalid_grant") {
    // Rule 5: it was still the token of this version, so it is dead; nothing is deleted.
    await failGrant(outside, context, {
      grant: held,
      reason: "invalid_grant",
      connection: binding.connection,
    });
    return { kind: "moved" };
  }
  await store.grants.release(keyOf(held), lease);
  outside.log("warn", "grant_refresh_failed", { grant: held.id, failure: sentenceOf(failure) });
  const clientRefused = failure.kind === "refused" && CLIENT_ERRORS.has(failure.error);
  return { kind: "failed", message: sentenceOf(failure), clientRefused };
}

/** RFC 6749, 5.2: said about the client, not about the grant. */
const CLIENT_ERRORS = new Set(["invalid_client", "unauthorized_client"]);

async function refreshOnce(
  outside: Outside,
  context: Context,
  grant: Grant,
  binding: Binding,
): Promise<OAuthFailure | null> {
  const tokens = await openTokens(outside, grant);
  if (tokens.refreshToken === null) return { kind: "invalid", message: "the grant has no refresh token" };
  const { server, client, resource, params, quirks } = binding;
  const outcome = await outside.oauth.refresh(
    {
      server,
      client,
      resource,
      params,
      quirks,
      now: outside.clock.now,
      refreshToken: tokens.refreshToken,
      scopes: binding.refreshScope === "omit" ? null : grant.scopes,
      commit: (raw) =>
        keep(outside, context, {
          grant,
          raw: { ...raw, refreshToken: raw.refreshToken ?? tokens.refreshToken },
          binding,
        }),
    },
    // Not the caller's: once asked, the answer must be kept, whoever has left by then.
    AbortSignal.timeout(REQUEST_MS),
  );
  return outcome.ok ? null : outcome.failure;
}

/** Rules 3 and 4: committed before anything is checked, by compare-and-swap; the commit is what is repeated, never the exchange. */
async function keep(
  outside: Outside,
  context: Context,
  { grant, raw, binding }: { grant: Grant; raw: RawTokens; binding: Binding },
): Promise<void> {
  const next = { ...grant, version: grant.version + 1 };
  const body = JSON.stringify({ accessToken: raw.accessToken, refreshToken: raw.refreshToken });
  const tokens: NewTokens = {
    sealed: await outside.sealer.seal(body, grantAad(next)),
    expiresAt: raw.expiresAt,
    hasRefreshToken: raw.refreshToken !== null,
    scopes: raw.scopes ?? grant.scopes,
    at: outside.clock.now(),
  };
  const entry = auditEntry(outside, context, "grant_refreshed", {
    connection: binding.connection,
    detail: { grant: grant.id, version: next.version },
  });
  for (let tries = 1; ; tries++) {
    try {
      const kept = await outside.store.grants.refreshed(keyOf(grant), grant.version, tokens, [entry]);
      // The first try may have been the one that counted, with its answer lost.
      if (!kept && tries === 1) await giveBack(outside, grant, raw, binding);
      return;
    } catch (error) {
      if (!isRefusal(error, "unavailable") || tries >= COMMIT_TRIES) throw error;
      await outside.clock.sleep(COMMIT_PAUSE_MS);
    }
  }
}

/**
 * Tokens that came too late to be kept. Where the grant was taken back meanwhile they must not live on upstream; where
 * somebody else wrote, theirs stay and nothing is revoked, for it may be the same family.
 */
async function giveBack(
  outside: Outside,
  grant: Grant,
  raw: RawTokens,
  { server, client }: Binding,
): Promise<void> {
  const now = await outside.store.grants.get(keyOf(grant));
  const isTakenBack = !now || now.status === "revoked";
  if (!isTakenBack)
    return outside.log("error", "grant_write_lost", { grant: grant.id, version: grant.version });
  if (server.revocationEndpoint === null) return;
  const token = raw.refreshToken ?? raw.accessToken;
  const hint = raw.refreshToken === null ? "access_token" : "refresh_token";
  const told = await outside.oauth.revoke({ server, client, token, hint }, AbortSignal.timeout(REQUEST_MS));
  if (!told.ok) outside.log("warn", "tokens_not_given_back", { grant: grant.id });
}

const COMMIT_TRIES = 20;
const COMMIT_PAUSE_MS = 250;

async function failGrant(
  outside: Outside,
  context: Context,
  { grant, reason, connection }: { grant: Grant; reason: string } & Pick<Binding, "connection">,
): Promise<void> {
  const entry = auditEntry(outside, context, "grant_failed", {
    outcome: "failed",
    connection,
    detail: { grant: grant.id, reason },
  });
  await outside.store.grants.fail(keyOf(grant), grant.version, reason, [entry]);
}

async function hasMoved({ store }: Outside, grant: Grant): Promise<boolean> {
  const now = await store.grants.get(keyOf(grant));
  return now?.version !== grant.version || now.status !== grant.status;
}

function keyOf({ project, connectionId, user }: Grant): GrantKey {
  return { project, connectionId, user };
}

async function tokenOf(outside: Outside, grant: Grant): Promise<TokenOutcome> {
  const { accessToken } = await openTokens(outside, grant);
  return { ok: true, accessToken, grant };
}

async function openTokens(
  { sealer }: Outside,
  grant: Grant,
): Promise<{ accessToken: string; refreshToken: string | null }> {
  const body: Json = JSON.parse(await sealer.open(grant.sealed, grantAad(grant)));
  if (!isJsonObject(body) || typeof body["accessToken"] !== "string")
    throw new Error("a grant's box holds no tokens");
  const { accessToken, refreshToken } = body;
  return { accessToken, refreshToken: typeof refreshToken === "string" ? refreshToken : null };
}

function sentenceOf(failure: OAuthFailure): string {
  switch (failure.kind) {
    case "refused":
      return `the authorization server refused the refresh: ${failure.error}`;
    case "transient":
    case "invalid":
      return failure.message;
  }
}
