import type { Fault } from "../errors.ts";
import { issuersNamed, type TokenIssuer } from "../issuers.ts";
import { issuerFaults } from "../oauth-app-rules.ts";
import type { Settings, SignInSettings } from "../project.ts";
import type { CheckTarget } from "../url-rules.ts";

/** A project's OpenID provider as an admin writes it. `clientSecret` undefined: as before; null: a public client. */
export type SignInChange = SignInSettings & { clientSecret?: string | null | undefined };

export function signInOf({ name, issuer, clientId }: SignInChange): SignInSettings {
  return { name, issuer, clientId };
}

/** Null: the claim is none that can name users, which is among the faults. */
export function assertedOf({
  issuer,
  claim,
}: {
  issuer: string;
  claim: string;
}): Settings["users"]["assertedAs"] {
  return claim === "sub" || claim === "oid" || claim === "email" ? { issuer, claim } : null;
}

/** The faults of the sign-in and of what asserted names mean (DESIGN 5, 6). */
export function signInFaults(
  given: {
    signIn: SignInSettings | null;
    issuers: readonly TokenIssuer[];
    asserted: { issuer: string; claim: string } | null;
    secret: string | null;
  },
  checkTarget: CheckTarget,
): Fault[] {
  const { signIn, issuers, asserted, secret } = given;
  return [
    ...(signIn ? providerFaults(signIn, checkTarget) : []),
    ...(secret === null || /^[\x20-\x7e]{1,8192}$/.test(secret)
      ? []
      : [{ param: "signIn.clientSecret", message: "must have 1 to 8192 visible ASCII characters" }]),
    ...(asserted ? assertedFaults(asserted, { signIn, issuers }) : []),
  ];
}

function providerFaults({ name, issuer, clientId }: SignInSettings, checkTarget: CheckTarget): Fault[] {
  const faults = issuerFaults(issuer, { param: "signIn.issuer", checkTarget });
  if (!REALM_NAME.test(name) || REALMS.has(name)) {
    const message = "must have 1 to 32 lower-case letters, digits or '-', and not be app, dev or entra";
    faults.push({ param: "signIn.name", message });
  }
  if (!/^[\x20-\x7e]{1,1024}$/.test(clientId)) {
    faults.push({ param: "signIn.clientId", message: "must have 1 to 1024 visible ASCII characters" });
  }
  return faults;
}

function assertedFaults(
  { issuer, claim }: { issuer: string; claim: string },
  known: { signIn: SignInSettings | null; issuers: readonly TokenIssuer[] },
): Fault[] {
  const faults: Fault[] = [];
  if (!isKnown(issuer, known)) {
    const message = "must be the issuer or the name of signIn, or of one of issuers";
    faults.push({ param: "users.assertedAs.issuer", message });
  }
  const param = "users.assertedAs.claim";
  if (assertedOf({ issuer, claim }) !== null) return faults;
  const message = MUTABLE.has(claim)
    ? `${claim} can pass to another person, who would then be this user: use sub, oid or email`
    : "must be sub, oid or email";
  return [...faults, { param, message }];
}

function isKnown(
  issuer: string,
  { signIn, issuers }: { signIn: SignInSettings | null; issuers: readonly TokenIssuer[] },
): boolean {
  if (signIn && (issuer === signIn.issuer || issuer === signIn.name)) return true;
  return issuers.some((entry) => entry.name === issuer || issuersNamed(entry).includes(issuer));
}

/** What an issuer's users may be called. */
export const REALM_NAME = /^[a-z][a-z0-9-]{0,31}$/;
/** Realms of users that are no issuer's (DESIGN 5). */
export const REALMS = new Set(["app", "dev", "entra"]);
const MUTABLE = new Set(["preferred_username", "upn", "unique_name", "name", "nickname"]);
