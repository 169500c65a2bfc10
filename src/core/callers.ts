import { type Caller, RIGHTS, ROLES } from "./identity.ts";
import type { UserId } from "./ids.ts";
import {
  type DelegatedRule,
  entraIssuer,
  type IssuerMatch,
  type RoleRule,
  type TokenIssuer,
} from "./issuers.ts";
import { isJsonObject, type JsonObject, ownMember } from "./json.ts";
import type { Settings } from "./project.ts";
import { assertedBy, textOf, userIn } from "./user-of-claims.ts";

/** Who stands behind verified claims. */
export type Subject =
  | { kind: "person"; user: UserId }
  /** `client`: the application's id. Null: the issuer names none, and `subject` is all that is known. */
  | { kind: "application"; client: string | null; subject: string | null }
  /** A person's token whose claims name nobody, an application's without a name, or an ID token that is no person's by the rule. */
  | { kind: "nobody" };

/**
 * A person where the token is delegated, by the issuer's rule; an application otherwise and in doubt. Claims that can pass from
 * one person to another (`upn`, `preferred_username`, an unverified `email`) name nobody.
 */
export function subjectOf(
  { entry, tenant }: IssuerMatch,
  users: Pick<Settings["users"], "assertedAs">,
  claims: JsonObject,
): Subject {
  if (isDelegated(entry, claims)) {
    const called = [entry.name, ...issuerCalled(entry, tenant)];
    const user = userIn({ name: entry.name, tenant, asserted: assertedBy(users, called) }, claims);
    return user === null ? { kind: "nobody" } : { kind: "person", user };
  }
  const client = clientsOf(claims)[0] ?? null;
  if (isSignIn(claims) || (entry.type === "entra" && client === null)) return { kind: "nobody" };
  const subject = textOf(claims, "sub");
  const isNamed = isName(client ?? subject ?? "");
  return isNamed ? { kind: "application", client, subject } : { kind: "nobody" };
}

/** Whether the client that the token was made for may call. Of several names each must be allowed. */
export function isClientAllowed({ clients }: TokenIssuer, claims: JsonObject): boolean {
  if (clients === null) return true;
  const named = clientsOf(claims);
  return named.length > 0 && named.every((client) => clients.includes(client));
}

/** The caller that a subject is, with what the issuer's mapping gives it. */
export function callerOf(
  subject: Exclude<Subject, { kind: "nobody" }>,
  about: {
    project: string;
    issuer: { name: string; iss: string; roles: readonly RoleRule[] };
    claims: JsonObject;
  },
): Caller {
  const { project, issuer, claims } = about;
  const given = issuer.roles.filter((rule) => hasValue(claims, rule.claim, rule.value));
  return {
    keyId: null,
    issuer: issuer.iss,
    ...(lacksGroups(issuer, claims) && { lacksGroups: true }),
    ...namesOf(subject, issuer.name),
    project,
    roles: ROLES.filter((role) => given.some(({ roles }) => roles.includes(role))),
    rights: RIGHTS.filter((right) => given.some(({ rights }) => rights.includes(right))),
  };
}

/**
 * Principals of tokens. A key's begins with `key`, so that no two kinds can be one another; and an application that is known by
 * its subject alone is never one that is known by its client id, which subjects could be made to spell.
 */
function namesOf(
  subject: Exclude<Subject, { kind: "nobody" }>,
  issuer: string,
): Pick<Caller, "principal" | "name"> {
  switch (subject.kind) {
    case "person":
      return { principal: principalOfUser(subject.user), name: subject.user };
    case "application":
      return subject.client === null
        ? { principal: `subject:${issuer}:${subject.subject ?? ""}`, name: subject.subject ?? issuer }
        : { principal: `client:${issuer}:${subject.client}`, name: subject.client };
  }
}

/** The principal of a caller that is this very person. */
export const principalOfUser = (user: UserId) => `user:${user}`;

/** The person that a principal is. Null: it is a key's, or an application's. */
export function userOfPrincipal(principal: string): UserId | null {
  const user = principal.startsWith("user:") ? principal.slice("user:".length) : "";
  const [realm = "", ...rest] = user.split(":");
  return rest.length === 0 ? null : `${realm}:${rest.join(":")}`;
}

/** Entra leaves groups out of a token that would have too many: then nothing can be said of them. */
export function lacksGroups({ roles }: { roles: readonly RoleRule[] }, claims: JsonObject): boolean {
  const names = ownMember(claims, "_claim_names");
  const isLeftOut = isJsonObject(names) && Object.hasOwn(names, "groups");
  return isLeftOut && roles.some(({ claim }) => claim === "groups");
}

function isDelegated(entry: TokenIssuer, claims: JsonObject): boolean {
  switch (entry.type) {
    case "entra": {
      const kind = ownMember(claims, "idtyp");
      const isApp = kind !== undefined && (typeof kind !== "string" || kind === "app");
      return textOf(claims, "scp") !== null && !isApp;
    }
    case "oidc":
      return entry.delegated !== null && fits(entry.delegated, claims);
  }
}

/**
 * An ID token (OpenID Connect Core 1.0, 2 and 3.3.2.11): a person has signed in, and would be let in beside themselves, past their
 * block, if it were taken for an application. Entra's access tokens name their client, so one that does not is an ID token, too.
 */
function isSignIn(claims: JsonObject): boolean {
  return ["nonce", "at_hash", "c_hash"].some((name) => ownMember(claims, name) !== undefined);
}

function fits({ claim, value }: DelegatedRule, claims: JsonObject): boolean {
  if (value !== null) return hasValue(claims, claim, value);
  const found = ownMember(claims, claim);
  if (Array.isArray(found)) return found.length > 0;
  return found !== undefined && found !== null && found !== false && found !== "";
}

/** A list holds the value, words of a scope are it, any other text (or true and false) is it whole. */
function hasValue(claims: JsonObject, name: string, value: string): boolean {
  const claim = ownMember(claims, name);
  if (Array.isArray(claim)) return claim.includes(value);
  if (typeof claim === "boolean") return String(claim) === value;
  if (typeof claim !== "string") return false;
  return WORDS.has(name) ? claim.split(" ").includes(value) : claim === value;
}

/** Entra's version 2.0 and OpenID Connect, Entra's version 1.0, RFC 9068. */
function clientsOf(claims: JsonObject): string[] {
  return ["azp", "appid", "client_id"].flatMap((name) => textOf(claims, name) ?? []);
}

function issuerCalled(entry: TokenIssuer, tenant: string | null): string[] {
  if (entry.type === "oidc") return [entry.issuer];
  return tenant === null ? [] : [entraIssuer(entry, tenant)];
}

/** Short and visible, for it is kept and shown. */
const isName = (text: string) => /^[^\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]{1,256}$/u.test(text);
const WORDS = new Set(["scp", "scope"]);
