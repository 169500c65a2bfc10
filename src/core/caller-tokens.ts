import { createCache } from "./cache.ts";
import { callerOf, isClientAllowed, lacksGroups, subjectOf } from "./callers.ts";
import type { Caller } from "./identity.ts";
import type { UserId } from "./ids.ts";
import { type IssuerMatch, issuerOf, isOurOwn } from "./issuers.ts";
import type { JsonObject } from "./json.ts";
import type { UserToken } from "./machine-identity.ts";
import type { World } from "./ports.ts";
import type { Project } from "./project.ts";
import { unverifiedClaims } from "./token-peek.ts";
import type { TokenFault, TokenTrust } from "./token-verification.ts";
import { textOf } from "./user-of-claims.ts";

/** A person, and the token that proves it. */
export type Person = { user: UserId; userToken: UserToken };

/** Who brought a token, or whom it is about. `person` null: an application. */
export type Proven = { caller: Caller; person: Person | null };

/** Tokens of a project's issuers (DESIGN 5). */
export type TokenDesk = {
  /**
   * Whom the token proves to this project. Null: nobody; the log says why (`token_refused`), and nobody else hears. Throws
   * `unavailable` when the issuer's keys cannot be had.
   */
  prove: (project: Project, token: string) => Promise<Proven | null>;
  /** The person whose own token this is. Null: it is nobody's, or an application's. Throws as `prove`. */
  personOf: (project: Project, token: string) => Promise<Person | null>;
  /**
   * The user that this very token was last proven to be about, so that one read can fetch both the project and whether that
   * user is blocked. A guess: it is compared with what the token proves this time. Null: there is none.
   */
  guess: (project: string, token: string) => Promise<UserId | null>;
};

type Refusal =
  | TokenFault
  | "no_claims"
  | "unknown_issuer"
  | "own_issuer"
  | "own_identity"
  | "client"
  | "no_subject"
  | "not_a_person";

export function createTokenDesk(world: World): TokenDesk {
  const guesses = createCache<UserId>({ max: MAX_GUESSES, now: world.clock.now });
  const told = createCache<true>({ max: MAX_TOLD, now: world.clock.now });

  const guessKey = async (project: string, token: string) => `${project}|${await world.crypto.sha256(token)}`;

  function refuse(project: Project, issuer: string | null, reason: Refusal): null {
    world.log("info", "token_refused", { project: project.name, issuer, reason });
    return null;
  }

  /** Once an hour for each issuer: every token of such a person would say it again. */
  function tellOverage(project: Project, { entry }: IssuerMatch, claims: JsonObject): void {
    const key = `${project.name}|${entry.name}`;
    if (!lacksGroups(entry, claims) || told.get(key)) return;
    told.set(key, true, { ttlMs: TOLD_MS });
    world.log("warn", "groups_overage", { project: project.name, issuer: entry.name });
  }

  async function prove(project: Project, token: string): Promise<Proven | null> {
    const { issuers, users } = project.settings;
    const unverified = unverifiedClaims(token);
    const iss = unverified && textOf(unverified, "iss");
    if (iss === null) return refuse(project, null, "no_claims");
    // Refused when it is saved; but a public URL can change after that.
    if (isOurOwn(iss, world.publicUrl)) return refuse(project, null, "own_issuer");
    const match = issuerOf(issuers, iss);
    // Anybody may send this text: no more of it than a log can bear.
    if (!match) return refuse(project, iss.slice(0, MAX_ISSUER_CHARS), "unknown_issuer");
    const { name } = match.entry;

    const outcome = await world.callerTokens.verify(token, trustOf(match, iss));
    if (!outcome.ok) return refuse(project, name, outcome.fault);
    const { claims, expiresAt } = outcome;
    if (match.tenant !== null && textOf(claims, "tid") !== match.tenant)
      return refuse(project, name, "issuer");
    if (world.entra?.isOurs(claims)) return refuse(project, name, "own_identity");
    if (!isClientAllowed(match.entry, claims)) return refuse(project, name, "client");
    const subject = subjectOf(match, users, claims);
    if (subject.kind === "nobody") return refuse(project, name, "no_subject");

    tellOverage(project, match, claims);
    const issuer = { name, iss, roles: match.entry.roles };
    const caller = callerOf(subject, { project: project.name, issuer, claims });
    if (subject.kind === "application") return { caller, person: null };
    const { user } = subject;
    guesses.set(await guessKey(project.name, token), user, { ttlMs: GUESS_MS });
    return {
      caller,
      person: { user, userToken: { token, issuer: name, tenant: match.tenant, expiresAt } },
    };
  }

  return {
    guess: async (project, token) => guesses.get(await guessKey(project, token)) ?? null,
    prove,
    personOf: async (project, token) => {
      const proven = await prove(project, token);
      if (!proven || proven.person) return proven?.person ?? null;
      const { issuer = "" } = proven.caller;
      return refuse(project, issuerOf(project.settings.issuers, issuer)?.entry.name ?? null, "not_a_person");
    },
  };
}

function trustOf({ entry, keysOf, tenant }: IssuerMatch, iss: string): TokenTrust {
  const { audiences, clockSkewSeconds } = entry;
  // The algorithm of every token that Entra signs.
  const algorithms = entry.type === "oidc" ? entry.algorithms : (["RS256"] as const);
  return { iss, keys: { issuer: keysOf, tenant }, algorithms, audiences, clockSkewSeconds };
}

const MAX_ISSUER_CHARS = 200;
const MAX_GUESSES = 10_000;
const GUESS_MS = 5 * 60_000;
const MAX_TOLD = 1_000;
const TOLD_MS = 60 * 60_000;
