import { BrokerError, invalid } from "./errors.ts";
import type { KeyId, UserId } from "./ids.ts";

export const ROLES = ["admin", "runtime", "approver"] as const;
export type Role = (typeof ROLES)[number];

/** Rights follow from no role: each is given by name. */
export const RIGHTS = ["act_for_users", "read_credentials"] as const;
export type Right = (typeof RIGHTS)[number];

/** Who calls our API. */
export type Caller = {
  /** Null: it proved itself by a token of one of the project's issuers. */
  keyId: KeyId | null;
  /** `iss` of that token. It is only there where `keyId` is null. */
  issuer?: string;
  /** The issuer left the groups out of that token, which give it roles (`groups_overage`). */
  lacksGroups?: true;
  /** Survives key rotation: rotated keys of one name share it. A token's is its person, or its application. */
  principal: string;
  /** What people call it: the key's name; of a token the user, or the application. */
  name: string;
  /** The one project that it may touch. Null: an operator, who may touch all. */
  project: string | null;
  roles: readonly Role[];
  rights: readonly Right[];
};

/** Whom a response, held call or conversation belongs to: its user, else the caller's principal. */
export type Owner = { user: UserId | null; principal: string };

export function requireRole(caller: Caller, ...anyOf: Role[]): void {
  if (anyOf.some((role) => caller.roles.includes(role))) return;
  throw new BrokerError("forbidden", { needs: `role ${anyOf.join(" or ")}`, why: whyNot(caller) });
}

/** A key's roles were chosen with it; a token's follow from settings, where somebody can look. Null: it is a key. */
function whyNot({ keyId, issuer, roles, lacksGroups }: Caller): string | null {
  if (keyId !== null || issuer === undefined) return null;
  const given = roles.length === 0 ? "no role" : `only ${roles.join(" and ")}`;
  const mapping = `Its token is given ${given} by the project's setting issuers: see roles of the entry for ${issuer}`;
  return lacksGroups
    ? `${mapping}. The issuer left the groups out of the token, as they are too many: map app roles instead`
    : mapping;
}

export function requireRight(caller: Caller, right: Right): void {
  if (caller.rights.includes(right)) return;
  throw new BrokerError("forbidden", { needs: `right ${right}` });
}

export function requireOperator(caller: Caller): void {
  if (caller.project === null) return;
  throw new BrokerError("forbidden", { needs: "an operator key" });
}

/** What a request says about its user, before anybody believes it. */
export type UserClaims = {
  /** The header `x-ms-user-identity`. */
  header: string | null;
  /** The body's `safety_identifier`, else its `user`. */
  body: string | null;
};

/**
 * The person a call is made for (DESIGN 5): a name asserted by a caller who may, in the realm `app`.
 *
 * Throws `user_assertion_forbidden` for the header without the right `act_for_users`; body fields without the right are
 * no identity. Throws `user_conflict` when header and body name different people.
 */
export function namedUser(
  caller: Caller,
  claims: UserClaims,
  settings: { fromBody: boolean },
): UserId | null {
  const mayAssert = caller.rights.includes("act_for_users");
  if (claims.header !== null && !mayAssert) throw new BrokerError("user_assertion_forbidden", {});
  if (!mayAssert) return null;
  const body = settings.fromBody ? claims.body : null;
  if (claims.header !== null && body !== null && claims.header !== body) {
    throw new BrokerError("user_conflict", { header: claims.header, body });
  }
  const name = claims.header ?? body;
  if (name === null) return null;
  const param = claims.header !== null ? "x-ms-user-identity" : "safety_identifier";
  return assertedUser(name, param);
}

/** Whether a caller's name for a user is written as answers write it, which would make another user of it: `app:app:ann`. */
export const hasRealm = (name: string) => name.startsWith("app:");

export const WITHOUT_REALM = "must be the name without its realm: ann, not app:ann";

/** A name asserted by a caller, as a user id. Throws `invalid` for names that are empty, too long or unprintable. */
export function assertedUser(name: string, param: string): UserId {
  if (name.length === 0 || name.length > MAX_USER_NAME_CHARS) {
    throw invalid({ param, message: `must have 1 to ${MAX_USER_NAME_CHARS} characters` });
  }
  // A lone surrogate (Cs) is written as U+FFFD, so that two names would be one user.
  if (/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(name)) {
    throw invalid({
      param,
      message: "must not hold control or formatting characters, nor halves of characters",
    });
  }
  return `app:${name}`;
}

const MAX_USER_NAME_CHARS = 256;

/**
 * Who looks at something that has an owner. Stores put this into the WHERE of every read (see `Owned` in storage.ts),
 * so that foreign and unknown cannot be told apart, not even by time.
 */
export type Viewer = {
  user: UserId | null;
  principal: string;
  /** A follow-up that names no user inherits the stored one: same principal, right `act_for_users`. */
  inheritsUser: boolean;
};

export function viewer(caller: Caller, user: UserId | null): Viewer {
  const inheritsUser = user === null && caller.rights.includes("act_for_users");
  return { user, principal: caller.principal, inheritsUser };
}
