import type { Entra, MachineIdentity, Principal } from "../core/machine-identity.ts";
import type { Clock } from "../core/ports.ts";
import { createAgentTokens } from "./entra-agents.ts";
import { createOurs, principalOf } from "./entra-claims.ts";
import { failed } from "./entra-errors.ts";
import { createIdentities } from "./entra-identities.ts";
import type { Given } from "./entra-minting.ts";
import { createOnBehalfOf } from "./entra-on-behalf-of.ts";
import {
  type EntraProject,
  type EntraSettings,
  projectOf,
  type ReadSecret,
  settingOf,
  tableOf,
  type Vouch,
} from "./entra-settings.ts";
import { createTargetFault } from "./entra-targets.ts";

/**
 * Microsoft Entra's identities as the operator configured them. Azure's packages are loaded when the first token is asked for.
 *
 * `fresh` reaches the authority, but for managed identities: the platform itself remembers their tokens, for up to a day.
 */
export function createEntra(world: {
  settings: EntraSettings;
  read: ReadSecret;
  vouch: Vouch;
  clock: Pick<Clock, "now" | "sleep">;
}): Entra {
  const { settings, read, vouch, clock } = world;
  const { authorityHost } = settings;
  const projects = tableOf(settings.projects);
  const identities = createIdentities(world);
  const agentToken = createAgentTokens({ authorityHost, identities, read, vouch, clock });
  const onBehalfOf = createOnBehalfOf({ authorityHost, identities, read, vouch, clock });
  const ours = createOurs(settings);
  // What tokens have shown: by the identity's name, or the agent identity's client id.
  const seen = new Map<string, Principal>();

  /** Which entry is the project's. */
  const placeOf = (project: string) =>
    `projects.${projects.has(project) || !projects.has("*") ? project : "*"}`;

  const issuerOf = (tenant: string | null) =>
    tenant === null ? authorityHost : `${authorityHost}/${tenant}/v2.0`;

  const missing = ({ kind, project }: MachineIdentity) =>
    `This project has no ${kind === "project" ? "identity" : "agent identities"} in Microsoft Entra: set ${settingOf(
      `${placeOf(project)}.${kind === "project" ? "identity" : "agents"}`,
    )}.`;

  return {
    describe: async (identity) => {
      const found = find(identity);
      return found && (seen.get(found.key) ?? found.known);
    },
    token: async ({ identity, audience, fresh }, signal) => {
      const found = find(identity);
      if (!found) return failed(missing(identity));
      const given = await mint(found, { project: identity.project, audience, fresh }, signal);
      if (!given.ok) return given;
      const principal = principalOf(given.token, found.known);
      ours.remember(principal);
      seen.set(found.key, principal);
      return { ...given, principal };
    },
    onBehalfOf: async ({ project, user, audience, scopes, claims }, signal) => {
      const exchanger = projectOf(projects, project)?.onBehalfOf;
      const place = `${placeOf(project)}.onBehalfOf`;
      if (!exchanger)
        return failed(`Nothing exchanges users' tokens for this project: set ${settingOf(place)}.`);
      const given = await onBehalfOf({ project, exchanger, place, user, audience, scopes, claims }, signal);
      if (!given.ok) return given;
      // A person's: it is not remembered as one of ours.
      const known = { issuer: authorityHost, subject: null, clientId: null, tenant: user.tenant };
      return { ...given, principal: principalOf(given.token, known) };
    },
    targetFault: createTargetFault(settings.targets),
    isOurs: ours.isOurs,
  };

  /**
   * Null: the project has no such identities at all. An agent that is not named where others are is found, and has no token: whoever
   * asks must not think of another issuer for it.
   */
  function find(identity: MachineIdentity): Found | null {
    const project = projectOf(projects, identity.project);
    switch (identity.kind) {
      case "project": {
        const name = project?.identity ?? null;
        const configured = name === null ? null : identities.get(name);
        if (name === null || !configured) return null;
        const tenant = configured.type === "managed" ? null : configured.tenantId;
        const known = { issuer: issuerOf(tenant), subject: null, clientId: configured.clientId, tenant };
        return { kind: "project", key: `identity ${name}`, name, known };
      }
      case "agent": {
        if (!project?.agents) return null;
        const { tenantId, shared, own } = project.agents;
        const { agent } = identity;
        const agentId = agent === null ? shared : (tableOf(own).get(agent) ?? null);
        const known = { issuer: issuerOf(tenantId), subject: agentId, clientId: agentId, tenant: tenantId };
        const place = `${placeOf(identity.project)}.agents`;
        const wanted = agent === null ? `${place}.shared` : `${place}.own.${agent}`;
        return { kind: "agent", key: `agent ${agentId}`, agentId, project, place, wanted, known };
      }
    }
  }

  async function mint(
    found: Found,
    { project, audience, fresh }: { project: string; audience: string; fresh: boolean },
    signal: AbortSignal,
  ): Promise<Given> {
    switch (found.kind) {
      case "project":
        return identities.token({ name: found.name, project, audience, fresh }, signal);
      case "agent": {
        const { agentId, place, wanted } = found;
        const { agents, identity: vouching } = found.project;
        // Never another identity instead (threats, rule 10).
        if (agentId === null || !agents || vouching === null)
          return failed(
            `This agent has no identity in Microsoft Entra: set ${settingOf(wanted)} to its client id.`,
          );
        return agentToken({ agents, agentId, project, vouching, place, audience, fresh }, signal);
      }
    }
  }
}

/** An identity in the settings. `key`: the same one, under whatever project's name. */
type Found = { key: string; known: Principal } & (
  | { kind: "project"; name: string }
  | { kind: "agent"; agentId: string | null; project: EntraProject; place: string; wanted: string }
);
