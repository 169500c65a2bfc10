import {
  type Connection,
  type ConnectionRecord,
  type ConnectorRecord,
  type OAuthApp,
  type OAuthOverrides,
} from "./connection.ts";
import type { Actor } from "./context.ts";
import { isUnopenable } from "./errors.ts";
import type { Grant } from "./grants.ts";
import { createClientBoxes } from "./client-boxes.ts";
import type { ClientSecrets } from "./client-secrets.ts";
import { clientGenerationOf } from "./client-making.ts";
import type { Registration } from "./consents.ts";
import { createDiscovery } from "./discovery.ts";
import { oauthOf } from "./oauth-settings.ts";
import { pkceFault } from "./pkce.ts";
import { canonicalResource, resourceOf } from "./resource.ts";
import type { Challenge, UpstreamFailure, World } from "./ports.ts";
import type { Binding } from "./refresh.ts";

/** How a connection's users are authorized: what a grant is bound to, and what a consent asks for. */
export type Way = Binding & {
  /** Where callbacks come in. */
  redirectId: string;
  authorizeParams: Record<string, string>;
  /** What the connection asks for. Null: what challenge or metadata say. */
  scopes: string[] | null;
  /** Of the metadata. Null: it names none. */
  scopesSupported: string[] | null;
  overrides: OAuthOverrides;
  /** How the client came about. */
  clientKind: "custom" | "connector" | Registration["kind"];
};

export type Ready =
  | { ok: true; way: Way; challenge: Challenge | null }
  | { ok: false; failure: UpstreamFailure };

/** Where the credentials of OAuth clients are: the connection's own app, an operator's connector, or what discovery registered. */
export type AuthorizationDesk = {
  /**
   * The way by rows alone, for every call. Null: discovery has not found it yet, or the secret that it registered cannot be
   * opened. Throws `unavailable` when the box of a connection or connector cannot be opened.
   */
  known: (record: ConnectionRecord) => Promise<Way | null>;
  /**
   * The way as it is now, for asking a person: servers are asked what is not known well enough, a client is registered if
   * there is none. `challenge`: what the server said when it refused. PKCE is judged here (C21 to C23). `fresh`: what was found
   * lately, or failed, does not count; for an admin who wants to know.
   */
  ready: (
    actor: Actor,
    record: ConnectionRecord,
    challenge: Challenge | null,
    options?: { fresh?: boolean },
  ) => Promise<Ready>;
  /**
   * After a 401 that came although there was a token (C12): another authorization server may have taken over. Looks once a
   * minute at most.
   */
  rediscover: (actor: Actor, record: ConnectionRecord, challenge: Challenge | null) => Promise<void>;
  /** What a grant was made with, to revoke it. Null: that client is not to be had any more. Throws `unavailable`: not now. */
  forGrant: (record: ConnectionRecord, grant: Grant) => Promise<Way | null>;
  /**
   * The client of this generation is not known at its authorization server any more: a registered one is made anew, unless
   * somebody has done that already. False: it is an admin's to mend.
   */
  renewClient: (actor: Actor, record: ConnectionRecord, refused: Way["clientGeneration"]) => Promise<boolean>;
};

