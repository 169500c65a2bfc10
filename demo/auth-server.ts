import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Configuration, Provider } from "oidc-provider";
import { createAdapters, createSigningKey } from "./auth-server-memory.ts";

export type AuthServer = {
  /** Byte for byte what its metadata says. */
  issuer: string;
  /** The clients that registered themselves (RFC 7591), by name. */
  registered: string[];
  /** The `grant_type` of every token request that it granted. */
  granted: string[];
  /** How often tokens were given back (RFC 7009). */
  revocations: () => number;
  stop: () => Promise<void>;
};

/**
 * A real authorization server (oidc-provider): clients register themselves, PKCE is required, access tokens are JWTs for one
 * resource, refresh tokens rotate. Its sign-in page has a button for each account instead of asking for passwords; who signs in
 * allows what is asked for. `port` 0: any that is free.
 */
export async function startAuthServer(
  accounts: readonly string[],
  { port: wanted = 0 } = {},
): Promise<AuthServer> {
  const server = createServer().listen(wanted, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo; // Seam: it listens on a port.
  const issuer = `http://127.0.0.1:${port}`;
  const { Provider } = await withoutWarnings(() => import("oidc-provider"));
  const provider: Provider = new Provider(issuer, await configure(() => provider));
  const registered: string[] = [];
  const granted: string[] = [];
  let revocations = 0;
  provider.on("registration_create.success", (_, client) => registered.push(client.clientName ?? "?"));
  provider.on("grant.success", ({ oidc }) => granted.push(String(oidc.params?.["grant_type"])));

  const serve = provider.callback();
  server.on("request", (incoming: IncomingMessage, response: ServerResponse) => {
    if (incoming.url === "/token/revocation") revocations++;
    if (!incoming.url?.startsWith("/interaction/")) void serve(incoming, response);
    else interact(provider, { accounts, incoming, response }).catch(() => response.destroy());
  });
  return {
    issuer,
    registered,
    granted,
    revocations: () => revocations,
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

async function configure(provider: () => Provider): Promise<Configuration> {
  return {
    adapter: createAdapters(),
    jwks: { keys: [await createSigningKey()] },
    clientDefaults: { id_token_signed_response_alg: "ES256" },
    cookies: { keys: [crypto.randomUUID()] },
    scopes: ["openid", "offline_access", ...SCOPES],
    pkce: { required: () => true },
    rotateRefreshToken: true,
    issueRefreshToken: (_, client) => client.grantTypeAllowed("refresh_token"),
    expiresWithSession: () => false,
    ttl: {
      AccessToken: HOUR,
      Interaction: HOUR,
      Session: HOUR,
      Grant: DAY,
      RefreshToken: DAY,
      IdToken: HOUR,
    },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    interactions: { url: (_, { uid }) => `/interaction/${uid}` },
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: true },
      revocation: { enabled: true, allowedPolicy: (_, client, token) => token.clientId === client.clientId },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: (_, resource) => ({
          scope: SCOPES.join(" "),
          audience: resource,
          accessTokenFormat: "jwt",
          accessTokenTTL: HOUR,
        }),
      },
    },
    loadExistingGrant: async ({ oidc: { client, params, session, resourceServers } }) => {
      if (!client || session?.accountId === undefined) return undefined;
      const grant = new (provider().Grant)({ clientId: client.clientId, accountId: session.accountId });
      if (typeof params?.["scope"] === "string") grant.addOIDCScope(params["scope"]);
      for (const resource of Object.keys(resourceServers ?? {}))
        grant.addResourceScope(resource, SCOPES.join(" "));
      await grant.save();
      return grant;
    },
  };
}

async function interact(
  provider: Provider,
  {
    accounts,
    incoming,
    response,
  }: { accounts: readonly string[]; incoming: IncomingMessage; response: ServerResponse },
): Promise<void> {
  const { prompt } = await provider.interactionDetails(incoming, response);
  if (prompt.name !== "login") {
    await provider.interactionFinished(incoming, response, { consent: {} });
    return;
  }
  if (incoming.method !== "POST") {
    const buttons = accounts.map(
      (name) => `<button name="action" value="${name}">Sign in as ${name}</button>`,
    );
    response
      .writeHead(200, { "content-type": "text/html; charset=utf-8" })
      .end(
        `<!doctype html><title>Sign in</title><h1>Sign in to Team Notes</h1><form method="post">${buttons.join("")}</form>`,
      );
    return;
  }
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer); // Seam: no encoding is set, so they are buffers.
  const accountId = new URLSearchParams(Buffer.concat(chunks).toString()).get("action") ?? "";
  await provider.interactionFinished(incoming, response, { login: { accountId } });
}

/** It warns of every Node that has no long-term support. */
async function withoutWarnings<T>(work: () => Promise<T>): Promise<T> {
  const { warn } = console;
  console.warn = () => {};
  return work().finally(() => (console.warn = warn));
}

const SCOPES = ["read", "write"];
const HOUR = 3600;
const DAY = 24 * HOUR;
