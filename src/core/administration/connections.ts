import { readHeaders, writeHeaders } from "../access.ts";
import type { Connection, ConnectionRecord, HeaderValues } from "../connection.ts";
import { type ConnectionDraft, isElsewhere, readConnection } from "../connection-rules.ts";
import { auditEntry, type Context } from "../context.ts";
import { BrokerError } from "../errors.ts";
import type { World } from "../ports.ts";
import { connectionAad, type Listed, type Page } from "../storage.ts";
import { tryUntilWon } from "./attempts.ts";

export type ConnectionWrite = {
  name: string;
  draft: ConnectionDraft;
  /** `replace`: all of it, made when missing. `change`: what is given, secrets stay otherwise. */
  mode: "replace" | "change";
  checkTarget: (url: string) => string | null;
  /** Where the draft stands in the caller's body. */
  at: string;
};

/**
 * Makes or changes a connection: rules, sealing, then row and audit in one step. Every change has a new version and a
 * new box, for the box is bound to the version.
 *
 * Throws `invalid`, `not_supported`; `not_found` when there is nothing to change; `changed_meanwhile`.
 */
export async function writeConnection(
  world: World,
  context: Context,
  write: ConnectionWrite,
): Promise<Connection> {
  const { name } = write;
  const project = context.project.name;
  return tryUntilWon({ what: "connection", name }, async () => {
    const existing = await world.store.connections.get(project, name);
    if (!existing && write.mode === "change")
      throw new BrokerError("not_found", { what: "connection", name });
    return existing ? change(world, context, write, existing) : make(world, context, write);
  });
}

async function make(world: World, context: Context, write: ConnectionWrite): Promise<Connection | null> {
  const { content, headers } = readDraft(context, write, null);
  const now = world.clock.now();
  const connection: Connection = {
    ...content,
    project: context.project.name,
    name: write.name,
    id: world.newId("conn", now),
    version: 1,
    generation: 1,
    createdAt: now,
    updatedAt: now,
  };
  const record = { connection, sealed: await seal(world, connection, headers) };
  const entry = auditEntry(world, context, "connection_created", {
    connection: write.name,
    detail: { authType: content.auth.kind, host: new URL(content.target).host },
  });
  return (await world.store.connections.insert(record, [entry])) ? connection : null;
}

async function change(
  world: World,
  context: Context,
  write: ConnectionWrite,
  existing: ConnectionRecord,
): Promise<Connection | null> {
  const before = existing.connection;
  const { content, headers } = readDraft(context, write, write.mode === "change" ? before : null);
  const moved = isElsewhere(before, content);
  const connection: Connection = {
    ...before,
    ...content,
    version: before.version + 1,
    generation: before.generation + (moved ? 1 : 0),
    updatedAt: world.clock.now(),
  };
  const kept = headers ?? (content.auth.kind === "key" ? await openSecrets(world, existing) : null);
  const record = { connection, sealed: await seal(world, connection, kept) };
  const entry = auditEntry(world, context, "connection_changed", {
    connection: write.name,
    detail: {
      fields: changedFields(before, connection).join(","),
      secretsChanged: headers !== null,
      generation: connection.generation,
    },
  });
  return (await world.store.connections.replace(record, before.version, [entry])) ? connection : null;
}

export async function getConnection(world: World, context: Context, name: string): Promise<Connection> {
  return (await getRecord(world, context, name)).connection;
}

export async function getRecord(world: World, context: Context, name: string): Promise<ConnectionRecord> {
  const record = await world.store.connections.get(context.project.name, name);
  if (!record) throw new BrokerError("not_found", { what: "connection", name });
  return record;
}

/** In order of name. `defaultsOnly` filters after reading, so that a page is full as long as there are more. */
export async function listConnections(
  world: World,
  context: Context,
  filter: { target?: string | undefined; defaultsOnly: boolean },
  page: Page,
): Promise<Listed<Connection>> {
  const byTarget = filter.target === undefined ? {} : { target: filter.target };
  const rows: Connection[] = [];
  let after = page.after;
  for (;;) {
    const found = await world.store.connections.list(context.project.name, byTarget, { ...page, after });
    for (const { connection } of found.rows) {
      if (filter.defaultsOnly && !connection.isDefault) continue;
      if (rows.length === page.limit) return { rows, more: true };
      rows.push(connection);
    }
    after = found.rows.at(-1)?.connection.name ?? null;
    if (!found.more || after === null) return { rows, more: false };
    if (rows.length === page.limit && !filter.defaultsOnly) return { rows, more: true };
  }
}

/** With its secrets, pins and listings; grants and held calls find it gone. Throws `not_found`. */
export async function deleteConnection(world: World, context: Context, name: string): Promise<void> {
  const entry = auditEntry(world, context, "connection_deleted", { connection: name });
  if (await world.store.connections.delete(context.project.name, name, [entry])) return;
  throw new BrokerError("not_found", { what: "connection", name });
}

/**
 * The secrets of a key connection, for a caller with the right `read_credentials`; each reading is audited before the
 * answer. Null: the caller lacks the right, or there are none. Throws `not_found`.
 */
export async function readCredentials(
  world: World,
  context: Context,
  name: string,
): Promise<{ connection: Connection; headers: HeaderValues | null }> {
  const record = await getRecord(world, context, name);
  const { connection } = record;
  const mayRead = context.caller.rights.includes("read_credentials");
  if (connection.auth.kind !== "key" || !mayRead) return { connection, headers: null };
  const headers = await openSecrets(world, record);
  await world.store.audit.append([auditEntry(world, context, "credentials_read", { connection: name })]);
  return { connection, headers };
}

function readDraft(context: Context, write: ConnectionWrite, existing: Connection | null) {
  const { name, checkTarget, at } = write;
  return readConnection(write.draft, {
    name,
    existing,
    settings: context.project.settings,
    checkTarget,
    at,
  });
}

async function seal(
  world: World,
  { project, id, version }: Connection,
  headers: HeaderValues | null,
): Promise<Uint8Array | null> {
  return headers && world.sealer.seal(writeHeaders(headers), connectionAad(project, id, version));
}

async function openSecrets(world: World, { connection, sealed }: ConnectionRecord): Promise<HeaderValues> {
  const { project, id, version, name } = connection;
  if (!sealed) throw new BrokerError("unavailable", { what: `the credentials of ${name}` });
  return readHeaders(await world.sealer.open(sealed, connectionAad(project, id, version)));
}

function changedFields(before: Connection, after: Connection): string[] {
  const names = [
    "target",
    "auth",
    "requireApproval",
    "allowedTools",
    "approvers",
    "trustAnnotations",
    "timeoutMs",
    "metadata",
    "isDefault",
  ] as const;
  return names.filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]));
}
