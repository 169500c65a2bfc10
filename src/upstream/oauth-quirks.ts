import type { OAuthOverrides } from "../core/connection.ts";

/** How a provider's requests and answers differ from RFC 6749. Data only: what it is for is read where it is used. */
export type Quirk = {
  /** Added to the authorization request where a connection says nothing else. */
  authorizeParams: Record<string, string>;
  /** The parameter of the authorization request that names the person's scopes, and what stands between two of them. */
  scopeParam: string;
  askedScopeSeparator: string;
  tokenBody: "form" | "json";
  tokenHeaders: Record<string, string>;
  /** Errors come with status 200. */
  errorsIn200: boolean;
  /** The members of an answer that may hold the code of an error. */
  errorMembers: string[];
  /** The provider's own error codes, as the codes of RFC 6749; `code: description` where the code alone says too little. */
  errors: Record<string, string>;
  scopeSeparator: string;
  /** The member that holds the person's own tokens, where the others are an app's. */
  nested: string | null;
  /** Values of `token_type` that mean a bearer token. */
  bearerTypes: string[];
  /** Whether an answer without `token_type` gives a bearer token. */
  silentType: "bearer" | "a fault";
};

/** A provider by its name. */
export type Provider = Partial<Quirk> & {
  /** Hosts of its token endpoints, with a path where a host has several kinds. */
  places: string[];
  /** What its documents say that a connection needs. Never done by itself: an admin decides, with a reason. */
  advice?: Partial<Pick<OAuthOverrides, "resource" | "pkce" | "refreshScope">> & { offlineScope?: string };
};

export const NO_QUIRK: Quirk = {
  authorizeParams: {},
  scopeParam: "scope",
  askedScopeSeparator: " ",
  tokenBody: "form",
  tokenHeaders: {},
  errorsIn200: false,
  errorMembers: ["error"],
  errors: {},
  scopeSeparator: " ",
  nested: null,
  bearerTypes: [],
  silentType: "a fault",
};

const SLACK: Partial<Quirk> = {
  errorsIn200: true,
  errors: {
    invalid_code: "invalid_grant",
    code_already_used: "invalid_grant",
    code_expired: "invalid_grant",
    invalid_refresh_token: "invalid_grant",
    token_revoked: "invalid_grant",
    token_expired: "invalid_grant",
    invalid_client_id: "invalid_client",
    bad_client_secret: "invalid_client",
    ratelimited: "temporarily_unavailable",
    service_unavailable: "temporarily_unavailable",
    internal_error: "server_error",
    fatal_error: "server_error",
  },
  scopeSeparator: ",",
  // `scope` and the tokens beside it are the bot's.
  nested: "authed_user",
  bearerTypes: ["user", "bot"],
};

/**
 * Providers as they are. What is known comes from their own documents; what is only reported says so. Self-hosted ones
 * (GitHub Enterprise Server) are found by name only.
 */
export const PROVIDERS: Record<string, Provider> = {
  // A token without `expires_in` lives until it is revoked, and has no refresh token.
  github: {
    places: ["github.com"],
    errorsIn200: true,
    errors: {
      bad_refresh_token: "invalid_grant",
      bad_verification_code: "invalid_grant",
      incorrect_client_credentials: "invalid_client",
    },
    scopeSeparator: ",",
  },
  slack: {
    ...SLACK,
    places: ["slack.com/api/oauth.v2.access", "slack-gov.com/api/oauth.v2.access"],
    scopeParam: "user_scope",
    askedScopeSeparator: ",",
  },
  // Apps that have users only. Unverified: that scopes go into `scope`, and how they are separated there.
  "slack-user": { ...SLACK, places: ["slack.com/api/oauth.v2.user.access"] },
  // Without `prompt` a second consent brings no refresh token.
  google: {
    places: ["oauth2.googleapis.com", "accounts.google.com", "www.googleapis.com/oauth2"],
    authorizeParams: { access_type: "offline", prompt: "consent" },
  },
  atlassian: {
    places: ["auth.atlassian.com"],
    authorizeParams: { audience: "api.atlassian.com", prompt: "consent" },
    // Reported for refresh tokens that have expired.
    errors: { "unauthorized_client: refresh_token is invalid": "invalid_grant" },
    // Its documents show answers without `token_type`.
    silentType: "bearer",
    advice: { offlineScope: "offline_access" },
  },
  // Older apps get neither `expires_in` nor a refresh token.
  notion: {
    places: ["api.notion.com"],
    authorizeParams: { owner: "user" },
    tokenBody: "json",
    tokenHeaders: { "notion-version": "2025-09-03" },
    // Both shapes are documented: OAuth's, and that of its other endpoints.
    errorMembers: ["error", "code"],
    errors: { unauthorized: "invalid_client", rate_limited: "temporarily_unavailable" },
    // Unverified: that some answers still have none.
    silentType: "bearer",
  },
  // v2 endpoints. One resource for each request, named by the scopes; a refresh without them is for the wrong one.
  entra: {
    places: ["login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn"],
    // The person has to come back: multi-factor authentication, conditional access, a consent that was taken away.
    errors: { interaction_required: "invalid_grant", consent_required: "invalid_grant" },
    advice: {
      resource: "omit",
      pkce: "assume-S256",
      refreshScope: "granted",
      offlineScope: "offline_access",
    },
  },
};

/** The quirk of the provider of that name, else of the one whose token endpoint it is; none for all others. */
export function quirkFor(name: string | null, tokenEndpoint: string): Quirk {
  const named = name !== null && Object.hasOwn(PROVIDERS, name) ? PROVIDERS[name] : undefined;
  const provider = named ?? providerAt(tokenEndpoint);
  return provider ? { ...NO_QUIRK, ...provider } : NO_QUIRK;
}

function providerAt(tokenEndpoint: string): Provider | undefined {
  const url = URL.parse(tokenEndpoint);
  if (url?.protocol !== "https:" || url.port !== "") return undefined;
  const place = `${url.hostname}${url.pathname}/`;
  return Object.values(PROVIDERS).find(({ places }) => places.some((known) => place.startsWith(`${known}/`)));
}
