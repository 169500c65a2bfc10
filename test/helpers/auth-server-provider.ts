import {
  errors,
  Provider,
  type AdapterFactory,
  type AdapterPayload,
  type Configuration,
  type JWK,
} from "oidc-provider";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { OAuthClient } from "../../src/core/oauth.ts";

/** oidc-provider with nothing changed but its settings; its data and its keys are of this server alone. */
export async function createProvider(made: {
  issuer: string;
  clients: Record<"basic" | "post" | "public" | "privateKeyJwt", OAuthClient>;
  /** Of the client `privateKeyJwt`. */
  publicKey: JsonWebKey;
  accessTokenSeconds: () => number;
  options: { redirectUris: string[]; resources?: string[]; scopes: string[] };
}): Promise<Provider> {
  const { issuer, clients, accessTokenSeconds } = made;
  const { redirectUris, resources, scopes } = made.options;
  const common = {
    redirect_uris: redirectUris,
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code" as const],
  };
  const secretOf = ({ clientId, clientSecret }: OAuthClient) => ({
    client_id: clientId,
    client_secret: clientSecret ?? "",
  });
  const configuration: Configuration = {
    adapter: createAdapters(),
    jwks: { keys: [await createSigningKey()] },
    clientDefaults: { id_token_signed_response_alg: "ES256" },
    clients: [
      { ...common, ...secretOf(clients.basic), token_endpoint_auth_method: "client_secret_basic" },
      { ...common, ...secretOf(clients.post), token_endpoint_auth_method: "client_secret_post" },
      {
        ...common,
        client_id: clients.public.clientId,
        token_endpoint_auth_method: "none",
        application_type: "native",
      },
      {
        ...common,
        client_id: clients.privateKeyJwt.clientId,
        token_endpoint_auth_method: "private_key_jwt",
        token_endpoint_auth_signing_alg: "ES256",
        jwks: { keys: [{ ...made.publicKey, kty: "EC", kid: "client-key" }] },
      },
    ],
    clientAuthMethods: ["client_secret_basic", "client_secret_post", "none", "private_key_jwt"],
    cookies: { keys: ["of-a-test"] },
    scopes: ["openid", "offline_access", ...scopes],
    pkce: { required: () => true },
    rotateRefreshToken: true,
    issueRefreshToken: (_, client) => client.grantTypeAllowed("refresh_token"),
    expiresWithSession: () => false,
    ttl: {
      AccessToken: accessTokenSeconds,
      Interaction: 3600,
      Session: 3600,
      Grant: 86_400,
      RefreshToken: 86_400,
      IdToken: 3600,
    },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: true },
      revocation: { enabled: true, allowedPolicy: (_, client, token) => token.clientId === client.clientId },
      introspection: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_ctx, _client, oneOf) => oneOf?.[0] ?? [],
        useGrantedResource: () => true,
        getResourceServerInfo: (_, resource) => {
          if (resources && !resources.includes(resource)) throw new errors.InvalidTarget();
          return {
            scope: scopes.join(" "),
            audience: resource,
            accessTokenFormat: "jwt",
            accessTokenTTL: accessTokenSeconds(),
          };
        },
      },
    },
    // Who is signed in has allowed all that is asked for.
    loadExistingGrant: async (ctx) => {
      const { client, params, session, resourceServers } = ctx.oidc;
      const accountId = session?.accountId;
      if (!client || accountId === undefined) return undefined;
      const grant = new provider.Grant({ clientId: client.clientId, accountId });
      const asked = params?.["scope"];
      if (typeof asked === "string") grant.addOIDCScope(asked);
      for (const resource of Object.keys(resourceServers ?? {}))
        grant.addResourceScope(resource, scopes.join(" "));
      await grant.save();
      return grant;
    },
  };
  const provider = new Provider(issuer, configuration);
  return provider;
}

/** The sign-in and consent pages, answered by cookies instead of by a person. */
export async function interact(
  provider: Provider,
  incoming: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { prompt } = await provider.interactionDetails(incoming, response);
  const cookies = new Map((incoming.headers.cookie ?? "").split("; ").map(pairOf));
  if (cookies.get("answer") === "decline") {
    const declined = { error: "access_denied", error_description: "the person declined" };
    await provider.interactionFinished(incoming, response, declined);
    return;
  }
  const login = { login: { accountId: cookies.get("account") ?? "nobody" } };
  await provider.interactionFinished(incoming, response, prompt.name === "login" ? login : { consent: {} });
}

export function pairOf(text: string): [string, string] {
  const at = text.indexOf("=");
  return [text.slice(0, at), text.slice(at + 1)];
}

async function createSigningKey(): Promise<JWK> {
  const algorithm = { name: "ECDSA", namedCurve: "P-256" };
  const { privateKey } = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const { kty = "", crv = "", x = "", y = "", d = "" } = await crypto.subtle.exportKey("jwk", privateKey);
  return { kty, crv, x, y, d, kid: "server-key", use: "sig", alg: "ES256" };
}

/** The provider's own memory is shared by all servers of a process and holds a thousand rows. */
function createAdapters(): AdapterFactory {
  const rows = new Map<string, AdapterPayload>();
  const byUid = new Map<string, string>();
  return (model) => ({
    upsert: async (id, payload) => {
      rows.set(`${model}:${id}`, payload);
      if (payload.uid !== undefined) byUid.set(`${model}:${payload.uid}`, id);
    },
    find: async (id) => rows.get(`${model}:${id}`),
    findByUid: async (uid) => rows.get(`${model}:${byUid.get(`${model}:${uid}`) ?? ""}`),
    findByUserCode: async () => undefined,
    consume: async (id) => {
      const row = rows.get(`${model}:${id}`);
      if (row) row.consumed = Math.floor(Date.now() / 1000);
    },
    destroy: async (id) => {
      rows.delete(`${model}:${id}`);
    },
    revokeByGrantId: async (grantId) => {
      for (const [key, row] of rows) if (row.grantId === grantId) rows.delete(key);
    },
  });
}
