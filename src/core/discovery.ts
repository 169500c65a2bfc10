import { createCache } from "./cache.ts";
import type { ClientBoxes } from "./client-boxes.ts";
import {
  clientGenerationOf,
  createClientMaker,
  type DiscoverySource,
  type Failed,
  failedWith,
  isFor,
  isOver,
  refused,
  type Seen,
} from "./client-making.ts";
import type { Connection, ConnectionRecord } from "./connection.ts";
import type { Registration } from "./consents.ts";
import type { Actor } from "./context.ts";
import { oauthOf } from "./oauth-settings.ts";
import type { AuthServer, OAuthOutcome, ProtectedResource } from "./oauth.ts";
import { pkceFault } from "./pkce.ts";
import type { Challenge, UpstreamFailure, World } from "./ports.ts";
import type { Binding } from "./refresh.ts";
import { hasTooManyClients, MAX_CLIENTS } from "./registration-limit.ts";
import { canonicalResource } from "./resource.ts";
import { tokensOf } from "./scopes.ts";
import { createSharedWork } from "./shared-work.ts";

export type Discovered = { ok: true; registration: Registration; challenge: Challenge | null } | Failed;

/**
 * Finds the authorization server of an MCP server and makes us a client there (MCP 2026-07-28, "Authorization"): protected
 * resource metadata, authorization server metadata, then the admin's own client, else our metadata document, else dynamic
 * registration (C14). What is found is a row, so that calls need no discovery; rows say when they were found.
 */
export type Discovery = {
  /**
   * What failed is not tried again for some seconds (per connection, its version and its issuer, in this process), and what
   * was found lately is not asked for again. `fresh`: neither counts.
   */
  register: (
    actor: Actor,
    record: ConnectionRecord,
    source: DiscoverySource,
    challenge: Challenge | null,
    options?: { fresh?: boolean },
  ) => Promise<Discovered>;
  /** As `register` with `fresh`, once a minute at most; whoever comes within it receives what came of that. */
  rediscover: (
    actor: Actor,
    record: ConnectionRecord,
    source: DiscoverySource,
    challenge: Challenge | null,
  ) => Promise<Discovered>;
  /** What the server says to a stranger, as far as it does. */
  challenge: (connection: Connection) => Promise<Challenge | null>;
  /**
   * Registers anew at the current server, if the client there is one of ours and still the one that was refused. However many
   * were refused, in this process one asks for another; of replicas the first one's stands. True: there is another now.
   */
  renew: (
    actor: Actor,
    record: ConnectionRecord,
    source: DiscoverySource,
    refused: Binding["clientGeneration"],
  ) => Promise<boolean>;
};

