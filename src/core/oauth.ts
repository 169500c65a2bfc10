import type { JsonObject } from "./json.ts";

/** How a client proves itself at a token endpoint (RFC 6749, 2.3; RFC 7523). */
export type ClientAuth = "basic" | "post" | "none" | "private_key_jwt";

/**
 * An authorization server as far as we use it: from its metadata (RFC 8414, OIDC discovery), or from what an admin typed.
 * Endpoints are absolute https URLs (http where loopback is allowed) that passed egress rules.
 */
export type AuthServer = {
  /** Byte for byte as the server names itself: never normalized (RFC 9207). */
  issuer: string;
  /**
   * Nobody has said what it is called: `issuer` is then the token endpoint's origin, and an `iss` in a response only has
   * to be https at the authorization endpoint's origin (DESIGN 9).
   */
  issuerAssumed: boolean;
  /** Whether a metadata document was read. Only then is silence about PKCE a refusal: an admin's word has no such field. */
  described: boolean;
  authorizationEndpoint: string;
  tokenEndpoint: string;
  /** Where refresh tokens are sent; usually the token endpoint. */
  refreshEndpoint: string;
  revocationEndpoint: string | null;
  registrationEndpoint: string | null;
  /** `authorization_response_iss_parameter_supported`: a response without `iss` is refused then. */
  sendsIss: boolean;
  /** `code_challenge_methods_supported`. Null: not said, and refused unless the connection assumes S256. */
  pkceMethods: string[] | null;
  clientAuthMethods: string[] | null;
  /** `client_id_metadata_document_supported`. */
  takesMetadataDocument: boolean;
  scopesSupported: string[] | null;
};

/** A client at one authorization server. */
export type OAuthClient = {
  clientId: string;
  clientSecret: string | null;
  /** For `private_key_jwt`. */
  privateKey: JsonObject | null;
  auth: ClientAuth;
};

/** What a token endpoint gave, as it gave it: committed before anything about it is checked (threats, rule 4). */
export type RawTokens = {
  accessToken: string;
  /** Null: none came; the one before stays good (rule 7). */
  refreshToken: string | null;
  /** Milliseconds since the epoch. Null: not said, so assumed to be short. */
  expiresAt: number | null;
  /** Null: not said, so what was asked for. */
  scopes: string[] | null;
};

/**
 * Why a request to an authorization server failed. `transient` never becomes a question to the person; `unknown`: the
 * request may have been carried out and its answer was lost.
 */
export type OAuthFailure =
  | { kind: "refused"; error: string; description: string | null } // an OAuth error: invalid_grant, invalid_client, …
  | { kind: "transient"; message: string; outcome: "not_sent" | "unknown" }
  // What came back breaks a rule, and the rule is named. `namedIssuer`: what the metadata calls itself instead.
  | { kind: "invalid"; message: string; namedIssuer?: string };

export type OAuthOutcome<T> = { ok: true; value: T } | { ok: false; failure: OAuthFailure };

/** What a protected server says of itself (RFC 9728). */
export type ProtectedResource = {
  /** `resource`, verbatim; the server's canonical URI where it has no metadata. */
  resource: string;
  authorizationServers: string[];
  /** Scopes of the challenge, else all of the metadata's; null: ask for none by name. */
  scopes: string[] | null;
};

/**
 * OAuth as a client, by libraries, over egress. Never throws for what a server does. `commit` is called with the raw
 * tokens before any check of the answer, and its fault fails the call: tokens that are not kept are not used.
 */
export type OAuth = {
  /** RFC 9728 by the challenge's `resource_metadata` (same origin only), else the well-known URIs. Null: no metadata (404). */
  protectedResource: (
    target: string,
    challenge: { resourceMetadata: string | null; scope: string | null } | null,
    signal: AbortSignal,
  ) => Promise<OAuthOutcome<ProtectedResource | null>>;
  /** RFC 8414, then OIDC discovery, in the order of the MCP specification; `issuer` must equal what was asked for. */
  authServer: (issuer: string, signal: AbortSignal) => Promise<OAuthOutcome<AuthServer>>;
  /** RFC 7591. `secretExpiresAt`: milliseconds since the epoch; null: never. */
  register: (
    server: AuthServer,
    client: { name: string; redirectUri: string; scopes: string[] | null },
    signal: AbortSignal,
  ) => Promise<OAuthOutcome<{ client: OAuthClient; secretExpiresAt: number | null }>>;
  /** The URL that the browser is sent to. PKCE S256 always; `resource` (RFC 8707) unless null. */
  authorizationUrl: (request: {
    server: AuthServer;
    client: OAuthClient;
    redirectUri: string;
    state: string;
    verifier: string;
    scopes: string[] | null;
    resource: string | null;
    params: Record<string, string>;
    /** As in `TokenRequest`. */
    quirks: string | null;
  }) => Promise<string>;
  exchangeCode: (
    request: TokenRequest & { code: string; redirectUri: string; verifier: string },
    signal: AbortSignal,
  ) => Promise<OAuthOutcome<RawTokens>>;
  refresh: (
    request: TokenRequest & { refreshToken: string; scopes: string[] | null },
    signal: AbortSignal,
  ) => Promise<OAuthOutcome<RawTokens>>;
  /** RFC 6749, 4.4 (MCP extension "OAuth client credentials"): a token of the client's own. */
  clientCredentials: (
    request: MachineTokenRequest & { scopes: string[] | null },
    signal: AbortSignal,
  ) => Promise<OAuthOutcome<RawTokens>>;
  /**
   * RFC 8693: another token for the one that a person came with. `requestedTokenType` null: what the server gives by itself,
   * an access token. Gives what was issued, whatever its type; a type that was asked for must be the one that comes.
   */
  exchangeToken: (
    request: MachineTokenRequest & {
      subjectToken: string;
      subjectTokenType: string;
      requestedTokenType: string | null;
      audience: string | null;
      scopes: string[] | null;
    },
    signal: AbortSignal,
  ) => Promise<OAuthOutcome<RawTokens>>;
  /** RFC 7523, 2.1: an assertion for an access token. */
  assertionGrant: (
    request: MachineTokenRequest & { assertion: string; scopes: string[] | null },
    signal: AbortSignal,
  ) => Promise<OAuthOutcome<RawTokens>>;
  /** RFC 7009. */
  revoke: (
    request: {
      server: AuthServer;
      client: OAuthClient;
      token: string;
      hint: "access_token" | "refresh_token";
    },
    signal: AbortSignal,
  ) => Promise<OAuthOutcome<null>>;
};

