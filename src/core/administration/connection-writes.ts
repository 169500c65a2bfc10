import { mayReceive } from "../authorization.ts";
import { writeHeaders } from "../header-boxes.ts";
import { writeClientSecrets } from "../client-secrets.ts";
import type { Connection, ConnectionRecord } from "../connection.ts";
import { audienceFaultIn, sourceOf } from "../identity-source.ts";
import type { CheckAudience } from "../connection-machine-rules.ts";
import type { CheckReference } from "../secret-references.ts";
import type { SecretsBox } from "../connection-auth-rules.ts";
import {
  type ConnectionContent,
  type ConnectionDraft,
  isElsewhere,
  readConnection,
} from "../connection-rules.ts";
import { auditEntry, type Context } from "../context.ts";
import { BrokerError, invalid } from "../errors.ts";
import type { World } from "../ports.ts";
import { connectionAad } from "../storage.ts";
import type { CheckTarget } from "../url-rules.ts";
import { tryUntilWon } from "./attempts.ts";
import { type ConnectionDesks, openBox } from "./connections.ts";
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
  const outside = {
    lookUp: createLookUp(world, context),
    checkAudience: (audience: string) => audienceFaultIn(world, context.project, audience),
    checkReference: (ref: string) => world.references.fault(context.project.name, ref),
  };
  const written = await tryUntilWon(what, async () => {
    const existing = await world.store.connections.get(context.project.name, name);
    if (!existing && write.mode === "change") throw new BrokerError("not_found", what);
    const read = await readDraft(outside, context, { ...write, before: existing?.connection ?? null });
    await checkConnector(world, read.content, write.at);
    await checkIdentity(world, context, read.content, write.at);
    const connection = existing
      ? await change(world, context, existing, read)
      : await make(world, context, name, read);
    return connection && { connection, before: existing };
  });
  const { connection, before } = written;
  if (!before) return connection;
  const { project, id } = connection;
  const isElsewhere = connection.generation !== before.connection.generation;
  if (isElsewhere) await disconnect.tellOf({ project, connectionId: id }, before);
  // Nobody will use the sessions of the version before.
  if (!isElsewhere) void world.upstream.endSessions({ project, connection: id });
  return connection;
}

type Read = { content: ConnectionContent; secrets: SecretsBox };

function readDraft(
  outside: { lookUp: LookUp; checkAudience: CheckAudience; checkReference: CheckReference },
  context: Context,
  write: ConnectionWrite & { before: Connection | null },
) {
  const { lookUp, ...checks } = outside;
  const { settings } = context.project;
  return readWith(lookUp, (found) => readConnection(write.draft, { ...write, ...checks, settings, found }));
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
  const eachGrant = auditEntry(world, context, "grant_revoked", { detail: { why: "connection_changed" } });
  const isReplaced = await world.store.connections.replace(record, before.version, [entry], eachGrant);
  return isReplaced ? connection : null;
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
  const message = `may not receive tokens of the connector '${name}': its operator does not allow ${new URL(target).host}`;
  throw invalid({ param: `${at}.target`, message });
}

/** Entra's tokens go only where the operator's list allows, which is better said when the connection is saved. */
async function checkIdentity(
  world: World,
  context: Context,
  { auth, target }: ConnectionContent,
  at: string,
): Promise<void> {
  if (auth.kind !== "identity") return;
  const source = await sourceOf(world, context, { of: auth.of, audience: auth.audience, url: target });
  if (!source.ok) throw invalid({ param: `${at}.target`, message: source.message });
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
      return existing && world.sealer.seal(await openBox(world, existing), aad);
    case "headers":
      return world.sealer.seal(writeHeaders(secrets.headers), aad);
    case "client":
      return world.sealer.seal(writeClientSecrets(secrets.client), aad);
  }
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
