import { type AuthorizationDesk, createAuthorizationDesk } from "./authorization.ts";
import { createCache } from "./cache.ts";
import { createClientBoxes } from "./client-boxes.ts";
import type { ConnectionRecord, HeaderValues } from "./connection.ts";
import { askForConsent, consentLink, type Question, scopesToAsk } from "./consent-asking.ts";
import { type Context, holderOf, ownerOf } from "./context.ts";
import { BrokerError } from "./errors.ts";
import type { Grant, GrantKey } from "./grants.ts";
import type { UserId } from "./ids.ts";
import { type OpenedHeaders, readHeaders, sentHeaders } from "./header-boxes.ts";
import { createMachineDoors, type MachineDoors } from "./machine-doors.ts";
import { noCredential } from "./no-credential.ts";
import type { Challenge, UpstreamAccess, UpstreamFailure, World } from "./ports.ts";
import { createTokenDesk, type TokenOutcome } from "./refresh.ts";
import type { Server } from "./servers.ts";
import { RECENT_MS } from "./standing.ts";
import { stepUp } from "./step-up.ts";
import { connectionAad } from "./storage.ts";

/** Why a server was not reached: as an upstream fails, or because the person is missing. */
export type Failure =
  | UpstreamFailure
  /** The person must connect an account first; the consent is open. */
  | { kind: "consent"; request: { id: string; label: string; link: string }; message: string }
  /** They said no to it in the conversation that this request goes on with. */
  | { kind: "declined"; message: string };

/** A way to a server. `again`: what to do when the server turns down what it was shown (401, 403). Null: nothing. */
export type Door =
  | { ok: true; access: UpstreamAccess; again: ((refusal: Refusal) => Promise<Door | null>) | null }
  | { ok: false; failure: Failure };

type Refusal = UpstreamFailure & { kind: "http" };

/** The one door to a credential: whoever wants to reach a server asks here, every time. */
export type AccessDesk = {
  /**
   * Gives what it takes to reach the server for this request: the connection's sealed headers, the user's own token, or
   * an identity's, the request's own for a `server_url` without a connection. A token is refreshed here, once for all
   * replicas; a user without a grant gets a consent opened. Never falls back from one credential to another (threats, rule 10).
   */
  open: (context: Context, server: Server) => Promise<Door>;
  authorization: AuthorizationDesk;
  /** Whom a connection with an identity presents. */
  principal: MachineDoors["principal"];
};

/** Goes through a door, and once more with what is given instead when the server turns the first down. */
export async function through<T extends { ok: true } | { ok: false; failure: UpstreamFailure }>(
  door: Door & { ok: true },
  work: (access: UpstreamAccess) => Promise<T>,
): Promise<T | { ok: false; failure: Failure; sent: false }> {
  const outcome = await work(door.access);
  if (outcome.ok || !door.again) return outcome;
  const { failure } = outcome as { failure: UpstreamFailure };
  if (failure.kind !== "http" || !DENIALS.includes(failure.status)) return outcome;
  const next = await door.again(failure);
  if (!next) return outcome;
  // The server turned the request away before it did anything.
  return next.ok ? work(next.access) : { ok: false, failure: next.failure, sent: false };
}

const UNAUTHORIZED = 401;
const FORBIDDEN = 403;
const DENIALS = [UNAUTHORIZED, FORBIDDEN];

