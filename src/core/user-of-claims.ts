import { isRefusal } from "./errors.ts";
import { assertedUser } from "./identity.ts";
import type { UserId } from "./ids.ts";
import { type JsonObject, ownMember } from "./json.ts";
import type { Settings } from "./project.ts";

/** Where an issuer's people are users of ours (DESIGN 5). */
export type Realm = {
  /** The issuer's name in the settings. */
  name: string;
  /** Entra's tenant. Null: an issuer that is not Entra. */
  tenant: string | null;
  /** The claim that is what callers assert as names. Null: this issuer's people have nothing to do with those. */
  asserted: "sub" | "oid" | "email" | null;
};

/** The realm of the users that claims of this issuer name: `app`, `entra`, or the issuer's own name. */
export function realmName({ name, tenant, asserted }: Realm): string {
  if (asserted !== null) return "app";
  return tenant === null ? name : "entra";
}

/** The claim by which names that callers assert are users of an issuer, which the setting calls by one of these texts. */
export function assertedBy(
  { assertedAs }: Pick<Settings["users"], "assertedAs">,
  called: readonly string[],
): Realm["asserted"] {
  return assertedAs !== null && called.includes(assertedAs.issuer) ? assertedAs.claim : null;
}

/**
 * The user that verified claims name. Null: they name nobody, because the claim is missing, not text, or not to be relied on
 * (`email` without `email_verified`; a tenant that is not the issuer's).
 */
export function userIn(realm: Realm, claims: JsonObject): UserId | null {
  const { name, tenant, asserted } = realm;
  if (tenant !== null && textOf(claims, "tid") !== tenant) return null;
  if (asserted !== null) {
    const isVerified = asserted !== "email" || ownMember(claims, "email_verified") === true;
    return isVerified ? userOf("app", textOf(claims, asserted)) : null;
  }
  if (tenant === null) return userOf(name, textOf(claims, "sub"));
  const oid = textOf(claims, "oid");
  return oid === null ? null : userOf("entra", `${tenant}/${oid}`);
}

/** A claim that is a text. Null: it is not there, empty, or of another kind. */
export function textOf(claims: JsonObject, name: string): string | null {
  const claim = ownMember(claims, name);
  return typeof claim === "string" && claim !== "" ? claim : null;
}

/** Names are held to the rule for those that callers assert. */
function userOf(realm: string, name: string | null): UserId | null {
  if (name === null) return null;
  try {
    assertedUser(name, "claim");
    return `${realm}:${name}`;
  } catch (error) {
    if (isRefusal(error, "invalid")) return null;
    throw error;
  }
}
