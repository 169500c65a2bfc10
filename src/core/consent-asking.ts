import type { Way } from "./authorization.ts";
import type { Connection } from "./connection.ts";
import type { Consent } from "./consents.ts";
import { proofOf } from "./consent-proof.ts";
import { auditEntry, type Context } from "./context.ts";
import { MAX_TOKENS, wordsOf } from "./scopes.ts";
import type { Grant } from "./grants.ts";
import type { ConsentId, UserId } from "./ids.ts";
import { hasPrefix } from "./ids.ts";
import { issuerOf } from "./issuers.ts";
import type { Challenge, World } from "./ports.ts";
import type { Key } from "./storage.ts";

/** Why a person is asked, and for what. */
export type Question = { why: string; scopes: string[] | null; newScopes: string[] };

export type Asked = { ok: true; consent: Consent } | { ok: false; message: string };

/**
 * Opens a consent for the context's user, or finds the one that is open. Where the question is wider than it, it is widened
 * as long as nobody is on the way to the authorization server. Says why not, where people cannot be proven.
 */
export async function askForConsent(
  world: World,
  context: Context & { user: UserId },
  connection: Connection,
  question: Question,
): Promise<Asked> {
  const asker = await askerOf(world, context);
  const proof = proofOf(world, context.project, asker, context.user);
  if (!proof.ok) return { ok: false, message: proof.message };
  const now = world.clock.now();
  const id = world.newId("oauthreq");
  const consent: Consent = {
    id,
    project: connection.project,
    connectionId: connection.id,
    connection: connection.name,
    generation: connection.generation,
    user: context.user,
    principal: context.caller.principal,
    callerName: context.caller.name,
    agent: context.agent ?? null,
    requestId: context.requestId,
    confirmUrl: asker?.confirmUrl ?? null,
    doneUrl: asker?.doneUrl ?? null,
    ...question,
    status: "open",
    outcome: null,
    createdAt: now,
    expiresAt: now + (proof.proof === "possession" ? POSSESSION_MS : LIFE_MS),
    shownAt: null,
    endedAt: null,
    browserHash: null,
    provenBy: null,
    redirectId: null,
    stateHash: null,
    stateExpiresAt: null,
    attempt: null,
    sealedFlow: null,
  };
  const entry = auditEntry(world, context, "consent_opened", {
    connection: connection.name,
    agent: consent.agent,
    detail: { consent: id, why: question.why, scopes: question.scopes?.join(" ") ?? null },
  });
  const opened = await world.store.consents.open(consent, [entry]);
  for (const status of ["expired", "failed"] as const)
    world.observer.consentBecame(status, opened.ended[status]);
  if (opened.isNew) world.observer.consentBecame("opened");
  const open = await readdressed(world, opened.consent, consent);
  return { ok: true, consent: await widened(world, open, question) };
}

const LIFE_MS = 60 * 60_000;
/** Whoever has the link is the person: it must not lie about for long. */
const POSSESSION_MS = 10 * 60_000;

/** The runtime that asks last gets its person back, unless the person is on the way already. */
async function readdressed(
  world: World,
  consent: Consent,
  { confirmUrl, doneUrl }: Pick<Consent, "confirmUrl" | "doneUrl">,
): Promise<Consent> {
  if (consent.confirmUrl === confirmUrl && consent.doneUrl === doneUrl) return consent;
  return (await world.store.consents.readdress(consent.id, { confirmUrl, doneUrl })) ?? consent;
}

async function widened(world: World, consent: Consent, question: Question): Promise<Consent> {
  const had = new Set(consent.scopes);
  const missing = (question.scopes ?? []).filter((scope) => !had.has(scope));
  // A server that wants something else each time does not make a page that nobody reads to its end.
  if (missing.length === 0 || had.size + missing.length > MAX_TOKENS) return consent;
  const wider = await world.store.consents.widen(consent.id, {
    scopes: [...had, ...missing],
    newScopes: [...new Set([...consent.newScopes, ...question.newScopes])],
    why: question.why,
  });
  return wider ?? consent;
}

/** What registered the URLs of whoever asks: its key, or the entry of the issuer that vouches for it. Null: it is gone. */
async function askerOf(
  world: World,
  { caller, project }: Context,
): Promise<Pick<Key, "confirmUrl" | "doneUrl"> | null> {
  if (caller.issuer !== undefined) return issuerOf(project.settings.issuers, caller.issuer)?.entry ?? null;
  if (caller.keyId === null) return null;
  return caller.project === null
    ? world.store.keys.getBootstrap()
    : world.store.keys.get(caller.project, caller.keyId);
}

/** What the first question, or the one after a grant that has ended, asks for (C27, C28, C42). */
export function scopesToAsk(way: Way, challenge: Challenge | null, grant: Grant | null): string[] | null {
  if (way.scopes !== null) return way.scopes;
  const base = wordsOf(challenge?.scope) ?? way.scopesSupported;
  if (base === null || base.length === 0) return null;
  // What steps up have added is kept, as long as it was the same server's to give.
  const kept = grant?.issuer === way.server.issuer && grant.resource === way.resource ? grant.scopes : [];
  const offline = way.server.scopesSupported?.includes("offline_access") ? ["offline_access"] : [];
  return [...new Set([...kept, ...base, ...offline])];
}

/** The person's link: the consent's id with a proof that we made it, the same as long as the keyring lasts. Never stored. */
export async function consentLink(world: Pick<World, "signer" | "publicUrl">, id: string): Promise<string> {
  return `${world.publicUrl}/consent/${await ticketOf(world, id)}`;
}

async function ticketOf({ signer }: Pick<World, "signer">, id: string): Promise<string> {
  return `${id.slice(PREFIX.length)}.${await signer.sign(PURPOSE, id)}`;
}

/** The consent that a ticket is for. Null: it is not one of ours. */
export async function consentIn(
  { signer }: Pick<World, "signer">,
  ticket: string,
): Promise<ConsentId | null> {
  const [digits, mac, ...rest] = ticket.split(".");
  if (digits === undefined || mac === undefined || rest.length > 0 || !/^[0-9a-f]{50}$/.test(digits))
    return null;
  const id = `${PREFIX}${digits}`;
  if (!hasPrefix("oauthreq", id)) return null;
  return (await signer.isOurs(PURPOSE, id, mac)) ? id : null;
}

const PREFIX = "oauthreq_";
const PURPOSE = "consent";
