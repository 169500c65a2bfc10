import { createCache } from "./cache.ts";
import { writeClientSecrets } from "./client-secrets.ts";
import type { Connection, ConnectionRecord, OAuthSource } from "./connection.ts";
import type { Registration } from "./consents.ts";
import { type Actor, auditEntry } from "./context.ts";
import type { AuthServer, OAuthClient, OAuthFailure, OAuthOutcome, ProtectedResource } from "./oauth.ts";
import type { Challenge, UpstreamFailure, World } from "./ports.ts";
import { registrationAad } from "./storage.ts";
import { canonicalResource } from "./resource.ts";

type Source = OAuthSource & { kind: "discovery" };

export type Discovered =
  | { ok: true; registration: Registration; challenge: Challenge | null }
  | { ok: false; failure: UpstreamFailure };

/**
 * Finds the authorization server of an MCP server and makes us a client there (MCP 2026-07-28, "Authorization"): protected
 * resource metadata, authorization server metadata, then the admin's own client, else our metadata document, else dynamic
 * registration (C14). What is found is a row, so that calls need no discovery; rows say when they were found.
 */
export type Discovery = {
  register: (
    actor: Actor,
    record: ConnectionRecord,
    source: Source,
    challenge: Challenge | null,
    options?: { fresh?: boolean },
  ) => Promise<Discovered>;
  /** Registers anew at the current server, if the client there is one of ours. */
  renew: (actor: Actor, record: ConnectionRecord, source: Source) => Promise<boolean>;
};

