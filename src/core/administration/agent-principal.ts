import type { Agent } from "../agents.ts";
import type { World } from "../ports.ts";
import type { Project } from "../project.ts";
import { objectIdOf, subjectOf } from "../workload.ts";

/** What a server sees of an agent, to give rights to: `oid` and the client of its tokens. */
export type AgentPrincipal = { principalId: string; clientId: string };

/**
 * An agent with its identity: Entra's where the operator gave it one, else our own issuer's. Null: it has none of its own,
 * or Entra has not told it yet.
 */
export async function agentPrincipal(
  world: Pick<World, "entra" | "crypto">,
  project: Pick<Project, "name" | "createdAt">,
  agent: Agent,
): Promise<AgentPrincipal | null> {
  if (agent.identity !== "own") return null;
  const identity = { kind: "agent", project: project.name, agent: agent.name } as const;
  const known = (await world.entra?.describe(identity)) ?? null;
  if (known) {
    const { subject, clientId } = known;
    return subject === null || clientId === null ? null : { principalId: subject, clientId };
  }
  const made = { project: project.createdAt, agent: agent.createdAt };
  return { principalId: await objectIdOf(world.crypto, identity, made), clientId: subjectOf(identity) };
}
