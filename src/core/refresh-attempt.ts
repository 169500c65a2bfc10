import type { Context } from "./context.ts";
import { isRefusal } from "./errors.ts";
import { failGrant, keepTokens, keyOfGrant, openTokens, type Outside, REQUEST_MS } from "./grant-tokens.ts";
import type { Grant, GrantKey } from "./grants.ts";
import type { OAuthFailure } from "./oauth.ts";
import type { Ongoing, RefreshHow } from "./observe.ts";
import type { Binding } from "./refresh.ts";
import { KEEP_MS, LONGEST_TRY_MS } from "./until-kept.ts";

/** `moved`: read again. `busy`: somebody else has the lease. `failed`: not now, and not because of the person. */
export type Attempt =
  | { kind: "moved" }
  | { kind: "busy" }
  | { kind: "failed"; message: string; clientRefused: boolean };

export const BUSY: Attempt = { kind: "busy" };

/** One try at a refresh, by whoever gets the lease. */
export async function attemptRefresh(
  outside: Outside,
  context: Context,
  grant: Grant,
  binding: Binding,
): Promise<Attempt> {
  const { store, clock } = outside;
  const key = keyOfGrant(grant);
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
  const place = { project: held.project, connection: binding.connection };
  const ongoing = outside.observer.refreshBegun(place, context.trace ?? null);
  try {
    return await refreshHeld(outside, context, held, binding, { lease, ongoing });
  } catch (error) {
    ongoing.ended("failed");
    // The tokens could not be kept, however often it was tried; the next one to come finds out what is left.
    if (!isRefusal(error, "unavailable")) throw error;
    outside.log("error", "grant_not_kept", { grant: grant.id, err: error });
    await giveUpLease(outside, key, lease);
    return { kind: "failed", message: `${error.details.what} is not available`, clientRefused: false };
  }
}

/** Nothing is under way any more that the others would have to wait for. Where the database is still away, the lease ends by itself. */
async function giveUpLease({ store }: Outside, key: GrantKey, lease: string): Promise<void> {
  try {
    await store.grants.release(key, lease);
  } catch (error) {
    if (!isRefusal(error, "unavailable")) throw error;
  }
}

async function refreshHeld(
  outside: Outside,
  context: Context,
  held: Grant,
  binding: Binding,
  { lease, ongoing }: { lease: string; ongoing: Ongoing<RefreshHow> },
): Promise<Attempt> {
  const { store, clock } = outside;
  let failure = await refreshOnce(outside, context, held, binding);
  if (failure?.kind === "transient" && failure.outcome === "unknown" && !(await hasMoved(outside, held))) {
    await clock.sleep(PAUSE_MS);
    failure = await refreshOnce(outside, context, held, binding);
  }
  if (!failure || (await hasMoved(outside, held))) {
    ongoing.ended("refreshed");
    return { kind: "moved" };
  }
  if (failure.kind === "refused" && failure.error === "invalid_grant") {
    // Rule 5: it was still the token of this version, so it is dead; nothing is deleted.
    await failGrant(outside, context, {
      grant: held,
      reason: "invalid_grant",
      connection: binding.connection,
    });
    ongoing.ended("refused");
    return { kind: "moved" };
  }
  await store.grants.release(keyOfGrant(held), lease);
  ongoing.ended("failed");
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
        keepTokens(outside, context, {
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

async function hasMoved({ store }: Outside, grant: Grant): Promise<boolean> {
  const now = await store.grants.get(keyOfGrant(grant));
  return now?.version !== grant.version || now.status !== grant.status;
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

/**
 * Rule 1: two requests (the second after a lost answer), the pause between them, the write for as long as it is tried, and room to
 * spare. Were it over while the new tokens wait for the database, another replica would spend the old ones once more.
 */
export const LEASE_MS = 2 * REQUEST_MS + KEEP_MS + LONGEST_TRY_MS + 10_000;
/** Rule 6: before the one retry of a request whose answer was lost. */
const PAUSE_MS = 1_000;