export function createDiscovery(world: World): Discovery {
  const challenges = createCache<Challenge | null>({ max: MAX_CHALLENGES, now: world.clock.now });
  const underWay = new Map<string, Promise<Discovered>>();

  /** What the server says to a stranger: its challenge decides where the metadata are, and which scopes it wants (C3, C28). */
  async function strangersChallenge(connection: Connection): Promise<Challenge | null | UpstreamFailure> {
    const key = `${connection.id}:${connection.version}`;
    const cached = challenges.get(key);
    if (cached !== undefined) return cached;
    const { target: url, timeoutMs } = connection;
    const as = `${key}:stranger`;
    const outcome = await world.upstream.listTools(
      { url, headers: {}, partition: as, session: as },
      { timeoutMs: Math.min(timeoutMs, ASK_MS), signal: AbortSignal.timeout(ASK_MS) },
    );
    if (!outcome.ok && !(outcome.failure.kind === "http" && DENIALS.includes(outcome.failure.status))) {
      return outcome.failure;
    }
    const challenge = !outcome.ok && outcome.failure.kind === "http" ? outcome.failure.challenge : null;
    challenges.set(key, challenge, { ttlMs: FRESH_MS });
    return challenge;
  }

  async function discover(
    actor: Actor,
    record: ConnectionRecord,
    source: Source,
    told: Challenge | null,
    fresh: boolean,
  ): Promise<Discovered> {
    const { connection } = record;
    const { project, id, target } = connection;
    const challenge = told ?? (await strangersChallenge(connection));
    if (challenge !== null && "kind" in challenge) return { ok: false, failure: challenge };
    const latest = await world.store.registrations.latest(project, id);
    const now = world.clock.now();
    const isFresh = latest && latest.discoveredAt + FRESH_MS > now && !isOver(latest, now);
    if (isFresh && !fresh && isFor(latest, connection, source))
      return { ok: true, registration: latest, challenge };

    const signal = AbortSignal.timeout(DISCOVERY_MS);
    const resource = await world.oauth.protectedResource(
      target,
      challenge && { ...challenge, scope: null },
      signal,
    );
    if (!resource.ok) return failedWith(resource.failure);
    const chosen = chooseIssuer(connection, source, resource.value, latest);
    if ("fault" in chosen) return refused(chosen.fault);
    const server = await serverAt(chosen.issuer, {
      isGuess: !resource.value && source.issuer === null,
      signal,
    });
    if (!server.ok) return failedWith(server.failure);
    const seen: Seen = {
      server: server.value,
      resource: resource.value?.resource ?? canonicalResource(target),
      scopesSupported: resource.value?.scopes ?? null,
    };
    const standing = await world.store.registrations.get(project, id, server.value.issuer);
    const reused = standing && reuse(standing, { connection, source, server: server.value, now });
    if (standing && reused) {
      const registration = { ...standing, ...seen, discoveredAt: now };
      await world.store.registrations.seen(registration);
      return { ok: true, registration, challenge };
    }
    const made = await makeClient(connection, source, seen, challenge, signal);
    if (!made.ok) return made;
    const registration = await keep(actor, connection, seen, made.client, standing?.id ?? null);
    return { ok: true, registration, challenge };
  }

  /** Where nobody named the issuer, and it is the server's own origin: many call themselves that with a slash. */
  async function serverAt(
    issuer: string,
    { isGuess, signal }: { isGuess: boolean; signal: AbortSignal },
  ): Promise<OAuthOutcome<AuthServer>> {
    const found = await world.oauth.authServer(issuer, signal);
    if (found.ok || !isGuess || found.failure.kind !== "invalid" || issuer.endsWith("/")) return found;
    const slashed = await world.oauth.authServer(`${issuer}/`, signal);
    return slashed.ok ? slashed : found;
  }

  /** A document that was ours under another URL, or that the server reads no more, is not a client any more. */
  function reuse(
    standing: Registration,
    {
      connection,
      source,
      server,
      now,
    }: { connection: Connection; source: Source; server: AuthServer; now: number },
  ): boolean {
    if (!isFor(standing, connection, source) || isOver(standing, now)) return false;
    if (standing.kind !== "metadata_document") return true;
    return server.takesMetadataDocument && standing.clientId === documentUrl(connection);
  }

  function documentUrl({ redirectId }: Connection): string | null {
    return redirectId === null ? null : world.clientDocumentUrl(redirectId);
  }

  async function makeClient(
    connection: Connection,
    source: Source,
    { server, scopesSupported }: Seen,
    challenge: Challenge | null,
    signal: AbortSignal,
  ): Promise<{ ok: true; client: MadeClient } | (Discovered & { ok: false })> {
    if (source.clientId !== null) {
      const auth = source.clientAuth ?? "none";
      const client = { clientId: source.clientId, clientSecret: null, privateKey: null, auth };
      return { ok: true, client: { kind: "preregistered", client, expiresAt: null } };
    }
    const clientId = documentUrl(connection);
    if (server.takesMetadataDocument && clientId !== null) {
      const client = { clientId, clientSecret: null, privateKey: null, auth: "none" as const };
      return { ok: true, client: { kind: "metadata_document", client, expiresAt: null } };
    }
    if (server.registrationEndpoint === null || connection.redirectId === null) {
      return refused(
        `the authorization server ${server.issuer} registers no clients by itself` +
          `${server.takesMetadataDocument ? " for a broker without https" : ""}: register an app there with the redirect URL ` +
          "of this connection, and set credentials.clientId (and clientSecret) and issuer",
      );
    }
    const registered = await world.oauth.register(
      server,
      {
        name: CLIENT_NAME,
        redirectUri: `${world.publicUrl}/oauth/callback/${connection.redirectId}`,
        scopes: scopesToRegister(server, scopesSupported, challenge),
      },
      signal,
    );
    if (!registered.ok) return failedWith(registered.failure);
    const { client, secretExpiresAt: expiresAt } = registered.value;
    return { ok: true, client: { kind: "dynamic", client, expiresAt } };
  }

  async function keep(
    actor: Actor,
    { project, id: connectionId, name, generation }: Connection,
    seen: Seen,
    { kind, client, expiresAt }: MadeClient,
    instead: Registration["id"] | null,
  ): Promise<Registration> {
    const id = world.newId("reg");
    const now = world.clock.now();
    const { issuer } = seen.server;
    const isSecret = kind !== "preregistered" && client.clientSecret !== null;
    const aad = registrationAad(project, connectionId, issuer, id);
    const registration: Registration = {
      ...seen,
      id,
      project,
      connectionId,
      generation,
      issuer,
      kind,
      clientId: client.clientId,
      clientAuth: client.auth,
      sealed: isSecret ? await world.sealer.seal(writeClientSecrets(client), aad) : null,
      expiresAt,
      createdAt: now,
      discoveredAt: now,
    };
    const detail = { issuer, kind, registration: id };
    const entry = auditEntry(world, actor, "client_registered", { connection: name, detail });
    return world.store.registrations.put(registration, instead, [entry]);
  }

  return {
    register: (actor, record, source, challenge, { fresh = false } = {}) => {
      const { id, version } = record.connection;
      const key = JSON.stringify([id, version, challenge, fresh]);
      const running = underWay.get(key);
      if (running) return running;
      const started = discover(actor, record, source, challenge, fresh).finally(() => underWay.delete(key));
      underWay.set(key, started);
      return started;
    },
    renew: async (actor, { connection }, source) => {
      const latest = await world.store.registrations.latest(connection.project, connection.id);
      if (latest?.kind !== "dynamic") return false;
      const made = await makeClient(connection, source, latest, null, AbortSignal.timeout(DISCOVERY_MS));
      if (!made.ok) return false;
      await keep(actor, connection, latest, made.client, latest.id);
      return true;
    },
  };
}

