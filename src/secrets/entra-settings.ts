import type { Minted } from "../core/machine-identity.ts";

/** Microsoft Entra identities as the operator configured them (`config-azure.ts` has the same shape; rooms do not share it). */
export type EntraSettings = {
  authorityHost: string;
  identities: Record<string, EntraIdentity>;
  projects: Record<string, EntraProject>;
  targets: EntraTarget[];
};

export type EntraIdentity =
  | { type: "managed"; clientId: string | null }
  | { type: "workload"; tenantId: string; clientId: string; tokenFile: string | null }
  | { type: "secret"; tenantId: string; clientId: string; clientSecret: string }
  | { type: "certificate"; tenantId: string; clientId: string; certificateFile: string }
  | { type: "federated"; tenantId: string; clientId: string };

export type EntraAgents = {
  tenantId: string;
  blueprintId: string;
  shared: string | null;
  own: Record<string, string>;
};

export type EntraProject = {
  identity: string | null;
  agents: EntraAgents | null;
  onBehalfOf: { identity: string; app: { tenantId: string; clientId: string } | null } | null;
};

export type EntraTarget = { host: string; audience: string };

/**
 * What the operator keeps outside of the settings, read anew each time: `env:NAME` or `file:/path`, without the blanks around it.
 * Rejects with an error that names the place and never what is there.
 */
export type ReadSecret = (ref: string) => Promise<string>;

/** The word of the broker's own issuer for a project: a token of the project's identity with the audience `EXCHANGE`. */
export type Vouch = (project: string) => Promise<Minted>;

/** A table of the settings, for names that come from requests: `constructor` is in no `Map`. */
export const tableOf = <V>(record: Record<string, V>): ReadonlyMap<string, V> =>
  new Map(Object.entries(record));

/** The entry of a project, or the one of all that are not named. */
export function projectOf(projects: ReadonlyMap<string, EntraProject>, name: string): EntraProject | null {
  return projects.get(name) ?? projects.get("*") ?? null;
}

/** Where a sentence sends its reader. */
export const settingOf = (place: string) => `CONSENTRY_AZURE ${place}`;

/** What a managed identity or another issuer vouches for an application with (Entra's workload identity federation). */
export const EXCHANGE = "api://AzureADTokenExchange";

/** The whole of a resource. A slash at the audience's end stays: older resources have it in their tokens. */
export const scopeOf = (audience: string) => `${audience.replace(/\/\.default$/, "")}/.default`;
