import { writeClientSecrets } from "../client-secrets.ts";
import type { Connector, ConnectorRecord } from "../connection.ts";
import type { ClientBox } from "../oauth-client-rules.ts";
import { type ConnectorContent, type ConnectorDraft, isOtherApp, readConnector } from "../connector-rules.ts";
import { auditEntry, type Context } from "../context.ts";
import { BrokerError, invalid } from "../errors.ts";
import type { World } from "../ports.ts";
import { CONNECTORS } from "../secret-references.ts";
import { connectorAad, type Listed, type Page } from "../storage.ts";
import type { CheckTarget } from "../url-rules.ts";
import { tryUntilWon } from "./attempts.ts";
import { freshRedirectId } from "./connection-writes.ts";
import { createLookUp, readWith } from "./lookups.ts";
import { factsOf } from "./overrides.ts";

/** An operator at work: connectors belong to no project. */
export type Operator = Pick<Context, "caller" | "user" | "requestId" | "signal">;

export type ConnectorWrite = {
  name: string;
  draft: ConnectorDraft;
  mode: "replace" | "change";
  checkTarget: CheckTarget;
};

/**
 * Makes or changes a connector, by the rules of a connection's own app. Another client or server makes the grants of its
 * connections void. Throws `invalid`; `not_found` when there is nothing to change; `changed_meanwhile`.
 */
export async function writeConnector(
  world: World,
  operator: Operator,
  write: ConnectorWrite,
): Promise<Connector> {
  const { name, draft, mode, checkTarget } = write;
  const lookUp = createLookUp(world, operator);
  const checkReference = (ref: string) => world.references.fault(CONNECTORS, ref);
  return tryUntilWon({ what: "connector", name }, async () => {
    const existing = await world.store.connectors.get(name);
    if (!existing && mode === "change") throw notFound(name);
    const before = existing?.connector ?? null;
    const read = await readWith(lookUp, (found) =>
      readConnector(draft, { name, before, mode, checkTarget, checkReference, found }),
    );
    return existing ? change(world, operator, existing, read) : make(world, operator, { name, ...read });
  });
}

/** Throws `not_found`. */
export async function getConnector(world: World, name: string): Promise<Connector> {
  const found = await world.store.connectors.get(name);
  if (!found) throw notFound(name);
  return found.connector;
}

/** In order of name. */
export async function listConnectors(world: World, page: Page): Promise<Listed<Connector>> {
  return world.store.connectors.list(page);
}

/**
 * Deletes a connector. Connections that name it cannot be used afterwards, so there must be none, unless it is forced.
 * Throws `not_found`, `invalid`.
 */
export async function deleteConnector(
  world: World,
  operator: Operator,
  { name, force }: { name: string; force: boolean },
): Promise<void> {
  await getConnector(world, name);
  const users = force ? 0 : await countUsers(world, name);
  if (users > 0) {
    const message = `the connector is used by ${users} connection${users === 1 ? "" : "s"}; force=true deletes it all the same`;
    throw invalid({ param: "force", message });
  }
  const entry = entryOf(world, operator, "connector_deleted", { connector: name, forced: force });
  if (!(await world.store.connectors.delete(name, world.clock.now(), [entry]))) throw notFound(name);
}

type Read = { content: ConnectorContent; box: ClientBox };

async function make(
  world: World,
  operator: Operator,
  { name, content, box }: Read & { name: string },
): Promise<Connector | null> {
  const now = world.clock.now();
  const connector: Connector = {
    ...content,
    name,
    redirectId: await world.store.redirects.ensure({ kind: "connector", name }, freshRedirectId(world), now),
    version: 1,
    generation: 1,
    createdAt: now,
    updatedAt: now,
  };
  const entry = entryOf(world, operator, "connector_created", {
    connector: name,
    issuer: content.app.server.issuer,
    ...factsOf(content.overrides),
  });
  const sealed = await seal(world, connector, box, null);
  return (await world.store.connectors.insert({ connector, sealed }, [entry])) ? connector : null;
}

async function change(
  world: World,
  operator: Operator,
  existing: ConnectorRecord,
  { content, box }: Read,
): Promise<Connector | null> {
  const before = existing.connector;
  const connector: Connector = {
    ...before,
    ...content,
    version: before.version + 1,
    generation: before.generation + (isOtherApp(before, content) ? 1 : 0),
    updatedAt: world.clock.now(),
  };
  const entry = entryOf(world, operator, "connector_changed", {
    connector: before.name,
    fields: changedFields(before, connector).join(","),
    secretsChanged: box.kind === "client",
    generation: connector.generation,
    ...factsOf(content.overrides),
  });
  const sealed = await seal(world, connector, box, existing);
  const isReplaced = await world.store.connectors.replace({ connector, sealed }, before.version, [entry]);
  return isReplaced ? connector : null;
}

async function seal(
  { sealer }: World,
  { name, version }: Connector,
  box: ClientBox,
  existing: ConnectorRecord | null,
): Promise<Uint8Array | null> {
  const aad = connectorAad(name, version);
  switch (box.kind) {
    case "none":
      return null;
    case "client":
      return sealer.seal(writeClientSecrets(box.client), aad);
    case "keep": {
      if (!existing?.sealed) throw new BrokerError("unavailable", { what: `the secret of ${name}` });
      return sealer.seal(
        await sealer.open(existing.sealed, connectorAad(name, existing.connector.version)),
        aad,
      );
    }
  }
}

function entryOf(
  world: World,
  operator: Operator,
  event: "connector_created" | "connector_changed" | "connector_deleted",
  detail: Record<string, string | number | boolean>,
) {
  return auditEntry(world, { ...operator, project: { name: "" } }, event, { detail });
}

/** Beyond the operator's own work nobody sees more than the number: the connections are other projects'. */
async function countUsers({ store }: World, connector: string): Promise<number> {
  let count = 0;
  for await (const { name: project } of pages((page) => store.projects.list(page))) {
    for await (const { connection } of pages(async (page) =>
      named(await store.connections.list(project, {}, page)),
    )) {
      const { auth } = connection;
      if (auth.kind === "oauth" && auth.source.kind === "connector" && auth.source.connector === connector)
        count++;
    }
  }
  return count;
}

function named<T extends { connection: { name: string } }>({ rows, more }: Listed<T>) {
  return { more, rows: rows.map((row) => ({ ...row, name: row.connection.name })) };
}

async function* pages<T extends { name: string }>(
  list: (page: Page) => Promise<Listed<T>>,
): AsyncGenerator<T> {
  let after: string | null = null;
  for (;;) {
    const { rows, more }: Listed<T> = await list({ after, limit: 100 });
    yield* rows;
    after = rows.at(-1)?.name ?? null;
    if (!more || after === null) return;
  }
}

function changedFields(before: Connector, after: Connector): string[] {
  const names = ["app", "scopes", "overrides", "targets"] as const;
  return names.filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]));
}

function notFound(name: string): BrokerError {
  return new BrokerError("not_found", { what: "connector", name });
}
