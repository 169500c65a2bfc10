import { auditEntry, type Context } from "../context.ts";
import type { Disconnect } from "../disconnect.ts";
import { BrokerError, invalid } from "../errors.ts";
import { assertedUser } from "../identity.ts";
import type { UserId } from "../ids.ts";
import type { World } from "../ports.ts";
import type { Listed, Page, User } from "../storage.ts";

export async function listUsers(world: World, context: Context, page: Page): Promise<Listed<User>> {
  return world.store.users.list(context.project.name, page);
}

/** Throws `not_found` for a user who was never seen and never blocked. */
export async function getUser(world: World, context: Context, name: string): Promise<User> {
  const user = await world.store.users.get(context.project.name, userIdIn(name));
  if (!user) throw new BrokerError("not_found", { what: "user", name });
  return user;
}

/**
 * The kill switch: from the next request on nothing is done for this user, the user's waiting calls are cancelled, and the
 * user's grants are taken back. Works for users who were never seen, too.
 */
export async function blockUser(
  { world, disconnect }: { world: World; disconnect: Disconnect },
  context: Context,
  name: string,
): Promise<User> {
  const id = userIdIn(name);
  const project = context.project.name;
  const entry = auditEntry(world, context, "user_blocked", { user: id });
  const eachGrant = auditEntry(world, context, "grant_revoked", { detail: { why: "user_blocked" } });
  await world.store.users.block({ project, id, at: world.clock.now() }, [entry], eachGrant);
  await disconnect.tellOf({ project, user: id }, null);
  return getUser(world, context, id);
}

/** Throws `not_found` for a user who is not blocked. */
export async function restoreUser(world: World, context: Context, name: string): Promise<User> {
  const id = userIdIn(name);
  const entry = auditEntry(world, context, "user_restored", { user: id });
  const isRestored = await world.store.users.restore(context.project.name, id, [entry]);
  if (!isRestored) throw new BrokerError("not_found", { what: "user", name });
  return getUser(world, context, id);
}

/** `realm:subject`, or a bare name, which means `app:`. Throws `invalid`. */
export function userIdIn(name: string): UserId {
  const [realm, ...rest] = name.split(":");
  if (rest.length === 0) return assertedUser(name, "user");
  if (realm === undefined || !/^[a-zA-Z][\w.-]{0,63}$/.test(realm)) {
    throw invalid({ param: "user", message: "must be a name or realm:subject" });
  }
  const subject = rest.join(":");
  assertedUser(subject, "user");
  return `${realm}:${subject}`;
}
