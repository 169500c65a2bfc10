import type { Door } from "./access.ts";
import { decodedClaims } from "./claims-challenge.ts";
import type { ClientBoxes } from "./client-boxes.ts";
import type { ClientCredentialsAuth, ConnectionRecord, IdentityAuth, UserTokenAuth } from "./connection.ts";
import { type Context, holderOf, ownerOf } from "./context.ts";
import { CALLS_US, callsUs } from "./exchange-guard.ts";
import { type IdentitySource, sourceOf } from "./identity-source.ts";
import type { MachineIdentity, Minted, MintFailure, Principal, UserToken } from "./machine-identity.ts";
import { createMintedTokens, type Mint } from "./minted-tokens.ts";
import type { UpstreamFailure, World } from "./ports.ts";
import type { Server } from "./servers.ts";
import { createTokenMinting } from "./token-minting.ts";
import { type UserTokenWay, userTokenWay } from "./user-token-way.ts";

export type Asked<A> = { context: Context; server: Server; record: ConnectionRecord; auth: A };

/** The doors whose tokens are made at the time: nothing of a person's is stored for them, and nobody is asked. */
export type MachineDoors = {
  identity: (asked: Asked<IdentityAuth>) => Promise<Door>;
  userToken: (asked: Asked<UserTokenAuth>) => Promise<Door>;
  clientCredentials: (asked: Asked<ClientCredentialsAuth>) => Promise<Door>;
  /** Whom the server will see; a token is made, if there is none, where nothing else tells. */
  principal: (asked: Asked<IdentityAuth>) => Promise<PrincipalSeen>;
};

/** `fault`: why there is no token, as a sentence; what is known of the principal all the same is given. */
export type PrincipalSeen = { principal: Principal | null; fault: string | null };

/** How a token is made, what it is remembered by, and whose listings and sessions are shared. */
type Way = {
  key: string;
  mint: Mint;
  partition: string;
  session: string;
  /** For a server that wants more of the person's sign-in. Null: there is no person. */
  mintWith: ((claims: string) => Mint) | null;
};

