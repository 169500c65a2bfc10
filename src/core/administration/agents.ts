import { auditEntry, type Context } from "../context.ts";
import type { Agent, AgentIdentity, AgentVersion } from "../agents.ts";
import { BrokerError, invalid } from "../errors.ts";
import { canonicalJson, type JsonObject } from "../json.ts";
import type { World } from "../ports.ts";
import type { Listed, Page } from "../storage.ts";
import { hasSharedName } from "../workload.ts";
import { tryUntilWon } from "./attempts.ts";

/** A version as a caller writes it; the definition was checked where its shape is known. */
export type AgentDraft = {
  definition: JsonObject;
  description: string | null;
  metadata: Record<string, string>;
};

/** Throws `invalid` for a name or an identity that cannot be, `name_taken` for a name that is. */
export async function createAgent(
  world: World,
  context: Context,
  given: { name: string; state: Agent["state"]; identity: AgentIdentity; draft: AgentDraft },
): Promise<Agent> {
  const { name, state, identity, draft } = given;
  checkName(name);
  checkIdentity(name, identity);
  const agent = await add(world, context, name, { draft, after: 0, identity });
  if (!agent) throw new BrokerError("name_taken", { what: "agent", name });
  if (state === agent.state) return agent;
  await setAgentState(world, context, name, state);
  return { ...agent, state };
}

/** Adds a version, and the agent where there is none; every one of several racers gets its own number. */
export async function createAgentVersion(
  world: World,
  context: Context,
  name: string,
  draft: AgentDraft,
): Promise<AgentVersion> {
  checkName(name);
  const agent = await tryUntilWon({ what: "agent", name }, async () => {
    const existing = await world.store.agents.get(context.project.name, name);
    return add(world, context, name, { draft, after: existing?.latest.version ?? 0, identity: null });
  });
  return agent.latest;
}

/**
 * Adds a version only if something changed. `identity` is the agent's, and makes none; null: as it is. Throws `not_found`,
 * `invalid` for an identity that cannot be.
 */
export async function updateAgent(
  world: World,
  context: Context,
  name: string,
  { draft, identity }: { draft: AgentDraft; identity: AgentIdentity | null },
): Promise<Agent> {
  checkIdentity(name, identity);
  return tryUntilWon({ what: "agent", name }, async () => {
    const agent = await getAgent(world, context, name);
    const changed = identity === agent.identity ? null : identity;
    if (fingerprint(agent.latest) === fingerprint(draft)) return withIdentity(world, context, agent, changed);
    return add(world, context, name, { draft, after: agent.latest.version, identity: changed });
  });
}

/** Throws `not_found`, `invalid` for an identity that cannot be. Null: it stays as it is. */
export async function setAgentIdentity(
  world: World,
  context: Context,
  name: string,
  identity: AgentIdentity | null,
): Promise<Agent> {
  checkIdentity(name, identity);
  return tryUntilWon({ what: "agent", name }, async () => {
    const agent = await getAgent(world, context, name);
    return withIdentity(world, context, agent, identity === agent.identity ? null : identity);
  });
}

export async function getAgent(world: World, context: Context, name: string): Promise<Agent> {
  const agent = await world.store.agents.get(context.project.name, name);
  if (!agent) throw new BrokerError("not_found", { what: "agent", name });
  return agent;
}

export async function listAgents(world: World, context: Context, page: Page): Promise<Listed<Agent>> {
  return world.store.agents.list(context.project.name, page);
}

export async function setAgentState(
  world: World,
  context: Context,
  name: string,
  state: Agent["state"],
): Promise<void> {
  const entry = auditEntry(world, context, "agent_changed", { agent: name, detail: { state } });
  if (await world.store.agents.setState(context.project.name, name, state, [entry])) return;
  throw new BrokerError("not_found", { what: "agent", name });
}

export async function deleteAgent(world: World, context: Context, name: string): Promise<void> {
  const entry = auditEntry(world, context, "agent_deleted", { agent: name });
  if (await world.store.agents.delete(context.project.name, name, [entry])) return;
  throw new BrokerError("not_found", { what: "agent", name });
}

export async function getAgentVersion(
  world: World,
  context: Context,
  name: string,
  version: string,
): Promise<AgentVersion> {
  const found = await world.store.agents.getVersion(context.project.name, name, versionNumber(name, version));
  if (!found) throw noVersion(name, version);
  return found;
}

/** Newest first. Throws `not_found` for an unknown agent. */
export async function listAgentVersions(
  world: World,
  context: Context,
  name: string,
  page: Page,
): Promise<Listed<AgentVersion>> {
  await getAgent(world, context, name);
  return world.store.agents.listVersions(context.project.name, name, page);
}

export async function deleteAgentVersion(
  world: World,
  context: Context,
  name: string,
  version: string,
): Promise<void> {
  const number = versionNumber(name, version);
  const entry = auditEntry(world, context, "agent_version_deleted", {
    agent: name,
    detail: { version: number },
  });
  if (await world.store.agents.deleteVersion(context.project.name, name, number, [entry])) return;
  throw noVersion(name, version);
}

async function add(
  world: World,
  context: Context,
  name: string,
  { draft, after, identity }: { draft: AgentDraft; after: number; identity: AgentIdentity | null },
): Promise<Agent | null> {
  const { definition, description, metadata } = draft;
  const entry = auditEntry(world, context, "agent_version_created", {
    agent: name,
    detail: { after },
  });
  return world.store.agents.addVersion(
    {
      project: context.project.name,
      agent: name,
      definition,
      description,
      metadata,
      createdAt: world.clock.now(),
    },
    after,
    identity === null || identity === whenMade(after)
      ? [entry]
      : [entry, identityEntry(world, context, name, identity)],
    identity ?? undefined,
  );
}

/** What the identity is without anybody's word. Null: what it was. */
const whenMade = (after: number) => (after === 0 ? "shared" : null);

/** Null: the agent is gone. */
async function withIdentity(
  world: World,
  context: Context,
  agent: Agent,
  identity: AgentIdentity | null,
): Promise<Agent | null> {
  if (identity === null) return agent;
  const { project, name } = agent;
  const entry = identityEntry(world, context, name, identity);
  const isChanged = await world.store.agents.setIdentity(project, name, identity, [entry]);
  return isChanged ? { ...agent, identity } : null;
}

function identityEntry(world: World, context: Context, agent: string, identity: AgentIdentity) {
  return auditEntry(world, context, "agent_changed", { agent, detail: { identity } });
}

function checkIdentity(name: string, identity: AgentIdentity | null): void {
  if (identity !== "own" || !hasSharedName(name)) return;
  const message = `an agent named '${name}' cannot have an identity of its own: that is the name of the one which a project's agents share`;
  throw invalid({ param: "identity", message });
}

function fingerprint({ definition, description, metadata }: AgentDraft): string {
  return canonicalJson({ definition, description, metadata });
}

function versionNumber(name: string, version: string): number {
  if (!/^[1-9][0-9]{0,8}$/.test(version)) throw noVersion(name, version);
  return Number(version);
}

function noVersion(name: string, version: string): BrokerError {
  return new BrokerError("not_found", { what: "agent version", name: `${name}:${version}` });
}

function checkName(name: string): void {
  if (/^[a-zA-Z0-9](?:[a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?$/.test(name)) return;
  const message = "must have 1 to 63 letters, digits, '_' or '-', and begin and end with a letter or digit";
  throw invalid({ param: "name", message });
}
