import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createLocalJWKSet, createRemoteJWKSet, importJWK, jwtVerify, type JWTPayload, SignJWT } from "jose";
import { type Configuration, errors, type JWK, type KoaContextWithOIDC, Provider } from "oidc-provider";
import { createAdapters, createSigningKey } from "../../demo/auth-server-memory.ts";

export type IdentityProvider = {
  issuer: string;
  /** A client that may use every grant here. */
  client: { clientId: string; clientSecret: string };
  /** A token of a person, as this issuer signs its own. `aud`, `exp` and all else may be said otherwise. */
  userToken: (sub: string, claims?: JWTPayload) => Promise<string>;
  /** In the order in which they came. */
  tokenRequests: URLSearchParams[];
  knobs: {
    /** Answers the next token request with this OAuth error. Null: as it should. */
    error: string | null;
    /** Gives this for a token that is exchanged, instead of another token. Null: as it should. */
    gives: ((subjectToken: string) => string | Promise<string>) | null;
  };
  stop: () => Promise<void>;
};

/**
 * A real authorization server (oidc-provider) for those who come without a browser: client credentials (RFC 6749, 4.4), token
 * exchange (RFC 8693) of its people's tokens, also for an ID-JAG, and access tokens for ID-JAGs of the issuer that it trusts
 * (RFC 7523).
 */
export async function startIdentityProvider({ trusts }: { trusts?: string } = {}): Promise<IdentityProvider> {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { port } = listener.address() as AddressInfo; // Seam: it listens on a port.
  const issuer = `http://127.0.0.1:${port}`;
  const signingKey = await createSigningKey();
  const { kty = "EC", crv = "", x = "", y = "", d = "" } = signingKey;
  const privateKey = await importJWK({ kty, crv, x, y, d }, "ES256");
  const ownKeys = createLocalJWKSet({ keys: [{ kty, crv, x, y, kid: KEY_ID }] });
  const trustedKeys = trusts === undefined ? null : createRemoteJWKSet(new URL(`${trusts}/jwks`));
  const client = { clientId: "broker", clientSecret: "the broker's own secret" };
  const tokenRequests: URLSearchParams[] = [];
  const knobs: IdentityProvider["knobs"] = { error: null, gives: null };
  const usedIds = new Set<string>();

  const sign = (claims: JWTPayload, typ: string) => {
    const now = Math.floor(Date.now() / 1000);
    return new SignJWT({ iss: issuer, iat: now, exp: now + 3600, jti: crypto.randomUUID(), ...claims })
      .setProtectedHeader({ alg: "ES256", typ, kid: KEY_ID })
      .sign(privateKey);
  };

  const provider = new Provider(issuer, configure(client, signingKey));
  provider.registerGrantType(EXCHANGE, exchange, [
    "subject_token",
    "subject_token_type",
    "requested_token_type",
    "audience",
    "resource",
    "scope",
  ]);
  provider.registerGrantType(ASSERTION, takeAssertion, ["assertion", "resource", "scope"]);
  provider.use(async (ctx: KoaContextWithOIDC, next) => {
    await next();
    if (ctx.path === "/token" && ctx.oidc?.params) tokenRequests.push(paramsOf(ctx));
  });

  async function exchange(ctx: KoaContextWithOIDC): Promise<void> {
    refuseIfAsked();
    const params = paramsOf(ctx);
    const subject = await jwtVerify(params.get("subject_token") ?? "", ownKeys).catch(() => null);
    if (!subject) throw new errors.InvalidGrant("the subject token is none of ours");
    const { sub = "" } = subject.payload;
    const audience = params.get("audience") ?? params.get("resource") ?? "";
    const wanted = params.get("requested_token_type");
    const { clientId = "" } = ctx.oidc.client ?? {};
    if (wanted === ID_JAG) {
      const claims = { sub, aud: audience, resource: params.get("resource"), client_id: "broker" };
      const jag = await sign(claims, "oauth-id-jag+jwt");
      ctx.body = { issued_token_type: ID_JAG, access_token: jag, token_type: "N_A", expires_in: 300 };
      return;
    }
    const token = await sign(
      { sub, aud: audience, act: { sub: clientId }, scope: params.get("scope") ?? "read" },
      "at+jwt",
    );
    ctx.body = {
      issued_token_type: ACCESS_TOKEN,
      access_token: (await knobs.gives?.(params.get("subject_token") ?? "")) ?? token,
      token_type: "Bearer",
      expires_in: 3600,
    };
  }

  async function takeAssertion(ctx: KoaContextWithOIDC): Promise<void> {
    refuseIfAsked();
    const assertion = paramsOf(ctx).get("assertion") ?? "";
    const expected = {
      audience: issuer,
      typ: "oauth-id-jag+jwt",
      ...(trusts !== undefined && { issuer: trusts }),
    };
    const verified = trustedKeys && (await jwtVerify(assertion, trustedKeys, expected).catch(() => null));
    const payload: JWTPayload = verified?.payload ?? {};
    const isFresh = typeof payload.jti === "string" && usedIds.size !== usedIds.add(payload.jti).size;
    if (!isFresh || payload["client_id"] !== ctx.oidc.client?.clientId)
      throw new errors.InvalidGrant("the assertion is not taken");
    const token = await sign(
      { sub: String(payload.sub), aud: String(payload["resource"]), scope: "read write" },
      "at+jwt",
    );
    ctx.body = { access_token: token, token_type: "Bearer", expires_in: 3600 };
  }

  function refuseIfAsked(): void {
    const { error } = knobs;
    knobs.error = null;
    if (error !== null) throw new errors.CustomOIDCProviderError(error, "as the test wanted it");
  }

  const serve = provider.callback();
  listener.on("request", (incoming, response) => void serve(incoming, response));
  return {
    issuer,
    client,
    tokenRequests,
    knobs,
    userToken: (sub, claims = {}) => sign({ sub, aud: "broker-api", ...claims }, "at+jwt"),
    stop: async () => {
      listener.closeAllConnections();
      listener.close();
      await once(listener, "close");
    },
  };
}

function configure(client: IdentityProvider["client"], signingKey: JWK): Configuration {
  return {
    adapter: createAdapters([
      {
        client_id: client.clientId,
        client_secret: client.clientSecret,
        grant_types: ["client_credentials", EXCHANGE, ASSERTION],
        redirect_uris: [],
        response_types: [],
      },
    ]),
    jwks: { keys: [{ ...signingKey, kid: KEY_ID }] },
    clientDefaults: { id_token_signed_response_alg: "ES256" },
    scopes: ["read", "write"],
    ttl: { ClientCredentials: 3600 },
    cookies: { keys: ["of-a-test"] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => ({
          scope: "read write",
          audience: resource,
          accessTokenFormat: "jwt",
          accessTokenTTL: 3600,
        }),
      },
    },
  };
}

function paramsOf({ oidc }: KoaContextWithOIDC): URLSearchParams {
  const given = Object.entries(oidc.params ?? {}).filter(([, value]) => typeof value === "string");
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
}

const KEY_ID = "people";
const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ID_JAG = "urn:ietf:params:oauth:token-type:id-jag";
const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";
