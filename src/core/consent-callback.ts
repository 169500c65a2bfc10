import type { AuthorizationDesk, Way } from "./authorization.ts";
import { consentLink } from "./consent-asking.ts";
import { actorOf, endConsent, overView, refuse, standingRecord } from "./consent-ends.ts";
import { proofOf } from "./consent-proof.ts";
import type { ConsentPages, ConsentView, Visitor } from "./consent-views.ts";
import type { Consent, Flow } from "./consents.ts";
import { auditEntry } from "./context.ts";
import { CONSENT_LEAP, type Grant, grantAad, type GrantKey } from "./grants.ts";
import { issFault, type OAuthFailure, type RawTokens } from "./oauth.ts";
import type { World } from "./ports.ts";
import { consentAad } from "./storage.ts";
import { untilKept } from "./until-kept.ts";

type Outside = { world: World; authorization: AuthorizationDesk };

/** A consent whose state was taken by this callback: nobody else will finish it. */
type Claimed = { consent: Consent; flow: Flow; attempt: string; browserHash: string; requestId: string };

/**
 * The way back from an authorization server (DESIGN 6): redirect, state and browser are claimed in one statement, so that a
 * wrong browser burns nothing; then `iss` (RFC 9207), then `error`, then the exchange, whose tokens are kept before
 * anything about them is checked.
 */
export function createCallback({ world, authorization }: Outside): ConsentPages["callback"] {
  return async (redirectId, params, visitor) => {
    const now = world.clock.now();
    if (!(await world.store.redirects.owner(redirectId, now))) return { kind: "unknown" };
    const state = single(params, "state");
    if (state === null) return { kind: "refused" };
    const stateHash = await world.crypto.sha256(state);
    if (visitor.browser === null) return refusedCallback(world, stateHash, visitor, "no_cookie");
    const browserHash = await world.crypto.sha256(visitor.browser);
    const consent = await world.store.consents.claim({ redirectId, stateHash, browserHash, now });
    if (!consent?.attempt || !consent.sealedFlow) {
      return refusedCallback(world, stateHash, visitor, "not_claimed");
    }
    const { attempt } = consent;
    const aad = consentAad(consent.project, consent.id, attempt);
    // Written by Allow, opened under its own name.
    const flow = JSON.parse(await world.sealer.open(consent.sealedFlow, aad)) as Flow;
    const claimed = { consent, flow, attempt, browserHash, requestId: visitor.requestId };
    return onItsOwnPage(world, consent, await judge({ world, authorization }, claimed, params));
  };
}

/** A callback works once, and people reload what they see: the consent's own page says how it ended as often as they like. */
async function onItsOwnPage(world: World, consent: Consent, end: ConsentView): Promise<ConsentView> {
  if (end.kind !== "over" || end.doneUrl !== null) return end;
  return { kind: "go", url: await consentLink(world, consent.id) };
}

async function refusedCallback(
  world: World,
  stateHash: string,
  { browser, requestId }: Visitor,
  why: string,
): Promise<ConsentView> {
  const consent = await world.store.consents.findByState(stateHash);
  if (!consent) {
    world.log("info", "callback_refused", { why: "unknown_state", requestId });
    return { kind: "refused" };
  }
  const isOwn = browser !== null && consent.browserHash === (await world.crypto.sha256(browser));
  // What ended it happened elsewhere while the person was on the way: that is theirs to know.
  if (consent.status === "failed" && isOwn) return overView(world, consent, consent.browserHash);
  const isLate = consent.stateExpiresAt !== null && consent.stateExpiresAt <= world.clock.now();
  const reason = isLate ? "state_expired" : why === "no_cookie" ? why : "other_browser";
  return refuse(world, consent, { why: reason, requestId });
}

