import * as z from "zod";
import type { OAuthApp, OAuthAuth, OAuthOverrides } from "../../core/connection.ts";
import { type OAuthDraft, PROVIDERS, typedOf } from "../../core/oauth-app-rules.ts";
import { strings } from "./common.ts";
import { secretValue } from "./secrets.ts";
import { arrayOf, jsonObject } from "./shape.ts";

const clientAuth = z
  .enum(["basic", "post", "none", "private_key_jwt", "client_secret_basic", "client_secret_post"])
  .transform((name) =>
    name === "client_secret_basic" ? "basic" : name === "client_secret_post" ? "post" : name,
  );

/** Write-only: never in an answer. */
export const secretFields = {
  clientId: z.string().nullish(),
  clientSecret: secretValue.nullish(),
  /** A private JWK. */
  privateKey: jsonObject.nullish(),
};

/** An app at an authorization server, as connections and connectors take it. Null stands for the default. */
export const appFields = {
  clientId: z.string().nullish(),
  clientAuth: clientAuth.nullish(),
  authorizationUrl: z.string().nullish(),
  tokenUrl: z.string().nullish(),
  refreshUrl: z.string().nullish(),
  revocationUrl: z.string().nullish(),
  issuer: z.string().nullish(),
  scopes: arrayOf(z.string(), 1_000).nullish(),
  authorizeParams: strings.nullish(),
  tokenParams: strings.nullish(),
  audience: z.string().nullish(),
  provider: z.string().meta({ enum: PROVIDERS }).nullish(),
  resource: z.string().nullish(),
  refreshScope: z.enum(["granted", "omit"]).nullish(),
  pkce: z.enum(["strict", "assume-S256"]).nullish(),
  overrideReason: z.string().nullish(),
};

export const oauthFields = { connectorName: z.string().nullish() };

/** Only what is given of these fields: what else stands beside them is none of theirs. */
export function readOAuthDraft(given: OAuthDraft): OAuthDraft {
  const {
    clientId,
    clientSecret,
    privateKey,
    clientAuth: auth,
    authorizationUrl,
    tokenUrl,
    refreshUrl,
    revocationUrl,
    issuer,
    scopes,
    authorizeParams,
    tokenParams,
    audience,
    provider,
    connectorName,
    resource,
    refreshScope,
    pkce,
    overrideReason,
  } = given;
  return {
    clientId,
    clientSecret,
    privateKey,
    clientAuth: auth,
    authorizationUrl,
    tokenUrl,
    refreshUrl,
    revocationUrl,
    issuer,
    scopes,
    authorizeParams,
    tokenParams,
    audience,
    provider,
    connectorName,
    resource,
    refreshScope,
    pkce,
    overrideReason,
  };
}

const writtenApp = z.object({
  clientId: z.string().nullable(),
  clientAuth: z.enum(["basic", "post", "none", "private_key_jwt"]).nullable(),
  authorizationUrl: z.string().nullable(),
  tokenUrl: z.string().nullable(),
  refreshUrl: z.string().nullable(),
  revocationUrl: z.string().nullable(),
  /** Null: nobody has said it. */
  issuer: z.string().nullable(),
  authorizeParams: strings,
  tokenParams: strings,
  audience: z.string().nullable(),
  provider: z.string().nullable(),
});

const writtenOverrides = z.object({
  resource: z.string(),
  refreshScope: z.enum(["granted", "omit"]),
  pkce: z.enum(["strict", "assume-S256"]),
  overrideReason: z.string().nullable(),
});

/** What an answer says of an OAuth connection, which is everything but secrets. */
export const writtenOAuth = z.object({
  ...writtenApp.shape,
  ...writtenOverrides.shape,
  connectorName: z.string().nullable(),
  scopes: z.array(z.string()).nullable(),
  redirectUrl: z.string().nullable(),
});

export const appBody = z.object({ ...writtenApp.shape, ...writtenOverrides.shape });

export function writeOAuth({
  source,
  scopes,
  overrides,
}: OAuthAuth): Omit<z.infer<typeof writtenOAuth>, "redirectUrl"> {
  const common = { scopes, ...writeOverrides(overrides) };
  switch (source.kind) {
    case "connector":
      return { ...NO_APP, ...common, connectorName: source.connector };
    case "discovery": {
      const { issuer, clientId, clientAuth: auth } = source;
      return { ...NO_APP, ...common, connectorName: null, issuer, clientId, clientAuth: auth };
    }
    case "custom":
      return { ...writeApp(source.app), ...common, connectorName: null };
  }
}

export function writeApp(app: OAuthApp): z.infer<typeof writtenApp> {
  const { authorizeParams, tokenParams, audience, refreshUrl, revocationUrl, issuer } = typedOf(app);
  return {
    clientId: app.clientId,
    clientAuth: app.clientAuth,
    authorizationUrl: app.server.authorizationEndpoint,
    tokenUrl: app.server.tokenEndpoint,
    refreshUrl: refreshUrl ?? null,
    revocationUrl: revocationUrl ?? null,
    issuer: issuer ?? null,
    authorizeParams: authorizeParams ?? {},
    tokenParams: tokenParams ?? {},
    audience: audience ?? null,
    provider: app.provider,
  };
}

export function writeOverrides({ resource, refreshScope, pkce, reason }: OAuthOverrides) {
  return {
    resource: typeof resource === "object" ? resource.value : resource,
    refreshScope,
    pkce,
    overrideReason: reason,
  };
}

const NO_APP: z.infer<typeof writtenApp> = {
  clientId: null,
  clientAuth: null,
  authorizationUrl: null,
  tokenUrl: null,
  refreshUrl: null,
  revocationUrl: null,
  issuer: null,
  authorizeParams: {},
  tokenParams: {},
  audience: null,
  provider: null,
};
