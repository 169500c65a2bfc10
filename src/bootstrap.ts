import { RIGHTS, ROLES } from "./core/identity.ts";
import type { World } from "./core/ports.ts";
import { DEFAULT_SETTINGS } from "./core/project.ts";
import type { Key } from "./core/storage.ts";
import { DEFAULT_PROJECT } from "./http/app.ts";

// What every broker has before its first request: a key and a project. Part of every door.

/** Puts the first key into the database, in place of the one of the start before. */
export async function putBootstrapKey(world: World, secret: string): Promise<void> {
  const known = await world.store.keys.getBootstrap();
  const key = await bootstrapKey(world, secret);
  await world.store.keys.putBootstrap({ ...key, createdAt: known?.createdAt ?? key.createdAt });
}

/** The first key (DESIGN 5). On loopback it may do everything, off loopback it is an operator's and has the role admin only. */
export async function bootstrapKey(
  { crypto, clock, local }: Pick<World, "crypto" | "clock" | "local">,
  secret: string,
): Promise<Key> {
  return {
    id: "key_bootstrap",
    project: null,
    name: "bootstrap",
    principal: "key:bootstrap",
    hash: await crypto.sha256(secret),
    roles: local ? [...ROLES] : ["admin"],
    rights: local ? [...RIGHTS] : [],
    confirmUrl: null,
    doneUrl: null,
    createdAt: clock.now(),
    expiresAt: null,
  };
}

export async function ensureProject({ store, clock }: World): Promise<void> {
  const first = await store.projects.list({ after: null, limit: 1 });
  if (first.rows.length > 0) return;
  const project = { name: DEFAULT_PROJECT, settings: DEFAULT_SETTINGS, version: 1, createdAt: clock.now() };
  await store.projects.insert(project, []);
}
