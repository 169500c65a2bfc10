import type { Way } from "./authorization.ts";
import type { Consent } from "./consents.ts";
import type { World } from "./ports.ts";

/** A page that shows nothing of what is asked for: the one that offers to sign in. */
export const NOTHING_SHOWN = "0";

/** The token of a form of ours: bound to consent and browser, and to what the page around it showed. */
export async function formToken(
  { signer }: Pick<World, "signer">,
  consent: Consent,
  { browserHash, shown }: { browserHash: string; shown: string },
): Promise<string> {
  return `${shown}.${await signer.sign(PURPOSE, textOf(consent, browserHash, shown))}`;
}

/** What the page showed from which a token comes. Null: the token is none of ours for this consent and browser. */
export async function shownBy(
  { signer }: Pick<World, "signer">,
  consent: Consent,
  { browserHash, token }: { browserHash: string; token: string },
): Promise<string | null> {
  const [shown = "", mac = "", ...rest] = token.split(".");
  if (rest.length > 0) return null;
  return (await signer.isOurs(PURPOSE, textOf(consent, browserHash, shown), mac)) ? shown : null;
}

/**
 * What a person who reads the page decides about: where Allow leads, where the code goes, for which server and which scopes. Allow
 * does this or nothing: whatever has changed since is shown first.
 */
export async function digestOf(
  { crypto }: Pick<World, "crypto">,
  consent: Consent,
  { server, clientGeneration, resource }: Way,
): Promise<string> {
  const { issuer, authorizationEndpoint, tokenEndpoint } = server;
  const scopes = consent.scopes?.toSorted((one, other) => (one < other ? -1 : 1)) ?? null;
  const facts = [
    clientGeneration,
    issuer,
    authorizationEndpoint,
    tokenEndpoint,
    resource,
    scopes,
    consent.agent,
    consent.callerName,
  ];
  return crypto.sha256(JSON.stringify(facts));
}

const PURPOSE = "consent-form";

const textOf = ({ id }: Consent, browserHash: string, shown: string) => `${id} ${browserHash} ${shown}`;