export function createMachineDoors(world: World, boxes: Pick<ClientBoxes, "ofConnection">): MachineDoors {
  const tokens = createMintedTokens(world);
  const minting = createTokenMinting(world);

  async function enter(asked: Asked<unknown>, way: Way): Promise<Door> {
    const minted = await tokens.get(way.key, way.mint);
    return minted.ok ? opened(asked, way, minted) : closed(asked, minted);
  }

  function opened(asked: Asked<unknown>, way: Way, { token }: Minted & { ok: true }): Door {
    const { partition, session } = way;
    const access = {
      url: asked.server.url,
      headers: { authorization: `Bearer ${token}` },
      partition,
      session,
      holder: holderOf(asked.context, asked.record.connection.id),
    };
    return {
      ok: true,
      access,
      again: async ({ status, challenge }) => {
        if (status !== UNAUTHORIZED) return null;
        const { mintWith } = way;
        const claims = challenge?.claims && mintWith ? decodedClaims(challenge.claims) : null;
        const mint = claims !== null && mintWith ? mintWith(claims) : way.mint;
        const next = await tokens.instead(way.key, token, { mint, claims });
        if (next === null) return null;
        const door = next.ok ? opened(asked, way, next) : closed(asked, next);
        return door.ok ? { ...door, again: null } : door;
      },
    };
  }

  return {
    identity: async (asked) => {
      const { context, server, record, auth } = asked;
      const source = await sourceOf(world, context, {
        of: auth.of,
        audience: auth.audience,
        url: server.url,
      });
      if (!source.ok) return unusable(asked, source.message);
      return enter(asked, identityWay(source, context, record));
    },
    principal: async ({ context, server, record, auth }) => {
      const { of, audience } = auth;
      const source = await sourceOf(world, context, { of, audience, url: server.url });
      if (!source.ok) return { principal: null, fault: source.message };
      const described = await source.provider.describe(source.identity);
      if (described !== null && described.subject !== null) return { principal: described, fault: null };
      const { key, mint } = identityWay(source, context, record);
      const minted = await tokens.get(key, mint);
      return minted.ok
        ? { principal: minted.principal, fault: null }
        : { principal: described, fault: minted.message };
    },
    userToken: async (asked) => {
      const { context, record, auth } = asked;
      const found = userTokenWay(world, context, { record, auth });
      if (!found.ok) return unusable(asked, found.message);
      const { user, userToken } = found;
      const made = await userMint(asked, found);
      const mint = (claims: string | null) => guarded(made(claims), context.project, userToken);
      const { id, version } = record.connection;
      const person = JSON.stringify([id, version, user]);
      // Of this very token: what another of the same person may do is not known. And of our client at the issuer as it is now.
      const token = await world.crypto.sha256(userToken.token);
      return enter(asked, {
        key: JSON.stringify(["user", id, version, context.project.version, auth, token]),
        mint: mint(null),
        mintWith: mint,
        partition: person,
        session: person,
      });
    },
    clientCredentials: async (asked) => {
      const { context, record, auth } = asked;
      const { id, version, target } = record.connection;
      const partition = `${id}:${version}`;
      return enter(asked, {
        key: JSON.stringify(["client", id, version]),
        mint: async ({ signal }) =>
          minting.clientCredentials({ auth, secrets: await boxes.ofConnection(record), target }, signal),
        mintWith: null,
        partition,
        session: `${partition}:${ownerOf(context)}`,
      });
    },
  };

  async function userMint(
    { context: { project }, record, auth }: Asked<UserTokenAuth>,
    { userToken: user, entra }: UserTokenWay & { ok: true },
  ): Promise<(claims: string | null) => Mint> {
    if (entra === null) {
      const { target } = record.connection;
      const secrets = auth.idJag && (await boxes.ofConnection(record));
      return () =>
        ({ signal }) =>
          minting.exchange({ project, user, auth, secrets, target }, signal);
    }
    const { audience, scopes } = auth;
    const request = { project: project.name, user, audience, scopes };
    return (claims) =>
      ({ fresh, signal }) =>
        entra.onBehalfOf({ ...request, claims, fresh: fresh || claims !== null }, signal);
  }
}

const UNAUTHORIZED = 401;

function guarded(mint: Mint, project: Context["project"], user: UserToken): Mint {
  return async (options) => {
    const minted = await mint(options);
    return minted.ok && callsUs(project, minted.token, user)
      ? { ok: false, transient: false, message: CALLS_US, claims: null }
      : minted;
  };
}

function identityWay(
  { identity, provider, audience, by }: IdentitySource,
  context: Context,
  { connection: { id, version } }: ConnectionRecord,
): Way {
  // What is made again under a name is another identity (workload's `oid`), though it is called the same.
  const made = madeAt(identity, context);
  const partition = JSON.stringify([id, version, identity, ...made]);
  return {
    key: JSON.stringify(["identity", by, identity, audience, ...made]),
    mint: ({ fresh, signal }) => provider.token({ identity, audience, fresh }, signal),
    mintWith: null,
    partition,
    session: JSON.stringify([partition, ownerOf(context)]),
  };
}

function madeAt(identity: MachineIdentity, { project, agentMadeAt }: Context): (number | null)[] {
  const isOwn = identity.kind === "agent" && identity.agent !== null;
  return [project.createdAt, isOwn ? (agentMadeAt ?? null) : null];
}

function closed({ record }: Pick<Asked<unknown>, "record">, failure: MintFailure): Door & { ok: false } {
  const message = `the connection ${record.connection.name} has no token: ${failure.message}`;
  const { claims, transient } = failure;
  const why: UpstreamFailure =
    claims === null ? { kind: "authorization", transient, message } : { kind: "claims", claims, message };
  return { ok: false, failure: why };
}

function unusable({ record }: Pick<Asked<unknown>, "record">, why: string): Door & { ok: false } {
  const message = `the connection ${record.connection.name} cannot be used: ${why}`;
  return { ok: false, failure: { kind: "authorization", transient: false, message } };
}
