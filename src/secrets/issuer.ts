import { SignJWT } from "jose";
import { audienceFault } from "../core/audience-rules.ts";
import { isRefusal } from "../core/errors.ts";
import type { MachineIdentity, Minted, MintFailure, Principal } from "../core/machine-identity.ts";
import type { Clock, Crypto, Log, Sealer } from "../core/ports.ts";
import type { Project } from "../core/project.ts";
import type { Store } from "../core/storage.ts";
import { agentWord, hasSharedName, objectIdOf, subjectOf, type WorkloadIssuer } from "../core/workload.ts";
import { createSigningRing } from "./signing-keys.ts";

/** How long a token of ours is good. It cannot be taken back, so it is short. */
export const WORKLOAD_TOKEN_MS = 10 * 60 * 1000;

/**
 * Our own identities (DESIGN 11): tokens of the broker as an OpenID provider without people, which servers and the
 * federations of clouds check by its address alone.
 */
export function createWorkloadIssuer({
  publicUrl,
  store,
  sealer,
  crypto,
  clock,
  log,
  callerAudiences,
}: {
  publicUrl: string;
  store: Pick<Store, "projects" | "agents" | "signingKeys">;
  sealer: Sealer;
  crypto: Crypto;
  clock: Clock;
  log: Log;
  /** The audiences with which callers come to this project: no token of ours may have one. */
  callerAudiences: (project: Project) => readonly string[];
}): WorkloadIssuer {
  const keys = { purpose: "workload", tokenMs: WORKLOAD_TOKEN_MS, store: store.signingKeys } as const;
  const ring = createSigningRing({ ...keys, sealer, clock, log });

  const principalOf = (identity: MachineIdentity): Principal => {
    const subject = subjectOf(identity);
    return { issuer: publicUrl, subject, clientId: subject, tenant: null };
  };

  /** When the agent was made. Null: the identity is of no one agent. `none`: there is no such identity. */
  async function agentMade(identity: MachineIdentity): Promise<number | null | "none"> {
    if (identity.kind === "project" || identity.agent === null) return null;
    const agent = await store.agents.get(identity.project, identity.agent);
    return agent?.identity === "own" && !hasSharedName(agent.name) ? agent.createdAt : "none";
  }

  async function mint(identity: MachineIdentity, audience: string): Promise<Minted> {
    const [project, made] = await Promise.all([store.projects.get(identity.project), agentMade(identity)]);
    if (!project) return failure(`there is no project '${identity.project}'`);
    if (made === "none") {
      return failure(`${subjectOf(identity)} has no identity of its own: set "identity": "own" on the agent`);
    }
    const fault = audienceFault(audience, { publicUrl, callers: callerAudiences(project) });
    if (fault !== null) return failure(`the audience ${fault}`);
    const principal = principalOf(identity);
    const oid = await objectIdOf(crypto, identity, { project: project.createdAt, agent: made });
    const { kid, key } = await ring.current();
    const issuedAt = Math.floor(clock.now() / 1000);
    const expiresAt = issuedAt + WORKLOAD_TOKEN_MS / 1000;
    const token = await new SignJWT({
      token_use: "workload",
      idtyp: "app",
      azp: subjectOf(identity),
      client_id: subjectOf(identity),
      oid,
      project: identity.project,
      ...(identity.kind === "agent" && { agent: agentWord(identity) }),
    })
      // Not `at+jwt` (RFC 9068): the federations of Azure, AWS and Google read an OpenID provider's assertions and look
      // for `JWT` or nothing; what the token is for stands in `token_use`.
      .setProtectedHeader({ alg: "RS256", typ: "JWT", kid })
      .setIssuer(publicUrl)
      .setSubject(subjectOf(identity))
      .setAudience(audience)
      .setIssuedAt(issuedAt)
      .setNotBefore(issuedAt - CLOCK_MARGIN_S)
      .setExpirationTime(expiresAt)
      .setJti(crypto.randomText(16))
      .sign(key);
    return { ok: true, token, expiresAt: expiresAt * 1000, principal };
  }

  return {
    describe: async (identity) => ((await agentMade(identity)) === "none" ? null : principalOf(identity)),

    token: async ({ identity, audience }) => {
      try {
        return await mint(identity, audience);
      } catch (error) {
        if (!isRefusal(error, "unavailable")) throw error;
        return { ...failure(`no token could be made: ${error.details.what}`), transient: true };
      }
    },

    metadata: () => ({
      issuer: publicUrl,
      jwksUri: `${publicUrl}/.well-known/jwks.json`,
      algorithms: ["RS256"],
    }),

    jwks: ring.published,

    sweep: ring.tend,
  };
}

/** A server's clock may go after ours. */
const CLOCK_MARGIN_S = 60;

function failure(message: string): MintFailure {
  return { ok: false, transient: false, message, claims: null };
}