type Seen = Pick<Registration, "server" | "resource" | "scopesSupported">;
type MadeClient = { kind: Registration["kind"]; client: OAuthClient; expiresAt: number | null };

const CLIENT_NAME = "Consentry";
const MAX_CHALLENGES = 5_000;
/** What a server said of itself is believed for so long before a person is asked. */
const FRESH_MS = 5 * 60_000;
const ASK_MS = 30_000;
/** All requests of one discovery. */
const DISCOVERY_MS = 60_000;
const DENIALS = [401, 403];

const isOver = ({ expiresAt }: Registration, now: number) => expiresAt !== null && expiresAt <= now;

/**
 * Whether a registration is one that this connection may use: found for what it means now, and the admin's own client and
 * issuer, or none of the admin's.
 */
function isFor(registration: Registration, connection: Connection, { clientId, issuer }: Source): boolean {
  if (registration.generation !== connection.generation) return false;
  if (issuer !== null && registration.issuer !== issuer) return false;
  if (clientId === null) return registration.kind !== "preregistered";
  return registration.kind === "preregistered" && registration.clientId === clientId;
}

/**
 * The authorization server to use (RFC 9728, 7.6). The one that the admin named is the only one (A7); else the one that we are
 * registered at, as long as the server still names it (C6); else the one that it names. Without metadata it is the server's
 * own origin (2025-03-26).
 */
function chooseIssuer(
  connection: Connection,
  source: Source,
  resource: ProtectedResource | null,
  latest: Registration | null,
): { issuer: string } | { fault: string } {
  const { name, target } = connection;
  const named = resource?.authorizationServers ?? [new URL(target).origin];
  const listed = named.join(", ");
  if (source.issuer !== null) {
    if (!resource || named.includes(source.issuer)) return { issuer: source.issuer };
    return {
      fault:
        `the server of ${name} names the authorization server ${listed}, but the connection is for ${source.issuer}: ` +
        "nothing is sent there until an admin changes issuer",
    };
  }
  if (latest && isFor(latest, connection, source) && named.includes(latest.issuer))
    return { issuer: latest.issuer };
  const [only, ...others] = named;
  if (only !== undefined && others.length === 0) return { issuer: only };
  return {
    fault: `the server of ${name} names several authorization servers (${listed}): set issuer to one of them`,
  };
}

/**
 * All that may be asked for one day: some servers hold a client to the scopes that it was registered with, and a step up
 * would end there. Null: nothing is known by name.
 */
function scopesToRegister(
  { scopesSupported: ofServer }: AuthServer,
  ofResource: string[] | null,
  challenge: Challenge | null,
): string[] | null {
  const named = [...(ofResource ?? []), ...(wordsOf(challenge?.scope) ?? [])];
  if (named.length === 0) return null;
  const offline = ofServer?.includes("offline_access") ? ["offline_access"] : [];
  return [...new Set([...named, ...offline])];
}

function failedWith(failure: OAuthFailure): Discovered & { ok: false } {
  const transient = failure.kind === "transient";
  return { ok: false, failure: { kind: "authorization", transient, message: sentenceOf(failure) } };
}

function sentenceOf(failure: OAuthFailure): string {
  if (failure.kind !== "refused") return failure.message;
  const said = failure.description === null ? "" : ` (${failure.description})`;
  return `the authorization server refused to register a client: ${failure.error}${said}`;
}

function refused(message: string): Discovered & { ok: false } {
  return { ok: false, failure: { kind: "authorization", transient: false, message } };
}

/** The words of a scope (RFC 6749, 3.3). Null: there is none. */
export function wordsOf(scope: string | null | undefined): string[] | null {
  const words = (scope ?? "").split(" ").filter((word) => word !== "");
  return words.length > 0 ? [...new Set(words)] : null;
}