async function judge(outside: Outside, claimed: Claimed, params: URLSearchParams): Promise<ConsentView> {
  const { world, authorization } = outside;
  const { consent, flow } = claimed;
  // RFC 9207, 2.4: a mix-up shows here first, before code, error and error text are looked at (C33 to C35).
  const iss = params.getAll("iss");
  const fault = iss.length > 1 ? "iss_mismatch" : issFault(flow.server, iss[0] ?? null);
  if (fault !== null) return fail(world, claimed, fault);
  if (params.has("error")) {
    const error = single(params, "error") ?? "";
    if (error === "access_denied") return decline(world, claimed);
    return fail(world, claimed, KNOWN_ERRORS.has(error) ? error : "authorization_error");
  }
  const code = single(params, "code");
  if (code === null) return fail(world, claimed, "code_missing");
  const record = await standingRecord(world, consent);
  if ("outcome" in record) return fail(world, claimed, record.outcome);
  const project = await world.store.projects.get(consent.project);
  const proof = project && proofOf(world, project, consent, consent.user);
  // Another proof is asked for by now than the one that was given.
  if (!proof?.ok || proof.proof !== consent.provenBy) return fail(world, claimed, "proof_changed");
  const way = await authorization.known(record);
  // The code is for the client that asked, at the server that it asked (A7).
  const isSame = way?.clientGeneration === flow.clientGeneration && way.server.issuer === flow.server.issuer;
  if (!way || !isSame) return fail(world, claimed, "client_changed");
  return exchange(outside, claimed, { way, code, record });
}

async function exchange(
  { world, authorization }: Outside,
  claimed: Claimed,
  { way, code, record }: { way: Way; code: string; record: Parameters<AuthorizationDesk["renewClient"]>[1] },
): Promise<ConsentView> {
  const { consent, flow, browserHash, requestId } = claimed;
  let kept: Grant | "over" | null = null;
  const outcome = await world.oauth.exchangeCode(
    {
      server: flow.server,
      client: way.client,
      resource: flow.resource,
      params: way.params,
      quirks: way.quirks,
      now: world.clock.now,
      code,
      redirectUri: flow.redirectUri,
      verifier: flow.verifier,
      commit: async (raw) => {
        kept = (await keep(world, claimed, raw)) ?? "over";
        if (kept === "over") await giveBack(world, claimed, way, raw);
        else world.observer.consentBecame("connected");
      },
    },
    // Not the visitor's: once asked, the answer must be kept, whoever has left by then.
    AbortSignal.timeout(EXCHANGE_MS),
  );
  const ended = kept as Grant | "over" | null;
  if (ended !== null) {
    if (ended !== "over" && !outcome.ok) {
      // The tokens are there and will show what they are worth; the person has done their part.
      world.log("warn", "consent_answer_odd", {
        consent: consent.id,
        why: sentenceOf(outcome.failure),
        requestId,
      });
    }
    const now = await world.store.consents.find(consent.id);
    return now ? overView(world, now, browserHash) : { kind: "unknown" };
  }
  if (outcome.ok) throw new Error("an exchange gave tokens without keeping them");
  world.log("warn", "consent_exchange_failed", {
    consent: consent.id,
    why: sentenceOf(outcome.failure),
    requestId,
  });
  const { failure } = outcome;
  if (failure.kind === "refused" && CLIENT_ERRORS.has(failure.error)) {
    const renewed = await authorization.renewClient(
      actorOf(consent, requestId),
      record,
      way.clientGeneration,
    );
    return fail(world, claimed, renewed ? "client_renewed" : "client_refused");
  }
  return fail(world, claimed, failure.kind === "transient" ? "transient" : "exchange_failed");
}

const EXCHANGE_MS = 20_000;
const CLIENT_ERRORS = new Set(["invalid_client", "unauthorized_client"]);
/** Codes of RFC 6749 (4.1.2.1), OpenID Connect Core (3.1.2.6) and RFC 8707: the only words of a server that go anywhere. */
const KNOWN_ERRORS = new Set([
  "invalid_request",
  "unauthorized_client",
  "unsupported_response_type",
  "invalid_scope",
  "server_error",
  "temporarily_unavailable",
  "interaction_required",
  "login_required",
  "account_selection_required",
  "consent_required",
  "invalid_target",
]);

