import type { Person, TokenDesk } from "../core/caller-tokens.ts";
import { BrokerError } from "../core/errors.ts";
import { type Caller, namedUser } from "../core/identity.ts";
import type { UserId } from "../core/ids.ts";
import type { World } from "../core/ports.ts";
import type { Project } from "../core/project.ts";
import { hasTokenHead, isToken } from "../core/token-peek.ts";
import { MAX_TOKEN_CHARS } from "../core/token-verification.ts";

/** Which project a request is about: the route's, or under `/v1` what the key or a header says. */
export type ProjectClaim =
  | { kind: "route"; name: string }
  | { kind: "key"; fallback: string }
  | { kind: "none" };

/** What the header `x-ms-user-identity` says: a name, or the person's own token. */
type HeaderUser = { kind: "none" } | { kind: "name"; name: string } | { kind: "token"; token: string };

/** Who calls; what they ask for is not judged yet. */
export type Identified = {
  caller: Caller;
  /** The person that the caller is. Null: a key, or an application. */
  own: Person | null;
  /** The project asked for by name; null where the route has none. */
  asked: string | null;
  project: Project | null;
  header: HeaderUser;
  /** The user who was looked up together with the caller. */
  seen: { user: UserId | null; isBlocked: boolean };
};

/** A caller that was let into a project, and whom it brought. */
export type Admitted = {
  project: Project;
  own: Person | null;
  asserted: Person | null;
  header: string | null;
  /** Those of them that are known not to be blocked. */
  active: ReadonlySet<UserId>;
};

/**
 * Finds out who calls: one point read (DESIGN 13). A key, looked up by its SHA-256, as Bearer token or `api-key`; or a JWT of
 * one of the project's issuers as Bearer token. What looks like the one is never tried as the other. `tokens` null: keys alone.
 *
 * Throws `unauthenticated` for all that proves nobody; `unavailable` when an issuer's keys cannot be had.
 */
export async function identify(
  { world, tokens }: { world: World; tokens: TokenDesk | null },
  headers: Headers,
  claim: ProjectClaim,
): Promise<Identified> {
  const credential = credentialOf(headers);
  if (credential === null) throw new BrokerError("unauthenticated", { reason: "missing" });
  const about = { asked: projectNameOf(claim), header: headerUserOf(headers) };
  switch (credential.kind) {
    case "token":
      return identifyToken(world, tokens, { ...about, token: credential.text });
    case "key": {
      const found = await identifyKey(world, tokens, { ...about, key: credential.text });
      // Under /v1 the key's own project counts, which only the key tells: its owner pays the second read.
      const { project } = found.caller;
      if (claim.kind !== "key" || project === null || project === about.asked) return found;
      return identifyKey(world, tokens, { ...about, asked: project, key: credential.text });
    }
  }
}

type About = { asked: string | null; header: HeaderUser };

async function identifyKey(
  world: World,
  tokens: TokenDesk | null,
  { asked, header, key: text }: About & { key: string },
): Promise<Identified> {
  const hash = await world.crypto.sha256(text);
  const user = await likelyUser(tokens, { asked, header });
  const found = await world.store.keys.authenticate({ hash, project: asked, user });
  if (!found) throw new BrokerError("unauthenticated", { reason: "invalid" });
  const { key, project, userBlocked } = found;
  if (key.expiresAt !== null && key.expiresAt <= world.clock.now()) {
    throw new BrokerError("unauthenticated", { reason: "expired" });
  }
  const { id: keyId, principal, name, roles, rights } = key;
  const caller: Caller = { keyId, principal, name, project: key.project, roles, rights };
  return { caller, own: null, asked, project, header, seen: { user, isBlocked: userBlocked } };
}

/** A project's issuers prove callers of this project alone; a project that is not there looks like one that trusts nobody. */
async function identifyToken(
  world: World,
  tokens: TokenDesk | null,
  { asked, header, token }: About & { token: string },
): Promise<Identified> {
  if (!tokens || asked === null) throw new BrokerError("unauthenticated", { reason: "invalid" });
  const user = await tokens.guess(asked, token);
  const found = await world.store.projects.admission({ project: asked, user });
  const proven = found && (await tokens.prove(found.project, token));
  if (!proven) throw new BrokerError("unauthenticated", { reason: "invalid" });
  const { caller, person: own } = proven;
  const seen = { user, isBlocked: found.userBlocked };
  return { caller, own, asked, project: found.project, header, seen };
}

