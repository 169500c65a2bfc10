import { mayReceive } from "../authorization.ts";
import { readHeaders, writeHeaders } from "../access.ts";
import { writeClientSecrets } from "../client-secrets.ts";
import type { Connection, ConnectionRecord, HeaderValues } from "../connection.ts";
import type { SecretsBox } from "../connection-auth-rules.ts";
import {
  type ConnectionContent,
  type ConnectionDraft,
  isElsewhere,
  readConnection,
} from "../connection-rules.ts";
import { auditEntry, type Context } from "../context.ts";
import type { Disconnect } from "../disconnect.ts";
import { BrokerError, invalid } from "../errors.ts";
import type { World } from "../ports.ts";
import { connectionAad, type Listed, type Page } from "../storage.ts";
import type { CheckTarget } from "../url-rules.ts";
import { tryUntilWon } from "./attempts.ts";
import { createLookUp, type LookUp, readWith } from "./lookups.ts";
import { overrideFacts } from "./overrides.ts";

export type ConnectionWrite = {
  name: string;
  draft: ConnectionDraft;
  /** `replace`: all of it, made when missing. `change`: what is given, secrets stay otherwise. */
  mode: "replace" | "change";
  checkTarget: CheckTarget;
  /** Where the draft stands in the caller's body. */
  at: string;
};

/** Where writes take what they need: grants of a connection that means something else now are taken back. */
export type ConnectionDesks = { world: World; disconnect: Disconnect };

/**
 * Makes or changes a connection: rules, what the network says of its authorization server, sealing, then row and audit in
 * one step. Every change has a new version and a new box, for the box is bound to the version. When a change makes it
 * another place, its grants are taken back.
 *
 * Throws `invalid`, `not_supported`; `not_found` when there is nothing to change; `changed_meanwhile`.
 */
export async function writeConnection(
  { world, disconnect }: ConnectionDesks,
  context: Context,
  write: ConnectionWrite,
): Promise<Connection> {
  const { name } = write;
  const what = { what: "connection", name } as const;
  const lookUp = createLookUp(world, context);
  const written = await tryUntilWon(what, async () => {
    const existing = await world.store.connections.get(context.project.name, name);
    if (!existing && write.mode === "change") throw new BrokerError("not_found", what);
    const read = await readDraft(lookUp, context, write, existing?.connection ?? null);
    await checkConnector(world, read.content, write.at);
    const connection = existing
      ? await change(world, context, existing, read)
      : await make(world, context, name, read);
    return connection && { connection, before: existing };
  });
  const { connection, before } = written;
  if (before?.connection.auth.kind === "oauth" && connection.generation !== before.connection.generation) {
    const of = { connectionId: connection.id };
    const facts = { why: "connection_changed", record: before };
    await disconnect.tell(await disconnect.takeAll(context, of, facts));
  }
  return connection;
}

type Read = { content: ConnectionContent; secrets: SecretsBox };

function readDraft(lookUp: LookUp, context: Context, write: ConnectionWrite, before: Connection | null) {
  const { settings } = context.project;
  return readWith(lookUp, (found) => readConnection(write.draft, { ...write, before, settings, found }));
}

async function make(
  world: World,
  context: Context,
  name: string,
  { content, secrets }: Read,
): Promise<Connection | null> {
  const now = world.clock.now();
  const project = context.project.name;
  const connection: Connection = {
    ...content,
    project,
    name,
    id: world.newId("conn", now),
    redirectId: await redirectOf(world, project, name, content),
    version: 1,
    generation: 1,
    createdAt: now,
    updatedAt: now,
  };
  const record = { connection, sealed: await seal(world, connection, secrets, null) };
  const entry = auditEntry(world, context, "connection_created", {
    connection: name,
    detail: {
      authType: content.auth.kind,
      host: new URL(content.target).host,
      ...overrideFacts(content.auth),
    },
  });
  return (await world.store.connections.insert(record, [entry])) ? connection : null;
}

