import type { Context } from "../core/context.ts";
import { BrokerError } from "../core/errors.ts";
import { type Caller, namedUser } from "../core/identity.ts";
import type { UserId } from "../core/ids.ts";
import type { World } from "../core/ports.ts";
import type { Project } from "../core/project.ts";

/** Which project a request is about: the route's, or under `/v1` what the key or a header says. */
export type ProjectClaim =
  | { kind: "route"; name: string }
  | { kind: "key"; fallback: string }
  | { kind: "none" };

/** Who calls; what they ask for is not judged yet. */
export type Identified = {
  caller: Caller;
  /** The project asked for by name; null where the route has none. */
  asked: string | null;
  project: Project | null;
  headerUser: string | null;
  userBlocked: boolean;
};

/**
 * Finds out who calls: one point read (DESIGN 13). Bearer token or `api-key`, looked up by its SHA-256.
 * Throws `unauthenticated` for all that is not a live key.
 */
export async function identify(world: World, headers: Headers, claim: ProjectClaim): Promise<Identified> {
  const credential = credentialOf(headers);
  if (credential === null) throw new BrokerError("unauthenticated", { reason: "missing" });
  const hash = await world.crypto.sha256(credential);
  const headerUser = headers.get(USER_HEADER);
  const asked = projectNameOf(claim);
  const found = await world.store.keys.authenticate({
    hash,
    project: asked,
    user: headerUser === null ? null : `app:${headerUser}`,
  });
  if (!found) throw new BrokerError("unauthenticated", { reason: "invalid" });
  const { key, project, userBlocked } = found;
  if (key.expiresAt !== null && key.expiresAt <= world.clock.now()) {
    throw new BrokerError("unauthenticated", { reason: "expired" });
  }
  // Under /v1 the key's own project counts, which only the key tells: its owner pays the second read.
  if (claim.kind === "key" && key.project !== null && key.project !== asked) {
    return identify(world, headers, { kind: "route", name: key.project });
  }
  const { id: keyId, principal, name, roles, rights } = key;
  const caller: Caller = { keyId, principal, name, project: key.project, roles, rights };
  return { caller, asked, project, headerUser, userBlocked };
}

/**
 * Lets the caller into the project that it asks for, and gives it; null where the route has none.
 *
 * Throws `not_found` for a project that is unknown or not the key's, which look the same; `user_assertion_forbidden`,
 * `invalid`, `user_invalid` and `user_blocked` for the header's user.
 */
export function admit({ caller, asked, project, headerUser, userBlocked }: Identified): Project | null {
  if (asked === null) return null;
  const isForeign = caller.project !== null && caller.project !== asked;
  if (!project || isForeign) throw new BrokerError("not_found", { what: "project", name: asked });
  checkHeaderUser(caller, headerUser);
  if (userBlocked) throw new BrokerError("user_blocked", {});
  return project;
}

/**
 * The user of a request whose body has been read: who the header names, else who the body names, where the caller may
 * say so (`namedUser`). Remembers users when they are first seen.
 */
export type UserDesk = (
  context: Omit<Context, "user">,
  claims: { header: string | null; body: string | null },
) => Promise<UserId | null>;

export function createUserDesk(world: World): UserDesk {
  // Users noted by this process, so that a known one costs nothing. A project made anew has another creation time.
  const noted = new Set<string>();

  async function note(project: Project, user: UserId): Promise<void> {
    const key = `${project.name}|${project.createdAt}|${user}`;
    if (noted.has(key)) return;
    await world.store.users.note({
      project: project.name,
      id: user,
      status: "active",
      createdAt: world.clock.now(),
    });
    if (noted.size >= MAX_NOTED) noted.clear();
    noted.add(key);
  }

  return async ({ caller, project }, claims) => {
    const user = namedUser(caller, claims, project.settings.users);
    if (user === null) return null;
    // The header's user was checked with the key; the body came later.
    if (claims.header === null) {
      const known = await world.store.users.get(project.name, user);
      if (known?.status === "blocked") throw new BrokerError("user_blocked", {});
    }
    await note(project, user);
    return user;
  };
}

const MAX_NOTED = 50_000;
const USER_HEADER = "x-ms-user-identity";
const MAX_CREDENTIAL_CHARS = 8_192;

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

function credentialOf(headers: Headers): string | null {
  const bearer = /^bearer +(\S+)$/i.exec(headers.get("authorization") ?? "")?.[1];
  const credential = bearer ?? headers.get("api-key");
  if (credential === null || credential === "" || credential.length > MAX_CREDENTIAL_CHARS) return null;
  return credential;
}

/** The header's claim, judged as soon as the caller is known; what it means is for the user desk. */
function checkHeaderUser(caller: Caller, name: string | null): void {
  namedUser(caller, { header: name, body: null }, { fromBody: false });
  // HTTP gives header bytes as Latin-1: a name beyond ASCII could be read in two ways, so the body has to say it.
  if (name === null || /^[\x20-\x7e]+$/.test(name)) return;
  throw new BrokerError("user_invalid", { param: USER_HEADER, why: "must be printable ASCII" });
}
