import type { AgentIdentity } from "./agents.ts";
import type { IdentityProvider, MachineIdentity } from "./machine-identity.ts";
import type { Crypto } from "./ports.ts";

/** An RSA public key as issuers publish it (RFC 7517, RFC 7518 6.3.1). */
export type PublicJwk = { kty: "RSA"; n: string; e: string; kid: string; alg: "RS256"; use: "sig" };

/** The broker as an issuer of its own: whoever trusts its address can check its tokens, and nobody must know a secret for it. */
export type WorkloadIssuer = IdentityProvider & {
  /** What it says of itself (OpenID Connect Discovery 1.0, 3). `issuer` is `iss` of every token, byte for byte. */
  metadata: () => { issuer: string; jwksUri: string; algorithms: readonly string[] };
  /** Public keys alone: those that sign, that will, and that did until lately. Throws `unavailable`. */
  jwks: () => Promise<PublicJwk[]>;
  /** What no request waits for: the next key is made before it is needed, and ended ones are deleted. */
  sweep: () => Promise<void>;
};

/** The agent that stands in the name of the identity which a project's agents share. */
const SHARED = "shared";

/** `sub` of our tokens. Neither names of projects nor of agents have a colon. */
export function subjectOf(identity: MachineIdentity): string {
  switch (identity.kind) {
    case "project":
      return `project:${identity.project}`;
    case "agent":
      return `project:${identity.project}:agent:${agentWord(identity)}`;
  }
}

export const agentWord = ({ agent }: { agent: string | null }) => agent ?? SHARED;

/**
 * Whether an agent's own name would be that of the shared identity, so that it can have none of its own. Whatever the case:
 * who gives rights to a subject may compare without it.
 */
export const hasSharedName = (agent: string) => agent.toLowerCase() === SHARED;

/** When the things that an identity belongs to were made: what is made again under a name is another. */
export type Creation = { project: number; agent: number | null };

/** A stable id of this very identity, as a UUID (RFC 9562, 5.8): the hash of its subject and of when it came to be. */
export async function objectIdOf(
  { sha256 }: Pick<Crypto, "sha256">,
  identity: MachineIdentity,
  made: Creation,
): Promise<string> {
  const digest = await sha256(JSON.stringify([subjectOf(identity), made.project, made.agent]));
  const variant = ((Number.parseInt(digest.slice(16, 17), 16) & 0b0011) | 0b1000).toString(16);
  return [
    digest.slice(0, 8),
    digest.slice(8, 12),
    `8${digest.slice(13, 16)}`,
    `${variant}${digest.slice(17, 20)}`,
    digest.slice(20, 32),
  ].join("-");
}

/** Who acts in a request: a part of its context. */
export type Acting = {
  project: { name: string };
  agent?: string | null;
  agentIdentity?: AgentIdentity | null;
};

/**
 * The identity that a connection of this kind acts as: the project's, or that of the agent which acts now, its own or the
 * shared one; without an agent the shared one (DESIGN 11).
 */
export function identityOf(kind: MachineIdentity["kind"], acting: Acting): MachineIdentity {
  const project = acting.project.name;
  switch (kind) {
    case "project":
      return { kind, project };
    case "agent":
      return { kind, project, agent: acting.agentIdentity === "own" ? (acting.agent ?? null) : null };
  }
}
