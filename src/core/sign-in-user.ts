import { isRefusal } from "./errors.ts";
import { assertedUser } from "./identity.ts";
import type { UserId } from "./ids.ts";
import type { JsonObject } from "./json.ts";
import type { Settings, SignInSettings } from "./project.ts";

/** The part of a project's settings that says who a signed-in person is. */
export type SignInRealm = { signIn: SignInSettings; users: Pick<Settings["users"], "assertedAs"> };

/** The realm in which a sign-in at the project's issuer names users: `app`, `entra`, or the issuer's own name (DESIGN 5). */
export function realmOfSignIn(settings: SignInRealm): string {
  if (assertedClaim(settings) !== null) return "app";
  return tenantOf(settings.signIn.issuer) === null ? settings.signIn.name : "entra";
}

/**
 * The user that the claims of a verified ID token name. Null: they name nobody, because the claim is missing, not text, or
 * not to be relied on (`email` without `email_verified`).
 */
export function userOfClaims(settings: SignInRealm, claims: JsonObject): UserId | null {
  const claim = assertedClaim(settings);
  if (claim !== null) {
    const name = textOf(claims[claim]);
    if (name === null || (claim === "email" && claims["email_verified"] !== true)) return null;
    return userOf("app", name);
  }
  const tenant = tenantOf(settings.signIn.issuer);
  if (tenant !== null) {
    const [tid, oid] = [textOf(claims["tid"]), textOf(claims["oid"])];
    return tid === tenant && oid !== null ? userOf("entra", `${tid}/${oid}`) : null;
  }
  const subject = textOf(claims["sub"]);
  return subject === null ? null : userOf(settings.signIn.name, subject);
}

/** Names that callers assert are this claim of the sign-in. Null: they have nothing to do with it. */
function assertedClaim({ signIn, users }: SignInRealm): "sub" | "oid" | "email" | null {
  const { assertedAs } = users;
  if (assertedAs === null) return null;
  return assertedAs.issuer === signIn.issuer || assertedAs.issuer === signIn.name ? assertedAs.claim : null;
}

/** The tenant of an Entra v2 issuer. `common` and the like are not issuers of anybody. */
function tenantOf(issuer: string): string | null {
  return ENTRA.exec(issuer)?.[1] ?? null;
}

const ENTRA = /^https:\/\/login\.microsoftonline\.com\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\/v2\.0$/;

function textOf(claim: unknown): string | null {
  return typeof claim === "string" && claim !== "" ? claim : null;
}

/** Names are held to the rule for those that callers assert. */
function userOf(realm: string, name: string): UserId | null {
  try {
    assertedUser(name, "claim");
    return `${realm}:${name}`;
  } catch (error) {
    if (isRefusal(error, "invalid")) return null;
    throw error;
  }
}