/**
 * Lets the caller into the project that it asks for; null where the route has none.
 *
 * Throws `not_found` for a project that is unknown or not the key's, which look the same; `user_assertion_forbidden`,
 * `user_assertion_invalid`, `invalid`, `user_invalid` and `user_blocked` for whom it brings.
 */
export async function admit(
  { world, tokens }: { world: World; tokens: TokenDesk },
  { caller, own, asked, project, header, seen }: Identified,
): Promise<Admitted | null> {
  if (asked === null) return null;
  const isForeign = caller.project !== null && caller.project !== asked;
  if (!project || isForeign) throw new BrokerError("not_found", { what: "project", name: asked });
  if (header.kind === "name") checkHeaderName(caller, header.name);
  const asserted = header.kind === "token" ? await personOf(tokens, project, header.token) : null;
  const name = header.kind === "name" ? header.name : null;
  const named: UserId | null = name === null ? null : `app:${name}`;
  const active = new Set<UserId>();
  for (const user of [own?.user, asserted?.user, named]) {
    if (user == null) continue;
    const isBlocked = user === seen.user ? seen.isBlocked : await isUserBlocked(world, project, user);
    if (isBlocked) throw new BrokerError("user_blocked", {});
    active.add(user);
  }
  return { project, own, asserted, header: name, active };
}

export async function isUserBlocked({ store }: World, { name }: Project, user: UserId): Promise<boolean> {
  return (await store.users.get(name, user))?.status === "blocked";
}

/** The person whose token this is: never a name, whatever is wrong with it, and never an application. */
async function personOf(tokens: TokenDesk, project: Project, token: string): Promise<Person> {
  const person = isToken(token) ? await tokens.personOf(project, token) : null;
  if (!person) throw new BrokerError("user_assertion_invalid", {});
  return person;
}

/** The user of the header, as far as that is known before the project is. */
async function likelyUser(tokens: TokenDesk | null, { asked, header }: About): Promise<UserId | null> {
  switch (header.kind) {
    case "none":
      return null;
    case "name":
      return `app:${header.name}`;
    case "token":
      return tokens && asked !== null ? tokens.guess(asked, header.token) : null;
  }
}

const USER_HEADER = "x-ms-user-identity";
const MAX_KEY_CHARS = 8_192;

function projectNameOf(claim: ProjectClaim): string | null {
  switch (claim.kind) {
    case "route":
      return claim.name;
    case "key":
      return claim.fallback;
    case "none":
      return null;
  }
}

function credentialOf(headers: Headers): { kind: "key" | "token"; text: string } | null {
  const bearer = /^bearer +(\S+)$/i.exec(headers.get("authorization") ?? "")?.[1];
  const text = bearer ?? headers.get("api-key");
  if (text === null || text === "" || text.length > MAX_TOKEN_CHARS) return null;
  if (isToken(text)) return bearer === undefined ? null : { kind: "token", text };
  return text.length > MAX_KEY_CHARS ? null : { kind: "key", text };
}

/** Whatever begins as a token or is called one is meant as one, so that a broken token does not become somebody's name. */
function headerUserOf(headers: Headers): HeaderUser {
  const text = headers.get(USER_HEADER);
  if (text === null) return { kind: "none" };
  const bearer = /^bearer(?:\s+(.*))?$/i.exec(text);
  if (bearer) return { kind: "token", token: bearer[1] ?? "" };
  return hasTokenHead(text) ? { kind: "token", token: text } : { kind: "name", name: text };
}

/** The header's claim, judged as soon as the caller is known; what it means is for the user desk. */
function checkHeaderName(caller: Caller, name: string): void {
  namedUser(caller, { header: name, body: null }, { fromBody: false });
  // HTTP gives header bytes as Latin-1: a name beyond ASCII could be read in two ways, so the body has to say it.
  if (/^[\x20-\x7e]+$/.test(name)) return;
  throw new BrokerError("user_invalid", { param: USER_HEADER, why: "must be printable ASCII" });
}
