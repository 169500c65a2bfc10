import type { AuthenticationResult, ConfidentialClientApplication, Configuration } from "@azure/msal-node";
import type { Clock } from "../core/ports.ts";
import type { Asked } from "./entra-errors.ts";
import { createEntraHttp, type EntraHttp } from "./entra-http.ts";
import { type EntraIdentities, tokenFileOf } from "./entra-identities.ts";
import { type Given, minted, once } from "./entra-minting.ts";
import { thumbprintOf } from "./entra-thumbprint.ts";
import {
  type EntraAgents,
  type EntraIdentity,
  EXCHANGE,
  type ReadSecret,
  scopeOf,
  settingOf,
  type Vouch,
} from "./entra-settings.ts";

export type AgentRequest = {
  agents: EntraAgents;
  /** The agent identity's client id. */
  agentId: string;
  project: string;
  /** The name of the project's own identity. */
  vouching: string;
  /** Where a sentence sends its reader: `projects.{name}.agents`. */
  place: string;
  audience: string;
  fresh: boolean;
};

type Client = { app: () => Promise<ConfidentialClientApplication>; http: EntraHttp };
type Auth = Partial<Configuration["auth"]>;

/**
 * Microsoft Entra Agent ID, the app-only flow in its three steps:
 *
 *     the project's identity   -> a token for the exchange, which vouches for the blueprint (its federated credential)
 *     the blueprint            -> with it, and `fmi_path` = the agent identity: a token that vouches for that agent identity
 *     the agent identity       -> with that: a token for the audience
 *
 * An agent identity has no credential of its own. Each step has its own client id, and none stands in for another.
 */
export function createAgentTokens(world: {
  authorityHost: string;
  identities: EntraIdentities;
  read: ReadSecret;
  vouch: Vouch;
  clock: Pick<Clock, "sleep">;
}): (request: AgentRequest, signal: AbortSignal) => Promise<Given> {
  const { authorityHost, identities, read, vouch, clock } = world;
  const { origin, host } = new URL(authorityHost);
  // By tenant, client id, and who vouches; the configuration bounds them. They remember tokens: what one project's identity
  // vouched for is nothing to a project with another one.
  const clients = new Map<string, Client>();

  async function ask(
    who: { tenantId: string; clientId: string; vouching: string; auth: () => Promise<Auth> },
    what: { scope: string; fmiPath?: string; assertion: string | null; fresh: boolean; asked: Asked },
    signal: AbortSignal,
  ): Promise<Given> {
    const key = `${who.tenantId} ${who.clientId} ${who.vouching}`;
    const client = clients.get(key) ?? newClient(who);
    clients.set(key, client);
    const { scope, fmiPath, assertion, fresh, asked } = what;
    const work = async () => {
      const app = await client.app();
      const result = await app.acquireTokenByClientCredential({
        scopes: [scope],
        skipCache: fresh,
        ...(fmiPath !== undefined && { fmiPath }),
        ...(assertion !== null && { clientAssertion: assertion }),
      });
      return rawOf(result);
    };
    const given = await minted(work, { asked, http: client.http, signal });
    // What it was made with may have been replaced.
    if (!given.ok && clients.get(key) === client) clients.delete(key);
    return given;
  }

  function newClient(who: { tenantId: string; clientId: string; auth: () => Promise<Auth> }): Client {
    const http = createEntraHttp({ kind: "authority", origin }, clock);
    return { http, app: once(() => appOf(`${origin}/${who.tenantId}`, who, http)) };
  }

  /** What vouches for the agent identity. */
  async function blueprintToken(request: AgentRequest, signal: AbortSignal): Promise<Given> {
    const { agents, agentId, project, vouching, place, fresh } = request;
    const asked = { setting: settingOf(place), audience: EXCHANGE, server: host, isForUser: false };
    const who = { tenantId: agents.tenantId, clientId: agents.blueprintId, vouching };
    const what = { scope: scopeOf(EXCHANGE), fmiPath: agentId, fresh, asked };
    const identity = identities.get(vouching);
    if (identity && identity.type !== "managed" && identity.clientId === agents.blueprintId) {
      // Each project's word is its own: what it opened is not remembered for a project that may not have it.
      if (identity.type === "federated") {
        const word = await vouch(project);
        if (!word.ok) return word;
        return ask({ ...who, auth: assertedAuth }, { ...what, assertion: word.token, fresh: true }, signal);
      }
      return ask({ ...who, auth: () => ownAuth(identity, read) }, { ...what, assertion: null }, signal);
    }
    const voucher = await identities.token({ name: vouching, project, audience: EXCHANGE, fresh }, signal);
    if (!voucher.ok) return voucher;
    return ask({ ...who, auth: assertedAuth }, { ...what, assertion: voucher.token }, signal);
  }

  return async (request, signal) => {
    const blueprint = await blueprintToken(request, signal);
    if (!blueprint.ok) return blueprint;
    const { agents, agentId, vouching, place, audience, fresh } = request;
    const asked = { setting: settingOf(place), audience, server: host, isForUser: false };
    return ask(
      { tenantId: agents.tenantId, clientId: agentId, vouching, auth: assertedAuth },
      { scope: scopeOf(audience), assertion: blueprint.token, fresh, asked },
      signal,
    );
  };
}

async function appOf(
  authority: string,
  who: { clientId: string; auth: () => Promise<Auth> },
  http: EntraHttp,
): Promise<ConfidentialClientApplication> {
  const { ConfidentialClientApplication: App } = await import("@azure/msal-node");
  return new App({
    auth: { clientId: who.clientId, authority, knownAuthorities: [authority], ...(await who.auth()) },
    system: { networkClient: http.forMsal },
  });
}

/** MSAL wants a credential when a client is made; each request brings its own assertion, which goes first. */
const assertedAuth = async (): Promise<Auth> => ({ clientAssertion: "each request has its own" });

/** A blueprint that the project's identity is itself. */
async function ownAuth(
  identity: Exclude<EntraIdentity, { type: "managed" | "federated" }>,
  read: ReadSecret,
): Promise<Auth> {
  switch (identity.type) {
    case "secret":
      return { clientSecret: await read(identity.clientSecret) };
    case "workload":
      return { clientAssertion: async () => read(`file:${await tokenFileOf(identity, read)}`) };
    case "certificate": {
      const privateKey = await read(`file:${identity.certificateFile}`);
      return { clientCertificate: { thumbprintSha256: await thumbprintOf(privateKey), privateKey } };
    }
  }
}

const rawOf = (result: AuthenticationResult | null) =>
  result && { token: result.accessToken, expiresAt: result.expiresOn?.getTime() ?? Number.NaN };
