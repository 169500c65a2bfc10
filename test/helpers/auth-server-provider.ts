import { once } from "node:events";
import { request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { request as httpsRequest } from "node:https";
import {
  errors,
  interactionPolicy,
  Provider,
  type AdapterPayload,
  type Configuration,
  type InteractionResults,
} from "oidc-provider";
import { createAdapters, createSigningKey } from "../../demo/auth-server-memory.ts";
import type { OAuthClient } from "../../src/core/oauth.ts";
import { pairOf } from "./auth-server-browser.ts";

/** oidc-provider with nothing changed but its settings; its data and its keys are of this server alone. */
export async function createProvider(made: {
  issuer: string;
  clients: Record<"basic" | "post" | "public" | "privateKeyJwt", OAuthClient>;
  /** Of the client `privateKeyJwt`. */
  publicKey: JsonWebKey;
  /** Of the clients above; more may be added at any time. */
  redirectUris: string[];
  accessTokenSeconds: () => number;
  claimsOf: (account: string) => Record<string, unknown>;
  options: {
    resources?: string[];
    scopes: string[];
    registration: "open" | "off";
    metadataDocuments: "on" | "off";
  };
}): Promise<Provider> {
  const { issuer, clients, redirectUris, accessTokenSeconds, claimsOf } = made;
  const { resources, scopes, registration, metadataDocuments } = made.options;
  const common = {
    redirect_uris: redirectUris,
    id_token_signed_response_alg: "ES256" as const,
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code" as const],
  };
  const secretOf = ({ clientId, clientSecret }: OAuthClient) => ({
    client_id: clientId,
    client_secret: clientSecret ?? "",
  });
  // As rows and not as settings, for these are read once and their redirect URIs change.
  const known: AdapterPayload[] = [
    { ...common, ...secretOf(clients.basic), token_endpoint_auth_method: "client_secret_basic" },
    { ...common, ...secretOf(clients.post), token_endpoint_auth_method: "client_secret_post" },
    { ...common, client_id: clients.public.clientId, token_endpoint_auth_method: "none" },
    {
      ...common,
      client_id: clients.privateKeyJwt.clientId,
      token_endpoint_auth_method: "private_key_jwt",
      token_endpoint_auth_signing_alg: "ES256",
      jwks: { keys: [{ ...made.publicKey, kty: "EC", kid: "client-key" }] },
    },
  ];
  const policy = interactionPolicy.base();
  policy.add(new interactionPolicy.Prompt({ name: "select_account", requestable: true }), 0);
  const configuration: Configuration = {
    adapter: createAdapters(known),
    jwks: { keys: [await createSigningKey()] },
    clientDefaults: { id_token_signed_response_alg: "ES256" },
    claims: { openid: ["sub", "oid", "preferred_username"], email: ["email", "email_verified"] },
    conformIdTokenClaims: false,
    fetch: fetchHere,
    clientAuthMethods: ["client_secret_basic", "client_secret_post", "none", "private_key_jwt"],
    cookies: { keys: ["of-a-test"] },
    scopes: ["openid", "email", "offline_access", ...scopes],
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
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ ...claimsOf(id), sub: id }) }),
    interactions: { policy, url: (_, interaction) => `/interaction/${interaction.uid}` },
    features: {
      devInteractions: { enabled: false },
      registration: { enabled: registration === "open" },
      clientIdMetadataDocument: { enabled: metadataDocuments === "on", ack: "draft-02" },
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
  const answers: Record<string, InteractionResults> = {
    login,
    select_account: { ...login, select_account: {} },
  };
  await provider.interactionFinished(incoming, response, answers[prompt.name] ?? { consent: {} });
}

/** For client metadata documents. A broker under test is on this machine, with a certificate that nobody else trusts. */
async function fetchHere(input: string | URL | Request, init?: RequestInit): Promise<Response> {
  const url = new URL(input instanceof Request ? input.url : input);
  const headers = Object.fromEntries(new Headers(init?.headers));
  const outgoing =
    url.protocol === "https:"
      ? httpsRequest(url, { headers, rejectUnauthorized: false })
      : httpRequest(url, { headers });
  outgoing.end();
  const [answer] = (await once(outgoing, "response")) as [IncomingMessage]; // Seam: what the event carries.
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk as Buffer); // Seam: no encoding is set, so they are buffers.
  const type = answer.headers["content-type"] ?? "application/json";
  return new Response(Buffer.concat(chunks), {
    status: answer.statusCode ?? 500,
    headers: { "content-type": type },
  });
}