export function createAuthorizationDesk(world: World): AuthorizationDesk {
  const boxes = createClientBoxes(world);
  const discovery = createDiscovery(world, boxes);

  async function registered(record: ConnectionRecord, registration: Registration): Promise<Way | null> {
    const { connection } = record;
    const auth = oauthOf(connection);
    if (auth.source.kind !== "discovery" || connection.redirectId === null) return null;
    const { issuer, clientId, clientAuth } = registration;
    if (registration.generation !== connection.generation) return null;
    const own = registration.kind === "preregistered";
    // Another client of the admin's by now: what was registered for the one before is nothing to it.
    if (own !== (auth.source.clientId !== null)) return null;
    if (own && (auth.source.clientId !== clientId || auth.source.issuer !== issuer)) return null;
    const held = own ? await boxes.ofConnection(record) : await boxes.ofRegistration(registration);
    if (!held) return null;
    return {
      connection: connection.name,
      server: registration.server,
      client: { clientId, ...held, auth: clientAuth },
      clientGeneration: clientGenerationOf(registration),
      resource: resourceOf(auth.overrides, registration.resource),
      params: {},
      quirks: null,
      refreshScope: auth.overrides.refreshScope,
      redirectId: connection.redirectId,
      authorizeParams: {},
      scopes: auth.scopes,
      scopesSupported: registration.scopesSupported ?? null,
      overrides: auth.overrides,
      clientKind: registration.kind,
    };
  }

  async function known(record: ConnectionRecord): Promise<Way | null> {
    const { connection } = record;
    const { source } = oauthOf(connection);
    switch (source.kind) {
      case "custom":
        if (connection.redirectId === null) return null;
        return wayOfApp(connection, source.app, {
          secrets: await boxes.ofConnection(record),
          redirectId: connection.redirectId,
          connector: null,
        });
      case "connector": {
        const connector = await world.store.connectors.get(source.connector);
        // Its operator decides where its tokens may go, whatever was allowed when the connection was saved.
        if (!connector || !mayReceive(connector.connector.targets, connection.target)) return null;
        return wayOfApp(connection, connector.connector.app, {
          secrets: await boxes.ofConnector(connector),
          redirectId: connector.connector.redirectId,
          connector: connector.connector,
        });
      }
      case "discovery": {
        const registration = await world.store.registrations.latest(connection.project, connection.id);
        const isOver = registration?.expiresAt != null && registration.expiresAt <= world.clock.now();
        return registration && !isOver ? registered(record, registration) : null;
      }
    }
  }

  async function ready(
    actor: Actor,
    record: ConnectionRecord,
    challenge: Challenge | null,
    options: { fresh?: boolean } = {},
  ): Promise<Ready> {
    const { connection } = record;
    const { source } = oauthOf(connection);
    if (source.kind !== "discovery") {
      const way = await known(record);
      if (!way) return refused(missingConnector(connection));
      // What nobody typed is the server's to say (C27).
      return judged(way, challenge ?? (way.scopes === null ? await discovery.challenge(connection) : null));
    }
    const found = await discovery.register(actor, record, source, challenge, options);
    if (!found.ok) return found;
    const way = await registered(record, found.registration);
    if (!way) return refused(`${connection.name} was changed meanwhile; ask again`);
    return judged(way, found.challenge);
  }

  return {
    known,
    ready,
    rediscover: async (actor, record, challenge) => {
      const { source } = oauthOf(record.connection);
      if (source.kind !== "discovery") return;
      const found = await discovery.rediscover(actor, record, source, challenge);
      if (!found.ok)
        world.log("warn", "rediscovery_failed", { connection: record.connection.name, why: found.failure });
    },
    forGrant: async (record, grant) => {
      const { connection } = record;
      if (connection.auth.kind !== "oauth") return null;
      try {
        const way =
          connection.auth.source.kind === "discovery"
            ? await wayOfIssuer(record, grant.issuer)
            : await known(record);
        return way?.clientGeneration === grant.clientGeneration ? way : null;
      } catch (error) {
        if (!isUnopenable(error)) throw error;
        return null;
      }
    },
    renewClient: async (actor, record, refused) => {
      const { source } = oauthOf(record.connection);
      if (source.kind !== "discovery") return false;
      return discovery.renew(actor, record, source, refused);
    },
  };

  async function wayOfIssuer(record: ConnectionRecord, issuer: string): Promise<Way | null> {
    const { project, id } = record.connection;
    const registration = await world.store.registrations.get(project, id, issuer);
    return registration && registered(record, registration);
  }
}

function wayOfApp(
  connection: Connection,
  app: OAuthApp,
  from: { secrets: ClientSecrets; redirectId: string; connector: ConnectorRecord["connector"] | null },
): Way {
  const { connector, secrets, redirectId } = from;
  const auth = oauthOf(connection);
  const overrides = merged(auth.overrides, connector?.overrides ?? null);
  const generation = connector
    ? `${connection.generation}/${connector.createdAt}.${connector.generation}`
    : `${connection.generation}`;
  return {
    connection: connection.name,
    server: app.server,
    client: { clientId: app.clientId, ...secrets, auth: app.clientAuth },
    clientGeneration: generation,
    resource: resourceOf(overrides, canonicalResource(connection.target)),
    params: app.tokenParams,
    quirks: app.provider,
    refreshScope: overrides.refreshScope,
    redirectId,
    authorizeParams: app.authorizeParams,
    scopes: auth.scopes ?? connector?.scopes ?? null,
    scopesSupported: null,
    overrides,
    clientKind: connector ? "connector" : "custom",
  };
}

/** A connection's own overrides win, each by itself; those of its connector fill in. */
function merged(own: OAuthOverrides, connectors: OAuthOverrides | null): OAuthOverrides {
  if (!connectors) return own;
  return {
    resource: own.resource === "prm" ? connectors.resource : own.resource,
    refreshScope: own.refreshScope === "granted" ? connectors.refreshScope : own.refreshScope,
    pkce: own.pkce === "strict" ? connectors.pkce : own.pkce,
    reason: own.reason ?? connectors.reason,
  };
}

/** Whether a connector's tokens may be sent to this target: `host`, `host:port` or `*.host`. */
export function mayReceive(targets: readonly string[], target: string): boolean {
  const { host } = new URL(target);
  return targets.some((allowed) =>
    allowed.startsWith("*.") ? host.endsWith(allowed.slice(1)) : host === allowed,
  );
}

function judged(way: Way, challenge: Challenge | null): Ready {
  const fault = pkceFault(way.server, way.overrides);
  return fault === null ? { ok: true, way, challenge } : refused(fault);
}

function refused(message: string): Ready & { ok: false } {
  return { ok: false, failure: { kind: "authorization", transient: false, message } };
}

function missingConnector({ name, auth }: Connection): string {
  const connector = auth.kind === "oauth" && auth.source.kind === "connector" ? auth.source.connector : "";
  return `the connection ${name} cannot be used: its connector '${connector}' is gone, or does not allow this target`;
}
