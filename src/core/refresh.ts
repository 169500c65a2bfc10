import { createCache } from "./cache.ts";
import type { Context } from "./context.ts";
import { failGrant, keyOfGrant, openTokens, type Outside, REQUEST_MS } from "./grant-tokens.ts";
import type { Grant, GrantKey } from "./grants.ts";
import { createUnderWay } from "./joined.ts";
import type { AuthServer, OAuthClient } from "./oauth.ts";
import type { Clock, World } from "./ports.ts";
import { type Attempt, attemptRefresh, BUSY, LEASE_MS } from "./refresh-attempt.ts";
import { stateOf } from "./refresh-state.ts";

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

export function createTokenDesk(outside: Outside): TokenDesk {
  // Spares the others of this process their waiting in the store; what holds between replicas is the lease alone.
  const underWay = createUnderWay<string, Attempt>(outside.clock);
  const failedLately = createCache<Attempt>({ max: MAX_FAILED, now: outside.clock.now });
  const waiting = createUnderWay<string, void>(outside.clock);

  async function obtain(
    context: Context,
    key: GrantKey,
    binding: Binding,
    staleVersion: number,
  ): Promise<TokenOutcome> {
    const since = outside.clock.now();
    const until = since + WAIT_MS;
    for (let round = 0; ; round++) {
      if (round > 0 && context.signal.aborted) return TOO_LONG;
      const isLate = round > 0 && outside.clock.now() >= until;
      const grant = await outside.store.grants.get(key);
      const state = stateOf(grant, binding, { now: outside.clock.now(), since, staleVersion });
      // However late it is, what came of the waiting counts.
      if (isLate && state.kind !== "fresh" && state.kind !== "consent") return TOO_LONG;
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
          await leftOr(outside.clock, waitOnce(state.grant), { signal: context.signal, until });
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
    return waiting.join(id, { begin: () => waitFor(outside, grant), withinMs: WAIT_MS + MARGIN_MS });
  }

  function attemptOnce(context: Context, grant: Grant, binding: Binding): Promise<Attempt> {
    const id = `${grant.id}:${grant.version}`;
    const failed = failedLately.get(id);
    if (failed) return Promise.resolve(failed);
    const begin = async () => {
      const done = await attemptRefresh(outside, context, grant, binding);
      if (done.kind === "failed") failedLately.set(id, done, { ttlMs: BACK_OFF_MS });
      return done;
    };
    // Should it be begun anew, the lease in the row still says whether there is anything to try.
    return underWay.join(id, { begin, withinMs: LEASE_MS + MARGIN_MS });
  }

  return {
    token: (context, key, binding) => obtain(context, key, binding, NO_VERSION),
    rejected: (context, key, binding, version) => obtain(context, key, binding, version),
  };
}

const NO_VERSION = -1;
/**
 * Of one caller, for somebody else's refresh: as long as that takes while the database answers. A lease is longer; who has waited for
 * this long is told to come again.
 */
const WAIT_MS = 2 * REQUEST_MS + 15_000;
const TOO_LONG: TokenOutcome = {
  ok: false,
  need: "later",
  message: "another refresh of this grant takes too long",
  clientRefused: false,
};
/** Room for what a wait or an attempt reads and writes beside its own limits. */
const MARGIN_MS = 60_000;
const POLL_MS = 50;
const MAX_POLL_MS = 1_000;
/** Rule 6: a server in trouble is not asked again by every call. */
const BACK_OFF_MS = 3_000;
const MAX_FAILED = 10_000;

/** Between once and twice as long, so that those who wait do not all come at once. */
function jittered(ms: number, newId: World["newId"]): number {
  return ms + (ms * Number.parseInt(newId("w").slice(-4), 16)) / 0xffff;
}

async function waitFor({ store, clock, newId }: Outside, grant: Grant): Promise<void> {
  const until = clock.now() + WAIT_MS;
  for (let pause = POLL_MS; clock.now() < until; pause = Math.min(2 * pause, MAX_POLL_MS)) {
    await clock.sleep(jittered(pause, newId));
    const row = await store.grants.get(keyOfGrant(grant));
    const isSame = row?.version === grant.version && row.status === grant.status;
    if (!isSame || row.leaseUntil === null || row.leaseUntil <= clock.now()) return;
  }
}

/** The work of many is not given up because one of them leaves, or has waited long enough; that one need not wait for it. */
async function leftOr(
  clock: Clock,
  work: Promise<void>,
  { signal, until }: { signal: AbortSignal; until: number },
): Promise<void> {
  const over = new AbortController();
  try {
    await Promise.race([work, clock.sleep(until - clock.now(), AbortSignal.any([signal, over.signal]))]);
  } finally {
    over.abort();
  }
}

async function tokenOf(outside: Outside, grant: Grant): Promise<TokenOutcome> {
  const { accessToken } = await openTokens(outside, grant);
  return { ok: true, accessToken, grant };
}
