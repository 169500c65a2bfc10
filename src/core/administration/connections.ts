import { readHeaders, sentHeaders } from "../header-boxes.ts";
import type { Connection, ConnectionRecord, HeaderValues } from "../connection.ts";
import { auditEntry, type Context } from "../context.ts";
import type { Disconnect } from "../disconnect.ts";
import { BrokerError } from "../errors.ts";
import type { World } from "../ports.ts";
import { connectionAad, type Listed, type Page } from "../storage.ts";

/** Where writes take what they need: grants of a connection that means something else now are taken back. */
export type ConnectionDesks = { world: World; disconnect: Disconnect };

/** Where the person comes back to: the connection's own redirect id, or its connector's. Null: it has none. */
export async function redirectIdOf(
  { store }: World,
  { auth, redirectId }: Connection,
): Promise<string | null> {
  if (auth.kind !== "oauth" || auth.source.kind !== "connector") return redirectId;
  return (await store.connectors.get(auth.source.connector))?.connector.redirectId ?? null;
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

/**
 * With its secrets, pins and listings. Its grants are taken back, here at once; held calls find it gone. Throws `not_found`.
 */
export async function deleteConnection(
  { world, disconnect }: ConnectionDesks,
  context: Context,
  name: string,
): Promise<void> {
  const record = await getRecord(world, context, name);
  const { project, id: connectionId } = record.connection;
  const entry = auditEntry(world, context, "connection_deleted", { connection: name });
  const eachGrant = auditEntry(world, context, "grant_revoked", { detail: { why: "connection_deleted" } });
  const now = world.clock.now();
  const isGone = await world.store.connections.delete(project, name, now, [entry], eachGrant);
  await disconnect.tellOf({ project, connectionId }, record);
  if (!isGone) throw new BrokerError("not_found", { what: "connection", name });
}

/**
 * The secrets of a key connection, for a caller with the right `read_credentials`; each reading is audited before the
 * answer. What is kept elsewhere is read there. Null: the caller lacks the right, or there are none. Throws `not_found`,
 * `unavailable`.
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
  const opened = readHeaders(await openBox(world, record));
  const headers = await sentHeaders(world.references, connection.project, opened);
  await world.store.audit.append([auditEntry(world, context, "credentials_read", { connection: name })]);
  return { connection, headers };
}

/** The plain text of its box. Throws `unavailable`. */
export async function openBox(world: World, { connection, sealed }: ConnectionRecord): Promise<string> {
  const { project, id, version, name } = connection;
  if (!sealed) throw new BrokerError("unavailable", { what: `the credentials of ${name}` });
  return world.sealer.open(sealed, connectionAad(project, id, version));
}