async function change(
  world: World,
  context: Context,
  existing: ConnectionRecord,
  { content, secrets }: Read,
): Promise<Connection | null> {
  const before = existing.connection;
  const moved = isElsewhere(before, content);
  const connection: Connection = {
    ...before,
    ...content,
    redirectId: await redirectOf(world, before.project, before.name, content),
    version: before.version + 1,
    generation: before.generation + (moved ? 1 : 0),
    updatedAt: world.clock.now(),
  };
  const record = { connection, sealed: await seal(world, connection, secrets, existing) };
  const entry = auditEntry(world, context, "connection_changed", {
    connection: before.name,
    detail: {
      fields: changedFields(before, connection).join(","),
      secretsChanged: secrets.kind === "headers" || secrets.kind === "client",
      generation: connection.generation,
      ...overrideFacts(content.auth),
    },
  });
  return (await world.store.connections.replace(record, before.version, [entry])) ? connection : null;
}

/** Its own, kept across edits; a connector's connections use the connector's. */
async function redirectOf(
  world: World,
  project: string,
  name: string,
  { auth }: ConnectionContent,
): Promise<string | null> {
  if (auth.kind !== "oauth" || auth.source.kind === "connector") return null;
  return world.store.redirects.ensure(
    { kind: "connection", project, name },
    freshRedirectId(world),
    world.clock.now(),
  );
}

/** 32 random hex digits. */
export function freshRedirectId({ newId }: Pick<World, "newId">): string {
  return newId("w").slice("w_".length, "w_".length + 32);
}

/** The connector must be there, and its operator must have allowed the target: its users' tokens go nowhere else. */
async function checkConnector(world: World, { auth, target }: ConnectionContent, at: string): Promise<void> {
  if (auth.kind !== "oauth" || auth.source.kind !== "connector") return;
  const name = auth.source.connector;
  const found = await world.store.connectors.get(name);
  if (!found) throw invalid({ param: `${at}.connectorName`, message: `there is no connector '${name}'` });
  if (mayReceive(found.connector.targets, target)) return;
  const message = `may not receive tokens of the connector '${name}': its operator allows other hosts`;
  throw invalid({ param: `${at}.target`, message });
}

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
  const of = { connectionId: record.connection.id };
  const facts = { why: "connection_deleted", record };
  const isOAuth = record.connection.auth.kind === "oauth";
  // Before the row goes, for its registrations go with it, and they tell how the servers are asked.
  const tellings = isOAuth ? await disconnect.takeAll(context, of, facts) : [];
  const entry = auditEntry(world, context, "connection_deleted", { connection: name });
  const isGone = await world.store.connections.delete(context.project.name, name, world.clock.now(), [entry]);
  // And after it, for a consent may have ended in between; none can any more.
  if (isOAuth) tellings.push(...(await disconnect.takeAll(context, of, facts)));
  await disconnect.tell(tellings);
  if (!isGone) throw new BrokerError("not_found", { what: "connection", name });
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
  const headers: HeaderValues = readHeaders(await open(world, record));
  await world.store.audit.append([auditEntry(world, context, "credentials_read", { connection: name })]);
  return { connection, headers };
}

/** A box is bound to its version, so what is kept is sealed anew. */
async function seal(
  world: World,
  connection: Connection,
  secrets: SecretsBox,
  existing: ConnectionRecord | null,
): Promise<Uint8Array | null> {
  const { project, id, version } = connection;
  const aad = connectionAad(project, id, version);
  switch (secrets.kind) {
    case "none":
      return null;
    case "keep":
      return existing && world.sealer.seal(await open(world, existing), aad);
    case "headers":
      return world.sealer.seal(writeHeaders(secrets.headers), aad);
    case "client":
      return world.sealer.seal(writeClientSecrets(secrets.client), aad);
  }
}

async function open(world: World, { connection, sealed }: ConnectionRecord): Promise<string> {
  const { project, id, version, name } = connection;
  if (!sealed) throw new BrokerError("unavailable", { what: `the credentials of ${name}` });
  return world.sealer.open(sealed, connectionAad(project, id, version));
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
