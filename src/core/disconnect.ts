import { asTheyEnd } from "./as-they-end.ts";
import { createCache } from "./cache.ts";
import type { AuthorizationDesk } from "./authorization.ts";
import type { ConnectionRecord } from "./connection.ts";
import { type Actor, auditEntry } from "./context.ts";
import { isRefusal, isUnopenable } from "./errors.ts";
import { type Grant, grantAad, type GrantKey, type GrantsOf } from "./grants.ts";
import { textMembers } from "./json.ts";
import type { SessionsOf, World } from "./ports.ts";
import { type RevocationWay, revocationWay } from "./revocation-way.ts";
import type { Listed } from "./storage.ts";

/**
 * What the authorization server made of it. `impossible`: it has no revocation endpoint, or the client is not to be had any
 * more. `refused`: it will not. `failed`: it did not answer, and is told again by the sweep.
 */
export type Told = "revoked" | "impossible" | "refused" | "failed";

/** A grant that is revoked here, and how its authorization server is told. */
type Telling = () => Promise<Told>;

/** Takes grants back: here first, which holds from the next call on, then at their authorization servers (RFC 7009). */
export type Disconnect = {
  /** One grant; waits until the server was told, ten seconds at most. Null: there was none to take back. */
  revoke: (actor: Actor, key: GrantKey) => Promise<Told | null>;
  /**
   * What a block, an edit or a deletion has just taken back, sessions at servers included: waits for five seconds; what is not done by then goes on by
   * itself, and what this process cannot finish is the sweep's. `record`: the connection as it was when the grants were made.
   * An app whose client or endpoints were edited stands nowhere else, so that the sweep of another process finds it impossible.
   * Never throws.
   */
  tellOf: (of: GrantsOf, record: ConnectionRecord | null) => Promise<void>;
  /** Tries again what is left of earlier processes and servers that were away. Never throws. */
  sweep: () => Promise<void>;
  /** Resolves when nothing goes on by itself any more. */
  idle: () => Promise<void>;
};