export function createAccessDesk(world: World): AccessDesk {
  // Keyed by connection and version: an edit is a new key. Rows are read every time, boxes opened once.
  const opened = createCache<OpenedHeaders>({ max: MAX_OPENED, now: world.clock.now });
  const usedLately = createCache<true>({ max: MAX_OPENED, now: world.clock.now });
  // By the row itself, which a request reads for itself and, as it grows older, anew (core/standing).
  const lately = new WeakMap<ConnectionRecord, { user: UserId | null; at: number; door: Door }>();
  const authorization = createAuthorizationDesk(world);
  const tokens = createTokenDesk(world);
  const machines = createMachineDoors(world, createClientBoxes(world));

  async function headersOf({ connection, sealed }: ConnectionRecord): Promise<HeaderValues> {
    const key = `${connection.id}:${connection.version}`;
    const cached = opened.get(key);
    // What is kept elsewhere is asked for at every use; who keeps it remembers it.
    if (cached) return sentHeaders(world.references, connection.project, cached);
    if (!sealed) throw new BrokerError("unavailable", { what: `the credentials of ${connection.name}` });
    const aad = connectionAad(connection.project, connection.id, connection.version);
    const headers = readHeaders(await world.sealer.open(sealed, aad));
    opened.set(key, headers, { ttlMs: OPENED_TTL_MS });
    return sentHeaders(world.references, connection.project, headers);
  }

  async function openConnection(context: Context, server: Server, record: ConnectionRecord): Promise<Door> {
    const { id, version, auth } = record.connection;
    switch (auth.kind) {
      case "oauth":
        return openLately(context, server, record);
      case "identity":
        return machines.identity({ context, server, record, auth });
      case "user_token":
        return machines.userToken({ context, server, record, auth });
      case "client_credentials":
        return machines.clientCredentials({ context, server, record, auth });
      case "none":
      case "key": {
        const headers = auth.kind === "key" ? await headersOf(record) : {};
        const isElsewhere = auth.kind === "key" && auth.references !== undefined;
        // What is kept elsewhere changes without a new version, and may be another account then.
        const value = isElsewhere ? `:${await world.crypto.sha256(JSON.stringify(headers))}` : "";
        const partition = `${id}:${version}${value}`;
        const session = `${partition}:${ownerOf(context)}`;
        const access = { url: server.url, headers, partition, session, holder: holderOf(context, id) };
        return { ok: true, access, again: null };
      }
    }
  }

  /** The same, once for a listing and the call that follows it: what was found for a row that has just been read, for its user. */
  async function openLately(context: Context, server: Server, record: ConnectionRecord): Promise<Door> {
    const known = lately.get(record);
    const now = world.clock.now();
    if (known?.user === context.user && now - known.at < RECENT_MS) return known.door;
    const door = await openGrant(context, server, record);
    if (door.ok) lately.set(record, { user: context.user, at: now, door });
    return door;
  }

  /** The user's own token: found, refreshed ahead of its end, or asked for. */
  async function openGrant(context: Context, server: Server, record: ConnectionRecord): Promise<Door> {
    const { user } = context;
    if (user === null)
      return unusable(`the connection ${record.connection.name} acts for a user, and none is named`);
    const asked = { context: { ...context, user }, server, record };
    const known = await authorization.known(record);
    const ready = known
      ? { ok: true as const, way: known }
      : await authorization.ready(context, record, null);
    if (!ready.ok) return ready;
    const { way } = ready;
    const key = keyOf(record, user);
    const outcome = await tokens.token(context, key, way);
    if (outcome.ok || outcome.need !== "later" || !outcome.clientRefused) return settle(asked, outcome, null);
    // Rule 8: a client registered anew makes the grant one of another client, and the person is asked, with that reason.
    const renewed = await authorization.renewClient(context, record, way.clientGeneration);
    const anew = renewed ? await authorization.known(record) : null;
    return settle(asked, anew ? await tokens.token(context, key, anew) : outcome, null);
  }

  async function settle(asked: Asked, outcome: TokenOutcome, challenge: Challenge | null): Promise<Door> {
    if (outcome.ok) return granted(asked, outcome);
    if (outcome.need === "consent") return ask(asked, { why: outcome.reason, challenge });
    const { name } = asked.record.connection;
    if (outcome.clientRefused)
      return unusable(`the account of ${name} cannot be used: ${outcome.message}${RENEW_CLIENT}`);
    return unusable(`the account of ${name} cannot be used right now: ${outcome.message}`, {
      transient: true,
    });
  }

  function granted(asked: Asked, { accessToken, grant }: TokenOutcome & { ok: true }): Door {
    const { context, server, record } = asked;
    remember(context, grant);
    const { id, version } = record.connection;
    // A person's listings and sessions are never another's, and not those of their account before.
    const partition = JSON.stringify([id, version, context.user, grant.createdAt]);
    const access = {
      url: server.url,
      headers: { authorization: `Bearer ${accessToken}` },
      partition,
      session: partition,
      holder: holderOf(context, id),
    };
    return { ok: true, access, again: (refusal) => turnedDown(asked, grant, refusal) };
  }

  /** The server turned the token down: a newer one, more scopes, or a new consent (DESIGN 10). */
  async function turnedDown(
    asked: Asked,
    grant: Grant,
    { status, challenge }: Refusal,
  ): Promise<Door | null> {
    const { context, record } = asked;
    if (status === FORBIDDEN) {
      const question = await stepUp(world, grant, challenge);
      if (question.kind === "none") return null;
      return question.kind === "ask" ? ask(asked, { ...question, challenge }) : unusable(question.message);
    }
    // A token that was made a moment ago and is turned down: another would be, too.
    const now = world.clock.now();
    const isOver = grant.expiresAt !== null && grant.expiresAt <= now;
    if (!isOver && grant.refreshedAt !== null && now - grant.refreshedAt < FRESH_TOKEN_MS) return null;
    await authorization.rediscover(context, record, challenge);
    const way = await authorization.known(record);
    if (!way) return ask(asked, { why: "issuer_changed", challenge });
    const key = keyOf(record, context.user);
    const renewed = await settle(asked, await tokens.rejected(context, key, way, grant.version), challenge);
    return renewed.ok ? { ...renewed, again: null } : renewed;
  }

  async function ask(
    { context, server, record }: Asked,
    about: { why: string; challenge: Challenge | null; question?: Question },
  ): Promise<Door> {
    const { connection } = record;
    if (context.declined?.has(connection.id)) {
      return {
        ok: false,
        failure: { kind: "declined", message: `The user declined to connect ${server.label}` },
      };
    }
    const ready = await authorization.ready(context, record, about.challenge);
    if (!ready.ok) return ready;
    const grant = await world.store.grants.get(keyOf(record, context.user));
    const question = about.question ?? {
      why: about.why,
      scopes: scopesToAsk(ready.way, ready.challenge, grant),
      newScopes: [],
    };
    const consent = await askForConsent(world, context, connection, question);
    if (!consent.ok) {
      return unusable(`the connection ${connection.name} needs the user's consent, but ${consent.message}`);
    }
    const { id } = consent.consent;
    const request = { id, label: server.label, link: await consentLink(world, id) };
    const more = about.question?.newScopes.join(" ");
    const message = more
      ? `${server.label} wants more than the user allowed (${more}): see the consent request.`
      : `The user must connect ${server.label} first: see the consent request.`;
    return { ok: false, failure: { kind: "consent", request, message } };
  }

  /** When a grant was used last, and by whom: said at most once a minute. */
  function remember(context: Context, grant: Grant): void {
    if (usedLately.get(grant.id)) return;
    usedLately.set(grant.id, true, { ttlMs: USED_EVERY_MS });
    const use = { at: world.clock.now(), by: context.agent ?? context.caller.name };
    // Nobody waits for it, and nothing depends on it.
    world.store.grants
      .used(grant, use)
      .catch((error: unknown) => world.log("warn", "grant_use_not_kept", { grant: grant.id, err: error }));
  }

  async function openOwn(context: Context, server: Server): Promise<Door> {
    const headers = ownHeaders(server);
    // Sessions and listings of one caller's credentials are never another's.
    const own = JSON.stringify([context.project.name, ownerOf(context), server.url, headers]);
    const partition = `adhoc:${await world.crypto.sha256(own)}`;
    const holder = holderOf(context, partition);
    return {
      ok: true,
      access: { url: server.url, headers, partition, session: partition, holder },
      again: null,
    };
  }

  return {
    authorization,
    principal: machines.principal,
    open: async (context, server) => {
      try {
        return server.record
          ? await openConnection(context, server, server.record)
          : await openOwn(context, server);
      } catch (error) {
        // A credential that cannot be opened fails this server and no other.
        return { ok: false, failure: noCredential(server.label, error) };
      }
    },
  };
}

type Asked = { context: Context & { user: UserId }; server: Server; record: ConnectionRecord };

/** It is not the person's fault, and it does not pass. */
const RENEW_CLIENT =
  ". It takes our client no longer: if its secret has ended, write a new one (credentials.clientSecret, or the connector's)";
const MAX_OPENED = 10_000;
const OPENED_TTL_MS = 5 * 60_000;
const USED_EVERY_MS = 60_000;
/** One refresh for a server that turns every token down, not one for each call. */
const FRESH_TOKEN_MS = 30_000;

function keyOf({ connection }: ConnectionRecord, user: UserId): GrantKey {
  return { project: connection.project, connectionId: connection.id, user };
}

function unusable(message: string, { transient } = { transient: false }): Door & { ok: false } {
  return { ok: false, failure: { kind: "authorization", transient, message } };
}

/** What the request itself brings: `authorization` is a bare token (responses-wire: the server adds `Bearer`). */
function ownHeaders({ tool }: Server): HeaderValues {
  if (tool.authorization === null) return tool.headers;
  return { ...tool.headers, authorization: `Bearer ${tool.authorization}` };
}