export type TokenRequest = {
  server: AuthServer;
  client: OAuthClient;
  resource: string | null;
  params: Record<string, string>;
  /** Which provider's quirks the answer has; data in one table. Null: none known. */
  quirks: string | null;
  now: () => number;
  commit: (tokens: RawTokens) => Promise<void>;
};

/** A token request that no person is waited for, and whose tokens are not stored: another can be had at any time. */
export type MachineTokenRequest = Omit<TokenRequest, "commit">;

/** RFC 8693, 3, and the MCP extension "Enterprise-managed authorization". */
export const TOKEN_TYPES = {
  access_token: "urn:ietf:params:oauth:token-type:access_token",
  id_token: "urn:ietf:params:oauth:token-type:id_token",
  jwt: "urn:ietf:params:oauth:token-type:jwt",
  id_jag: "urn:ietf:params:oauth:token-type:id-jag",
} as const;

/** As much of an authorization server as a client without people needs. */
export type TokenServer = Pick<AuthServer, "issuer" | "issuerAssumed" | "tokenEndpoint">;

/** It is asked for tokens and nothing else: the other endpoints are none of ours. */
export function tokenServerOf({ issuer, issuerAssumed, tokenEndpoint }: TokenServer): AuthServer {
  return {
    issuer,
    issuerAssumed,
    described: false,
    authorizationEndpoint: tokenEndpoint,
    tokenEndpoint,
    refreshEndpoint: tokenEndpoint,
    revocationEndpoint: null,
    registrationEndpoint: null,
    sendsIss: false,
    pkceMethods: null,
    clientAuthMethods: null,
    takesMetadataDocument: false,
    scopesSupported: null,
  };
}

export type CallbackFault = "iss_missing" | "iss_mismatch";

/**
 * RFC 9207 and the MCP specification: before anything else of a callback is looked at. Compared byte for byte. Null: go on.
 */
export function issFault(
  server: Pick<AuthServer, "issuer" | "issuerAssumed" | "authorizationEndpoint" | "sendsIss">,
  iss: string | null,
): CallbackFault | null {
  if (iss === null) return server.sendsIss ? "iss_missing" : null;
  if (iss === server.issuer) return null;
  return server.issuerAssumed && isAt(iss, server.authorizationEndpoint) ? null : "iss_mismatch";
}

/** Whether an identifier that nobody told us is https at the origin to which the person was sent. */
function isAt(iss: string, authorizationEndpoint: string): boolean {
  const url = URL.parse(iss);
  return url?.protocol === "https:" && url.origin === URL.parse(authorizationEndpoint)?.origin;
}

/** OpenID Connect at a project's own issuer: who sits at this browser (DESIGN 6, proof `sign-in`). Never throws for what a server does. */
export type SignIn = {
  /**
   * The URL that the browser is sent to: `openid email`, state, nonce, PKCE S256, and `prompt=select_account` unless the
   * issuer does not know that value (it names others in its metadata, or refused a callback of the last hour).
   */
  authorizationUrl: (
    request: SignInClient & { state: string; nonce: string; verifier: string },
    signal: AbortSignal,
  ) => Promise<OAuthOutcome<string>>;
  /**
   * Exchanges the code of a callback and verifies the ID token (signature by the issuer's keys, `iss`, `aud`, `exp`,
   * `nonce`; OpenID Connect Core 3.1.3.7), `iss` of the response first. Gives the token's claims.
   */
  claims: (
    request: SignInClient & { callback: URLSearchParams; state: string; nonce: string; verifier: string },
    signal: AbortSignal,
  ) => Promise<OAuthOutcome<JsonObject>>;
};

export type SignInClient = {
  issuer: string;
  clientId: string;
  /** Null: a public client. */
  clientSecret: string | null;
  redirectUri: string;
};
