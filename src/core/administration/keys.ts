import { auditEntry, type Context } from "../context.ts";
import { BrokerError, type Fault, invalid } from "../errors.ts";
import type { Right, Role } from "../identity.ts";
import { hasPrefix } from "../ids.ts";
import type { World } from "../ports.ts";
import type { Key } from "../storage.ts";
import { returnUrlFaults } from "../url-rules.ts";
import { ADDED_PARAMS } from "./return-urls.ts";

export type KeyDraft = {
  name: string;
  roles: Role[];
  rights: Right[];
  /** Milliseconds since the epoch. Null: it lives until it is deleted. */
  expiresAt: number | null;
  /** The proof `runtime`: where people are sent to be recognized, and where they end up. Null: nowhere. */
  confirmUrl: string | null;
  doneUrl: string | null;
};

/** A key and the one sight of its secret; the store has the hash only. */
export type NewKey = { key: Key; secret: string };

/**
 * Makes a key of the project. An admin may give every role and right of a project; the audit says which.
 * Throws `invalid`, `name_taken`.
 */
export async function createKey(world: World, context: Context, draft: KeyDraft): Promise<NewKey> {
  const now = world.clock.now();
  const faults = [...faultsOf(draft, now), ...urlFaultsOf(draft, world)];
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
    confirmUrl: draft.confirmUrl,
    doneUrl: draft.doneUrl,
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
 * A new secret for the same principal, roles and rights. `key`: its id or name. The old one works for `graceMs` more. A successor lives as
 * long as its predecessor was made to.
 *
 * Throws `not_found` for a key that is unknown here or has ended.
 */
export async function rotateKey(
  world: World,
  context: Context,
  { key: idOrName, graceMs = DEFAULT_GRACE_MS }: { key: string; graceMs?: number | undefined },
): Promise<NewKey> {
  if (!Number.isInteger(graceMs) || graceMs < 0 || graceMs > MAX_GRACE_MS) {
    throw invalid({ param: "graceMs", message: `must be a whole number from 0 to ${MAX_GRACE_MS}` });
  }
  const now = world.clock.now();
  const old = await findKey(world, context, idOrName);
  if (endOf(old) <= now) throw notFound(idOrName);
  const successor = await mint(world, {
    project: old.project,
    name: old.name,
    principal: old.principal,
    roles: old.roles,
    rights: old.rights,
    createdAt: now,
    expiresAt: old.expiresAt === null ? null : now + (old.expiresAt - old.createdAt),
    confirmUrl: old.confirmUrl,
    doneUrl: old.doneUrl,
  });
  const oldExpiresAt = Math.min(old.expiresAt ?? Infinity, now + graceMs);
  const entry = auditEntry(world, context, "key_rotated", {
    detail: { ...detailOf(successor.key), predecessor: old.id, graceMs },
  });
  const rotated = await world.store.keys.rotate(
    { project: context.project.name, old: old.id, oldExpiresAt, successor: successor.key },
    [entry],
  );
  if (!rotated) throw notFound(idOrName);
  return successor;
}

/** Effective with the next request that brings the key. Throws `not_found`. */
export async function deleteKey(world: World, context: Context, idOrName: string): Promise<void> {
  const { id } = await findKey(world, context, idOrName);
  const entry = auditEntry(world, context, "key_deleted", { detail: { key: id } });
  const isGone = await world.store.keys.delete(context.project.name, id, [entry]);
  if (!isGone) throw notFound(idOrName);
}

/** By id, else by name: while a rotated key has its grace two have one name, and the one that ends last is meant. */
async function findKey(world: World, context: Context, idOrName: string): Promise<Key> {
  const project = context.project.name;
  const byId = hasPrefix("key", idOrName) ? await world.store.keys.get(project, idOrName) : null;
  if (byId) return byId;
  const named = (await world.store.keys.list(project)).filter(({ name }) => name === idOrName);
  const last = named.reduce<Key | null>(
    (best, key) => (best === null || endOf(key) > endOf(best) ? key : best),
    null,
  );
  if (!last) throw notFound(idOrName);
  return last;
}

function endOf({ expiresAt }: Key): number {
  return expiresAt ?? Infinity;
}

function notFound(name: string): BrokerError {
  return new BrokerError("not_found", { what: "key", name });
}

async function mint(world: World, facts: Omit<Key, "id" | "hash">): Promise<NewKey> {
  const secret = `csk_${world.crypto.randomText(SECRET_BYTES)}`;
  const hash = await world.crypto.sha256(secret);
  return { key: { ...facts, id: world.newId("key"), hash }, secret };
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

/** A13: browsers are sent to exactly these, so they must be what they seem. */
function urlFaultsOf(draft: KeyDraft, { local }: World): Fault[] {
  return (["confirmUrl", "doneUrl"] as const).flatMap((param) => {
    const given = draft[param];
    return given === null ? [] : returnUrlFaults(given, { local, param, ours: ADDED_PARAMS[param] });
  });
}

function detailOf(key: Key): Record<string, string | null> {
  const { id, name, roles, rights, confirmUrl, doneUrl } = key;
  return { key: id, name, roles: roles.join(","), rights: rights.join(","), confirmUrl, doneUrl };
}

function unique<T>(values: T[]): T[] {
  return [...new Set(values)];
}

const SECRET_BYTES = 32;
const PRINCIPAL_BYTES = 9;
const DEFAULT_GRACE_MS = 24 * 60 * 60_000;
const MAX_GRACE_MS = 30 * 24 * 60 * 60_000;