export function createDisconnect(world: World, authorization: AuthorizationDesk): Disconnect {
  const { store, clock } = world;
  const underWay = new Set<Promise<void>>();
  const failingSince = createCache<number>({ max: MAX_SWEPT, now: clock.now });

  async function end(grant: Grant, reason: string, told: Told): Promise<Told> {
    await store.grants.emptied(keyOf(grant), grant.version, reason);
    return told;
  }

  async function tellOne(grant: Grant, way: RevocationWay | null, isDeleted: boolean): Promise<Told> {
    if (!way) return end(grant, isDeleted ? "connection_deleted" : "impossible", "impossible");
    const { server, client } = way;
    const token = await tokenOf(world, grant);
    if (server.revocationEndpoint === null || !token) return end(grant, "impossible", "impossible");
    const outcome = await world.oauth.revoke({ server, client, ...token }, AbortSignal.timeout(REQUEST_MS));
    if (outcome.ok) return end(grant, "revoked", "revoked");
    world.log("warn", "revocation_failed", { grant: grant.id, failure: outcome.failure.kind });
    return outcome.failure.kind === "transient" ? "failed" : end(grant, "refused", "refused");
  }

  /** What it was made with may not be to be had now: then it is told later, as when its server is away. */
  async function tellingOf(grant: Grant, record: ConnectionRecord | null): Promise<Telling> {
    try {
      const way = await revocationWay(world, authorization, grant, record);
      return () => tellOne(grant, way, record === null);
    } catch (error) {
      if (!isRefusal(error, "unavailable")) throw error;
      return () => Promise.reject(error);
    }
  }

  /** Each connection once. */
  async function recordsOf(grants: Pick<Grant, "project" | "connectionId">[]) {
    const keys = new Map(
      grants.map(({ project, connectionId: id }) => [`${project} ${id}`, { project, id }]),
    );
    const found = await Promise.all(
      [...keys].map(
        async ([key, { project, id }]) => [key, await store.connections.find(project, id)] as const,
      ),
    );
    const records = new Map(found);
    return (grant: Pick<Grant, "project" | "connectionId">) =>
      records.get(`${grant.project} ${grant.connectionId}`) ?? null;
  }

  /** Whether its server has been away for a day of sweeps, as far as this process knows. */
  function isHopeless({ id }: Grant): boolean {
    const since = failingSince.get(id) ?? clock.now();
    failingSince.set(id, since, { ttlMs: 2 * GIVE_UP_MS });
    return clock.now() - since > GIVE_UP_MS;
  }

  /** A fault of one must not keep the others from being told. */
  function heard(telling: Telling): Telling {
    return () =>
      telling().catch((err: unknown) => {
        world.log("error", "revocation_failed", { err });
        return "failed";
      });
  }

  async function run(tellings: Telling[]): Promise<void> {
    const ends = asTheyEnd(tellings.map(heard), AT_ONCE);
    while (!(await ends.next()).done);
  }

  async function tellPage(grants: Grant[], record: ConnectionRecord | null): Promise<void> {
    const recordOf = record ? () => record : await recordsOf(grants);
    const again = grants.map((grant) => async (): Promise<Told> => {
      const told = await (await tellingOf(grant, recordOf(grant)))();
      return told === "failed" && isHopeless(grant) ? end(grant, "gave_up", told) : told;
    });
    await run(again);
  }

  async function tellUntold(of?: GrantsOf, record: ConnectionRecord | null = null): Promise<void> {
    try {
      let after: string | null = null;
      for (let seen = 0; seen < MAX_SWEPT; seen += PAGE) {
        const page: Listed<Grant> = await store.grants.unrevoked({ after, limit: PAGE }, of);
        await tellPage(page.rows, record);
        after = page.rows.at(-1)?.id ?? null;
        if (!page.more || after === null) return;
      }
    } catch (err) {
      world.log("warn", "sweep_failed", { what: "grants", err });
    }
  }

  return {
    revoke: async (actor, key) => {
      const grant = await store.grants.get(key);
      if (!grant || grant.status === "revoked") return null;
      const record = await store.connections.find(key.project, key.connectionId);
      const entry = auditEntry(world, actor, "grant_revoked", {
        user: grant.user,
        connection: record?.connection.name ?? null,
        detail: { grant: grant.id, why: "disconnected" },
      });
      const revoked = await store.grants.revoke(key, clock.now(), [entry]);
      if (!revoked) return null;
      // Before its token is: a server lets nobody end a session whose token is worth nothing.
      const { project, connectionId: connection, user: owner } = key;
      await world.upstream.endSessions({ project, connection, owner });
      return heard(await tellingOf(revoked, record))();
    },
    tellOf: async (of, record) => {
      const told = new AbortController();
      const tellAll = async () => {
        await world.upstream.endSessions(sessionsOf(of));
        await tellUntold(of, record);
      };
      const all = tellAll().finally(() => {
        underWay.delete(all);
        told.abort();
      });
      underWay.add(all);
      await Promise.race([all, clock.sleep(TELL_MS, told.signal)]);
    },
    sweep: () => tellUntold(),
    idle: async () => {
      while (underWay.size > 0) await Promise.all(underWay);
    },
  };
}

const REQUEST_MS = 10_000;
const TELL_MS = 5_000;
/** How many servers are told at the same time. */
const AT_ONCE = 4;
const PAGE = 100;
const MAX_SWEPT = 5_000;
/** An authorization server that has been away for so long will not be asked again; its tokens die by themselves. */
const GIVE_UP_MS = 24 * 60 * 60_000;

/** The refresh token if there is one: with it goes what was made of it (RFC 7009, 2.1). Null: the box does not open. */
async function tokenOf(
  { sealer }: World,
  grant: Grant,
): Promise<{ token: string; hint: "access_token" | "refresh_token" } | null> {
  try {
    const { accessToken, refreshToken } = textMembers(
      JSON.parse(await sealer.open(grant.sealed, grantAad(grant))),
    );
    if (refreshToken !== undefined) return { token: refreshToken, hint: "refresh_token" };
    return accessToken === undefined ? null : { token: accessToken, hint: "access_token" };
  } catch (error) {
    if (!isUnopenable(error)) throw error;
    return null;
  }
}

function sessionsOf(of: GrantsOf): SessionsOf {
  const { project } = of;
  return "user" in of ? { project, owner: of.user } : { project, connection: of.connectionId };
}

function keyOf({ project, connectionId, user }: Grant): GrantKey {
  return { project, connectionId, user };
}
