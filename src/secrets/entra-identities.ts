import type { TokenCredential } from "@azure/identity";
import type { Clock } from "../core/ports.ts";
import { ENDPOINT, failed } from "./entra-errors.ts";
import { createEntraHttp, type EntraHttp } from "./entra-http.ts";
import { type Given, minted, once, wordFor } from "./entra-minting.ts";
import {
  type EntraIdentity,
  type EntraSettings,
  type ReadSecret,
  scopeOf,
  settingOf,
  tableOf,
  type Vouch,
} from "./entra-settings.ts";

/** The configured identities, each by the credential of `@azure/identity` for its type. */
export type EntraIdentities = {
  /** Null: no identity has this name. */
  get: (name: string) => EntraIdentity | null;
  token: (
    request: { name: string; project: string; audience: string; fresh: boolean },
    signal: AbortSignal,
  ) => Promise<Given>;
};

type Credential = { credential: () => Promise<TokenCredential>; http: EntraHttp };

export function createIdentities(world: {
  settings: EntraSettings;
  read: ReadSecret;
  vouch: Vouch;
  clock: Pick<Clock, "sleep">;
}): EntraIdentities {
  const { settings, read, vouch, clock } = world;
  const { origin, host } = new URL(settings.authorityHost);
  const identities = tableOf(settings.identities);
  // One for each name: they remember tokens, and ask for an authority's metadata once.
  const made = new Map<string, Credential>();

  function make(name: string, identity: EntraIdentity, project: string): Credential {
    const isManaged = identity.type === "managed";
    const http = createEntraHttp(isManaged ? { kind: "endpoint" } : { kind: "authority", origin }, clock);
    const options = credentialOptions(settings.authorityHost, http);
    const how = { options, read, assertion: () => wordFor(vouch, project) };
    const entry = { credential: once(() => credentialOf(identity, how)), http };
    // What vouches for one project must not serve another.
    if (identity.type !== "federated") made.set(name, entry);
    return entry;
  }

  return {
    get: (name) => identities.get(name) ?? null,
    token: async ({ name, project, audience, fresh }, signal) => {
      const identity = identities.get(name);
      const setting = settingOf(`identities.${name}`);
      if (!identity) return failed(`${setting} is not there.`);
      const isManaged = identity.type === "managed";
      // MSAL remembers a managed identity's tokens for the whole process, as the platform does: another object changes nothing.
      const known = fresh && !isManaged ? undefined : made.get(name);
      const entry = known ?? make(name, identity, project);
      const asked = { setting, audience, server: isManaged ? ENDPOINT : host, isForUser: false };
      const work = async () => {
        const token = await (await entry.credential()).getToken(scopeOf(audience));
        return token && { token: token.token, expiresAt: token.expiresOnTimestamp };
      };
      const given = await minted(work, { asked, http: entry.http, signal });
      // The secret or certificate that it was made with may have been replaced.
      if (!given.ok && made.get(name) === entry) made.delete(name);
      return given;
    },
  };
}

/**
 * The authority is the operator's own word, so that nobody else is asked whether it is one; and metadata that lead elsewhere are not
 * followed in any case.
 */
export function credentialOptions(authorityHost: string, http: EntraHttp) {
  return { authorityHost, disableInstanceDiscovery: true, httpClient: http.forIdentity };
}

async function credentialOf(
  identity: EntraIdentity,
  {
    options,
    read,
    assertion,
  }: { options: ReturnType<typeof credentialOptions>; read: ReadSecret; assertion: () => Promise<string> },
): Promise<TokenCredential> {
  const azure = await import("@azure/identity");
  switch (identity.type) {
    case "managed": {
      const { clientId } = identity;
      return new azure.ManagedIdentityCredential({ ...options, ...(clientId !== null && { clientId }) });
    }
    case "workload": {
      const { tenantId, clientId } = identity;
      const tokenFilePath = await tokenFileOf(identity, read);
      return new azure.WorkloadIdentityCredential({ ...options, tenantId, clientId, tokenFilePath });
    }
    case "federated":
      return new azure.ClientAssertionCredential(identity.tenantId, identity.clientId, assertion, options);
    case "secret": {
      const secret = await read(identity.clientSecret);
      return new azure.ClientSecretCredential(identity.tenantId, identity.clientId, secret, options);
    }
    case "certificate": {
      const certificate = await read(`file:${identity.certificateFile}`);
      return new azure.ClientCertificateCredential(
        identity.tenantId,
        identity.clientId,
        { certificate },
        options,
      );
    }
  }
}

/** Kubernetes says in a variable where it keeps the token. */
export async function tokenFileOf(
  { tokenFile }: { tokenFile: string | null },
  read: ReadSecret,
): Promise<string> {
  return tokenFile ?? (await read("env:AZURE_FEDERATED_TOKEN_FILE"));
}