export function createDiscovery(world: World, boxes: Pick<ClientBoxes, "ofRegistration">): Discovery {
  const bounds = { max: MAX_REMEMBERED, now: world.clock.now };
  const challenges = createCache<Challenge | null>(bounds);
  // Failures: what goes well is a row.
  const lately = createCache<Discovered>(bounds);
  const shared = { max: MAX_REMEMBERED, clock: world.clock, withinMs: LONGEST_MS };
  const discoveries = createSharedWork<Discovered>({ ...shared, keepMs: () => 0 });
  const rediscoveries = createSharedWork<Discovered>({ ...shared, keepMs: () => REDISCOVER_EVERY_MS });
  const renewals = createSharedWork<{ ok: true } | Failed>({ ...shared, keepMs: failedMs });
  const clients = createClientMaker(world);

  /** What the server says to a stranger: its challenge decides where the metadata are, and which scopes it wants (C3, C28). */
  async function strangersChallenge(
    connection: Connection,
    { fresh } = { fresh: false },
  ): Promise<Challenge | null | UpstreamFailure> {
    const key = `${connection.id}:${connection.version}`;
    const cached = challenges.get(key);
    if (cached !== undefined && !fresh) return cached;
    const { target: url, timeoutMs, project, id } = connection;
    const as = `${key}:stranger`;
    const holder = { project, connection: id, owner: "stranger" };
    const outcome = await world.upstream.listTools(
      { url, headers: {}, partition: as, session: as, holder },
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
    source: DiscoverySource,
    told: Challenge | null,
    fresh: boolean,
  ): Promise<Discovered> {
    const { connection } = record;
    const { project, id, target } = connection;
    const { overrides } = oauthOf(connection);
    const challenge = told ?? (await strangersChallenge(connection, { fresh }));
    if (challenge !== null && "kind" in challenge) return { ok: false, failure: challenge };
    const latest = await world.store.registrations.latest(project, id);
    const now = world.clock.now();
    const isFresh = latest && latest.discoveredAt + FRESH_MS > now && !isOver(latest, now);
    if (isFresh && !fresh && isFor(latest, connection, source) && (await isReadable(latest)))
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
    // Before anything is registered there.
    const fault = pkceFault(server.value, overrides);
    if (fault !== null) return refused(fault);
    const seen: Seen = {
      server: server.value,
      resource: resource.value?.resource ?? canonicalResource(target),
      scopesSupported: tokensOf(resource.value?.scopes ?? null),
    };
    const standing = await world.store.registrations.get(project, id, server.value.issuer);
    const isOurs = standing && clients.canReuse(standing, { connection, source, server: server.value, now });
    if (isOurs && (await isReadable(standing))) {
      const registration = { ...standing, ...seen, discoveredAt: now };
      await world.store.registrations.seen(registration);
      return { ok: true, registration, challenge };
    }
    if (isOurs) {
      const { id: registration, issuer } = standing;
      world.log("error", "registration_unreadable", { connection: connection.name, registration, issuer });
    }
    if (!standing && (await hasTooManyClients(world, connection)))
      return refused(
        `the server of ${connection.name} has named ${MAX_CLIENTS} authorization servers, one after the other: set issuer to one of them`,
      );
    const made = await clients.make(connection, source, seen, challenge, signal);
    if (!made.ok) return made;
    const registration = await clients.keep(actor, connection, seen, made.client, standing?.id ?? null);
    return registration ? { ok: true, registration, challenge } : changedMeanwhile(connection);
  }

  /** The key that its secret was sealed with may have left the keyring: then it is a client of nobody. */
  const isReadable = async (registration: Registration) =>
    (await boxes.ofRegistration(registration)) !== null;

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

  async function renew(
    actor: Actor,
    connection: Connection,
    source: DiscoverySource,
    refused: Binding["clientGeneration"],
  ): Promise<{ ok: true } | Failed> {
    const latest = await world.store.registrations.latest(connection.project, connection.id);
    if (!latest) return NOT_OURS;
    if (clientGenerationOf(latest) !== refused) return { ok: true };
    if (latest.kind !== "dynamic") return NOT_OURS;
    const made = await clients.make(connection, source, latest, null, AbortSignal.timeout(DISCOVERY_MS));
    if (!made.ok) return made;
    const kept = await clients.keep(actor, connection, latest, made.client, latest.id);
    return kept ? { ok: true } : changedMeanwhile(connection);
  }

  /** Of those who ask at once one asks the servers; each keeps to the challenge that they were given themselves. */
  async function register(
    actor: Actor,
    record: ConnectionRecord,
    source: DiscoverySource,
    told: Challenge | null,
    { fresh = false } = {},
  ): Promise<Discovered> {
    const key = keyOf(record, source);
    const failed = lately.get(key);
    if (failed && !fresh) return failed;
    const found = await discoveries(`${key} ${fresh}`, () => discover(actor, record, source, told, fresh));
    lately.set(key, found, { ttlMs: failedMs(found) });
    return found.ok ? { ...found, challenge: told ?? found.challenge } : found;
  }

  return {
    register,
    rediscover: (actor, record, source, challenge) =>
      rediscoveries(keyOf(record, source), () => register(actor, record, source, challenge, { fresh: true })),
    challenge: async (connection) => {
      const said = await strangersChallenge(connection);
      return said !== null && "kind" in said ? null : said;
    },
    renew: async (actor, { connection }, source, refused) =>
      (await renewals(refused, () => renew(actor, connection, source, refused))).ok,
  };
}

const MAX_REMEMBERED = 5_000;
/** A server that turns every token down is not asked by every call who gives tokens. */
const REDISCOVER_EVERY_MS = 60_000;
const NOT_OURS = refused("the client was not registered by discovery");
/** What failed for a moment, and what must be mended by somebody, is not tried again for so long. */
const TRANSIENT_MS = 5_000;
const LASTING_MS = 30_000;
/** What a server said of itself is believed for so long before a person is asked. */
const FRESH_MS = 5 * 60_000;
const ASK_MS = 30_000;
/** All requests of one discovery. */
const DISCOVERY_MS = 60_000;
/** That and the question before it, twice where one waits for the other, and what is read and written on the way. */
const LONGEST_MS = 2 * (ASK_MS + DISCOVERY_MS) + 60_000;
const DENIALS = [401, 403];

const changedMeanwhile = ({ name }: Connection) => refused(`${name} was changed meanwhile; ask again`);

/** An edit is a new key. */
function keyOf({ connection: { id, version } }: ConnectionRecord, { issuer }: DiscoverySource): string {
  return JSON.stringify([id, version, issuer]);
}

function failedMs(outcome: { ok: true } | Failed): number {
  if (outcome.ok) return 0;
  const { failure } = outcome;
  const isLasting = failure.kind === "authorization" ? !failure.transient : failure.kind === "refused";
  return isLasting ? LASTING_MS : TRANSIENT_MS;
}

/**
 * The authorization server to use (RFC 9728, 7.6). The one that the admin named is the only one (A7); else the one that we are
 * registered at, as long as the server still names it (C6); else the one that it names. Without metadata it is the server's
 * own origin (2025-03-26).
 */
function chooseIssuer(
  connection: Connection,
  source: DiscoverySource,
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
