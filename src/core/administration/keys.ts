import { auditEntry, type Context } from "../context.ts";
import { BrokerError, type Fault, invalid } from "../errors.ts";
import type { Right, Role } from "../identity.ts";
import { hasPrefix, type KeyId } from "../ids.ts";
import type { World } from "../ports.ts";
import type { Key } from "../storage.ts";

export type KeyDraft = {
  name: string;
  roles: Role[];
  rights: Right[];
  /** Milliseconds since the epoch. Null: it lives until it is deleted. */
  expiresAt: number | null;
};

/** A key and the one sight of its secret; the store has the hash only. */
export type NewKey = { key: Key; secret: string };

/**
 * Makes a key of the project. An admin may give every role and right of a project; the audit says which.
 * Throws `invalid`, `name_taken`.
 */
export async function createKey(world: World, context: Context, draft: KeyDraft): Promise<NewKey> {
  const now = world.clock.now();
  const faults = faultsOf(draft, now);
  if (faults.length > 0) throw invalid(...faults);
  const { name } = draft;
  // Unique for this creation: a later key of the same name must not inherit what this one owns.
  const principal = `key:${name}/${world.crypto.randomText(PRINCIPAL_BYTES)}`;
  const made = await mint(world, {
    project: context.project.name,
    name,
    principal,
    roles: unique(draft.roles),
    rights: unique(draft.rights),
    createdAt: now,
    expiresAt: draft.expiresAt,
  });
  const entry = auditEntry(world, context, "key_created", { detail: detailOf(made.key) });
  if (!(await world.store.keys.insert(made.key, [entry]))) {
    throw new BrokerError("name_taken", { what: "key", name });
  }
  return made;
}

export async function listKeys(world: World, context: Context): Promise<Key[]> {
  return world.store.keys.list(context.project.name);
}

/**
 * A new secret for the same principal, roles and rights. The old one works for `graceMs` more. A successor lives as
 * long as its predecessor was made to.
 *
 * Throws `not_found` for a key that is unknown here or has ended.
 */
export async function rotateKey(
  world: World,
  context: Context,
  { id, graceMs = DEFAULT_GRACE_MS }: { id: string; graceMs?: number | undefined },
): Promise<NewKey> {
  if (!Number.isInteger(graceMs) || graceMs < 0 || graceMs > MAX_GRACE_MS) {
    throw invalid({ param: "graceMs", message: `must be a whole number from 0 to ${MAX_GRACE_MS}` });
  }
  const now = world.clock.now();
  const old = await liveKey(world, context, id, now);
  const successor = await mint(world, {
    project: old.project,
    name: old.name,
    principal: old.principal,
    roles: old.roles,
    rights: old.rights,
    createdAt: now,
    expiresAt: old.expiresAt === null ? null : now + (old.expiresAt - old.createdAt),
  });
  const oldExpiresAt = Math.min(old.expiresAt ?? Infinity, now + graceMs);
  const entry = auditEntry(world, context, "key_rotated", {
    detail: { ...detailOf(successor.key), predecessor: old.id, graceMs },
  });
  const rotated = await world.store.keys.rotate(
    { project: context.project.name, old: old.id, oldExpiresAt, successor: successor.key },
    [entry],
  );
  if (!rotated) throw new BrokerError("not_found", { what: "key", name: id });
  return successor;
}

/** Effective with the next request that brings the key. Throws `not_found`. */
export async function deleteKey(world: World, context: Context, id: string): Promise<void> {
  const entry = auditEntry(world, context, "key_deleted", { detail: { key: id } });
  const isGone = isKeyId(id) && (await world.store.keys.delete(context.project.name, id, [entry]));
  if (!isGone) throw new BrokerError("not_found", { what: "key", name: id });
}

async function liveKey(world: World, context: Context, id: string, now: number): Promise<Key> {
  const key = isKeyId(id) ? await world.store.keys.get(context.project.name, id) : null;
  const isLive = key !== null && (key.expiresAt === null || key.expiresAt > now);
  if (!isLive) throw new BrokerError("not_found", { what: "key", name: id });
  return key;
}

async function mint(world: World, facts: Omit<Key, "id" | "hash">): Promise<NewKey> {
  const secret = `csk_${world.crypto.randomText(SECRET_BYTES)}`;
  const hash = await world.crypto.sha256(secret);
  return { key: { ...facts, id: world.newId("key"), hash }, secret };
}

function isKeyId(id: string): id is KeyId {
  return hasPrefix("key", id);
}

function faultsOf({ name, roles, rights, expiresAt }: KeyDraft, now: number): Fault[] {
  const faults: Fault[] = [];
  if (!/^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$/.test(name)) {
    const message = "must have 1 to 64 letters, digits, '.', '_' or '-', and begin with a letter or digit";
    faults.push({ param: "name", message });
  }
  if (roles.length + rights.length === 0) {
    faults.push({ param: "roles", message: "must name at least one role" });
  }
  if (expiresAt !== null && expiresAt <= now) {
    faults.push({ param: "expiresAt", message: "must be in the future" });
  }
  return faults;
}

function detailOf(key: Key): Record<string, string> {
  return { key: key.id, name: key.name, roles: key.roles.join(","), rights: key.rights.join(",") };
}

function unique<T>(values: T[]): T[] {
  return [...new Set(values)];
}

const SECRET_BYTES = 32;
const PRINCIPAL_BYTES = 9;
const DEFAULT_GRACE_MS = 24 * 60 * 60_000;
const MAX_GRACE_MS = 30 * 24 * 60 * 60_000;