/** The grant and the end of the consent in one step. The commit is what is repeated, never the exchange (threats, rule 4). */
async function keep(world: World, claimed: Claimed, raw: RawTokens): Promise<Grant | null> {
  const { consent, flow, attempt, requestId } = claimed;
  const key: GrantKey = {
    project: consent.project,
    connectionId: consent.connectionId,
    user: consent.user,
  };
  return untilKept(world.clock, async () => {
    const before = await world.store.grants.get(key);
    const at = world.clock.now();
    const made = {
      ...key,
      id: before?.id ?? world.newId("grant"),
      status: "active" as const,
      reason: null,
      issuer: flow.server.issuer,
      resource: flow.resource,
      clientGeneration: flow.clientGeneration,
      scopes: raw.scopes ?? flow.scopes ?? [],
      version: before ? before.version + CONSENT_LEAP : 1,
      expiresAt: raw.expiresAt,
      hasRefreshToken: raw.refreshToken !== null,
      createdAt: at,
      refreshedAt: null,
      lastUsedAt: null,
      lastUsedBy: null,
      leaseUntil: null,
      lease: null,
    };
    const body = JSON.stringify({ accessToken: raw.accessToken, refreshToken: raw.refreshToken });
    const grant: Grant = { ...made, sealed: await world.sealer.seal(body, grantAad(made)) };
    const entry = auditEntry(world, actorOf(consent, requestId), "grant_made", {
      connection: consent.connection,
      agent: consent.agent,
      detail: {
        grant: grant.id,
        consent: consent.id,
        issuer: grant.issuer,
        scopes: grant.scopes.join(" "),
        renewsItself: grant.hasRefreshToken,
      },
    });
    const put = await world.store.grants.put(grant, { id: consent.id, attempt, at }, [entry]);
    return put ?? ((await hasCounted(world, claimed)) ? grant : null);
  });
}

/** A commit whose answer was lost on its way: the consent says whether it was this attempt that ended it. */
async function hasCounted({ store }: World, { consent, attempt }: Claimed): Promise<boolean> {
  const now = await store.consents.find(consent.id);
  return now?.status === "connected" && now.attempt === attempt;
}

/** Tokens that nobody may have: the user was blocked, or the connection changed, while they were on their way. */
async function giveBack(world: World, { consent, flow }: Claimed, way: Way, raw: RawTokens): Promise<void> {
  if (flow.server.revocationEndpoint === null) return;
  const token = raw.refreshToken ?? raw.accessToken;
  const hint = raw.refreshToken === null ? "access_token" : "refresh_token";
  const outcome = await world.oauth.revoke(
    { server: flow.server, client: way.client, token, hint },
    AbortSignal.timeout(EXCHANGE_MS),
  );
  if (!outcome.ok) world.log("warn", "tokens_not_given_back", { consent: consent.id });
}

function fail(world: World, claimed: Claimed, outcome: string): Promise<ConsentView> {
  const { consent, ...own } = claimed;
  return endConsent(world, consent, { status: "failed", outcome, ...own });
}

function decline(world: World, claimed: Claimed): Promise<ConsentView> {
  const { consent, ...own } = claimed;
  return endConsent(world, consent, { status: "declined", outcome: "access_denied", ...own });
}

/** A parameter that is there once. RFC 6749, 3.1: none may be there twice. */
function single(params: URLSearchParams, name: string): string | null {
  const [value, ...others] = params.getAll(name);
  return value === undefined || value === "" || others.length > 0 ? null : value;
}

function sentenceOf(failure: OAuthFailure): string {
  return failure.kind === "refused" ? failure.error : failure.message;
}
