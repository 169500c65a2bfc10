import { writeClientSecrets } from "./client-secrets.ts";
import type { Connection, OAuthSource } from "./connection.ts";
import type { Registration } from "./consents.ts";
import { type Actor, auditEntry } from "./context.ts";
import type { AuthServer, OAuthClient, OAuthFailure } from "./oauth.ts";
import type { Challenge, UpstreamFailure, World } from "./ports.ts";
import { redirectUrlOf } from "./redirects.ts";
import { wordsOf } from "./scopes.ts";
import { registrationAad } from "./storage.ts";

export type DiscoverySource = OAuthSource & { kind: "discovery" };

/** What discovery found of a server and its authorization server. */
export type Seen = Pick<Registration, "server" | "resource" | "scopesSupported">;

export type MadeClient = { kind: Registration["kind"]; client: OAuthClient; expiresAt: number | null };

export type Failed = { ok: false; failure: UpstreamFailure };

/** How we become a client at an authorization server that discovery found (C14): the admin's own, our document, registration. */
export function createClientMaker(world: World) {
  /** Null: the server could not read it. Nobody elsewhere reaches a broker that listens on loopback. */
  function documentUrl({ redirectId }: Connection, { issuer }: AuthServer): string | null {
    const isReachable = !world.local || isLoopback(new URL(issuer).hostname);
    return redirectId === null || !isReachable ? null : world.clientDocumentUrl(redirectId);
  }

  async function make(
    connection: Connection,
    source: DiscoverySource,
    { server, scopesSupported }: Seen,
    challenge: Challenge | null,
    signal: AbortSignal,
  ): Promise<{ ok: true; client: MadeClient } | Failed> {
    if (source.clientId !== null) {
      const auth = source.clientAuth ?? "none";
      const client = { clientId: source.clientId, clientSecret: null, privateKey: null, auth };
      return { ok: true, client: { kind: "preregistered", client, expiresAt: null } };
    }
    const clientId = documentUrl(connection, server);
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
    // Where nothing can be sealed, what comes could not be kept, and every call would register another one.
    await world.sealer.seal("", "");
    const registered = await world.oauth.register(
      server,
      {
        name: CLIENT_NAME,
        redirectUri: redirectUrlOf(world, connection.redirectId),
        scopes: scopesToRegister(server, scopesSupported, challenge),
      },
      signal,
    );
    if (!registered.ok) return failedWith(registered.failure);
    const { client, secretExpiresAt: expiresAt } = registered.value;
    // A person's way there and back takes longer, and every call would register another one.
    if (expiresAt !== null && expiresAt - world.clock.now() < MIN_SECRET_MS)
      return refused(`the authorization server ${server.issuer} registers clients whose secret ends at once`);
    return { ok: true, client: { kind: "dynamic", client, expiresAt } };
  }

  async function keep(
    actor: Actor,
    { project, id: connectionId, name, generation }: Connection,
    seen: Seen,
    { kind, client, expiresAt }: MadeClient,
    instead: Registration["id"] | null,
  ): Promise<Registration | null> {
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
    const detail = { issuer, kind, registration: id, generation };
    const entry = auditEntry(world, actor, "client_registered", { connection: name, detail });
    // Registering took its time. What happens between this look and the write leaves a row that nobody uses.
    const current = await world.store.connections.find(project, connectionId);
    if (current?.connection.generation !== generation) return null;
    return world.store.registrations.put(registration, instead, [entry]);
  }

  /** A document that was ours under another URL, or that the server reads no more, is not a client any more. */
  function reuse(
    standing: Registration,
    {
      connection,
      source,
      server,
      now,
    }: { connection: Connection; source: DiscoverySource; server: AuthServer; now: number },
  ): boolean {
    if (!isFor(standing, connection, source) || isOver(standing, now)) return false;
    if (standing.kind !== "metadata_document") return true;
    return server.takesMetadataDocument && standing.clientId === documentUrl(connection, server);
  }

  return {
    /** The client that the server lets us be. A registered one is asked for now. */
    make,
    /**
     * Keeps it for the connection. Of racers the first wins, and all receive the winner's. Null: the connection is gone, or
     * means something else by now.
     */
    keep,
    /** Whether what stands may be used still, and need not be made anew. */
    canReuse: reuse,
  };
}

const CLIENT_NAME = "Consentry";
const MIN_SECRET_MS = 60_000;

const isLoopback = (hostname: string) =>
  hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname);

/** What tokens of this client are bound to: those of one registration are nothing to another (threats, rule 8). */
export const clientGenerationOf = ({ generation, id }: Registration) => `${generation}/${id}`;

export const isOver = ({ expiresAt }: Registration, now: number) => expiresAt !== null && expiresAt <= now;

/**
 * Whether a registration is one that this connection may use: found for what it means now, and the admin's own client and
 * issuer, or none of the admin's.
 */
export function isFor(
  registration: Registration,
  connection: Connection,
  { clientId, issuer }: DiscoverySource,
): boolean {
  if (registration.generation !== connection.generation) return false;
  if (issuer !== null && registration.issuer !== issuer) return false;
  if (clientId === null) return registration.kind !== "preregistered";
  return registration.kind === "preregistered" && registration.clientId === clientId;
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

/** A failure of the library or the server as one of the call that needed it. */
export function failedWith(failure: OAuthFailure): Failed {
  const transient = failure.kind === "transient";
  return { ok: false, failure: { kind: "authorization", transient, message: sentenceOf(failure) } };
}

function sentenceOf(failure: OAuthFailure): string {
  if (failure.kind !== "refused") return failure.message;
  const said = failure.description === null ? "" : ` (${failure.description})`;
  return `the authorization server refused to register a client: ${failure.error}${said}`;
}

export function refused(message: string): Failed {
  return { ok: false, failure: { kind: "authorization", transient: false, message } };
}
