import type { UserId } from "./ids.ts";
import { entraTenantOf } from "./issuers.ts";
import type { JsonObject } from "./json.ts";
import type { Settings, SignInSettings } from "./project.ts";
import { assertedBy, type Realm, realmName, userIn } from "./user-of-claims.ts";

/** The part of a project's settings that says who a signed-in person is. */
export type SignInRealm = {
  signIn: SignInSettings;
  users: Pick<Settings["users"], "assertedAs">;
  /** An Entra authority of the operator's choice is known by its entry here. */
  issuers: Settings["issuers"];
};

/** The realm in which a sign-in at the project's issuer names users: `app`, `entra`, or the issuer's own name (DESIGN 5). */
export function realmOfSignIn(settings: SignInRealm): string {
  return realmName(realmOf(settings));
}

/** The user that the claims of a verified ID token name. Null: they name nobody (`userIn`). */
export function userOfClaims(settings: SignInRealm, claims: JsonObject): UserId | null {
  return userIn(realmOf(settings), claims);
}

function realmOf({ signIn, users, issuers }: SignInRealm): Realm {
  const { name, issuer } = signIn;
  return { name, tenant: entraTenantOf(issuer, issuers), asserted: assertedBy(users, [issuer, name]) };
}
