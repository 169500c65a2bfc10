import type { OAuthApp, OAuthOverrides } from "./connection.ts";
import type { Fault } from "./errors.ts";
import type { JsonObject } from "./json.ts";
import type { AuthServer, ClientAuth } from "./oauth.ts";
import type { SecretValue } from "./secret-references.ts";
import { type CheckTarget, urlFaults } from "./url-rules.ts";

/** What an admin writes about OAuth, for a connection or a connector. Undefined: not given; null: back to the default. */
export type OAuthDraft = {
  clientId?: string | null | undefined;
  clientSecret?: SecretValue | null | undefined;
  /** A private JWK (RFC 7517). */
  privateKey?: JsonObject | null | undefined;
  clientAuth?: ClientAuth | null | undefined;
  authorizationUrl?: string | null | undefined;
  tokenUrl?: string | null | undefined;
  refreshUrl?: string | null | undefined;
  revocationUrl?: string | null | undefined;
  issuer?: string | null | undefined;
  scopes?: string[] | null | undefined;
  authorizeParams?: Record<string, string> | null | undefined;
  tokenParams?: Record<string, string> | null | undefined;
  /** Sent as `audience` with the authorization and with token requests. */
  audience?: string | null | undefined;
  provider?: string | null | undefined;
  connectorName?: string | null | undefined;
  resource?: string | null | undefined;
  refreshScope?: "granted" | "omit" | null | undefined;
  pkce?: "strict" | "assume-S256" | null | undefined;
  overrideReason?: string | null | undefined;
};

/** Where a field of a draft stands in the caller's body. */
export type NameOf = (field: keyof OAuthDraft) => string;

/** A question for the network that the rules cannot answer: what is at this issuer, who guards this server, what is at its guard? */
export type Question =
  | { kind: "server"; issuer: string }
  | { kind: "guards"; target: string }
  | { kind: "server_of"; target: string };

/** `why`: what stood in the way, as a sentence. */
export type Found =
  | { kind: "server"; server: AuthServer | null; why: string | null }
  | { kind: "guards"; issuers: string[]; why: string | null };

/** Names whose ways the table of providers knows (`upstream/oauth-quirks`). */
export const PROVIDERS = ["github", "slack", "slack-user", "google", "atlassian", "notion", "entra"];

/** What is wrong with the fields that an app brings, each by itself. */
export function appFaults(draft: OAuthDraft, at: { nameOf: NameOf; checkTarget: CheckTarget }): Fault[] {
  const { nameOf, checkTarget } = at;
  const urls = ["authorizationUrl", "tokenUrl", "refreshUrl", "revocationUrl"] as const;
  return [
    ...urls.flatMap((field) => {
      const given = draft[field];
      return given == null ? [] : urlFaults(given, { checkTarget, param: nameOf(field) });
    }),
    ...paramFaults(draft.authorizeParams ?? {}, nameOf("authorizeParams")),
    ...paramFaults(draft.tokenParams ?? {}, nameOf("tokenParams")),
    ...textFaults(draft.audience, MAX_PARAM_CHARS, nameOf("audience")),
    ...(draft.provider == null || PROVIDERS.includes(draft.provider)
      ? []
      : [{ param: nameOf("provider"), message: `must be one of ${PROVIDERS.join(", ")}` }]),
  ];
}

/** An issuer is compared byte for byte with what the server says, and has neither query nor fragment (RFC 8414, 2). */
export function issuerFaults(
  issuer: string | null | undefined,
  at: { param: string; checkTarget: CheckTarget },
): Fault[] {
  if (issuer == null) return [];
  const faults = urlFaults(issuer, at);
  if (faults.length > 0 || !issuer.includes("?")) return faults;
  return [{ param: at.param, message: "must not have a query" }];
}

/** Scope tokens of RFC 6749, 3.3. */
export function scopeFaults(scopes: string[] | null | undefined, param: string): Fault[] {
  if (scopes == null) return [];
  if (scopes.length > MAX_SCOPES) return [{ param, message: `must have at most ${MAX_SCOPES} entries` }];
  return scopes.flatMap((scope, at) =>
    /^[\x21\x23-\x5b\x5d-\x7e]{1,256}$/.test(scope)
      ? []
      : [{ param: `${param}[${at}]`, message: "must be one scope: visible characters without spaces" }],
  );
}

/** The overrides of a draft. Each that is not the default needs the reason, for whoever reads the audit. */
export function readOverrides(
  draft: OAuthDraft,
  nameOf: NameOf,
): { overrides: OAuthOverrides; faults: Fault[] } {
  const { resource: given } = draft;
  const resource = given == null || given === "prm" ? "prm" : given === "omit" ? "omit" : { value: given };
  const refreshScope = draft.refreshScope ?? "granted";
  const pkce = draft.pkce ?? "strict";
  const isPlain = resource === "prm" && refreshScope === "granted" && pkce === "strict";
  const reason = draft.overrideReason ?? null;
  const faults: Fault[] = textFaults(reason, MAX_REASON_CHARS, nameOf("overrideReason"));
  if (!isPlain && (reason === null || reason.trim() === "")) {
    const message = "is required with resource, refreshScope or pkce: why does the server need it?";
    faults.push({ param: nameOf("overrideReason"), message });
  }
  if (typeof resource === "object" && !isResource(resource.value)) {
    const message = 'must be "prm", "omit", or an absolute URI without a fragment';
    faults.push({ param: nameOf("resource"), message });
  }
  return { overrides: { resource, refreshScope, pkce, reason: isPlain ? null : reason }, faults };
}

/** Printable text, so that it cannot disguise itself where it is shown. */
function textFaults(text: string | null | undefined, most: number, param: string): Fault[] {
  if (text == null) return [];
  if (text.length > 0 && text.length <= most && !/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(text)) return [];
  return [{ param, message: `must have 1 to ${most} characters, none of them control or formatting` }];
}

/** RFC 8707, 2: an absolute URI without a fragment. */
function isResource(value: string): boolean {
  return value.length <= MAX_PARAM_CHARS && /^[a-z][a-z0-9+.-]*:[^\s\p{Cc}#]+$/iu.test(value);
}

function paramFaults(params: Record<string, string>, param: string): Fault[] {
  const entries = Object.entries(params);
  if (entries.length > MAX_PARAMS) return [{ param, message: `must have at most ${MAX_PARAMS} pairs` }];
  return entries.flatMap(([name, value]) => {
    const at = `${param}.${name}`;
    if (isOurs(name)) return [{ param: at, message: "is set by the broker" }];
    if (!/^[A-Za-z][\w.-]{0,63}$/.test(name)) return [{ param: at, message: "is no parameter name" }];
    return textFaults(value, MAX_PARAM_CHARS, at);
  });
}

/** What we send ourselves, and what would send the answer another way. */
function isOurs(name: string): boolean {
  const folded = name.toLowerCase();
  return OURS.has(folded) || folded.startsWith("code") || folded.startsWith("client_assertion");
}

const OURS = new Set([
  "client_id",
  "client_secret",
  "grant_type",
  "redirect_uri",
  "refresh_token",
  "request",
  "request_uri",
  "resource",
  "response_mode",
  "response_type",
  "scope",
  "state",
]);
const MAX_PARAMS = 20;
const MAX_PARAM_CHARS = 2_048;
const MAX_SCOPES = 200;
const MAX_REASON_CHARS = 500;

/** An app as its admin would write it: what a change starts from. */
export function typedOf(app: OAuthApp): OAuthDraft {
  const { server, clientId, clientAuth, provider } = app;
  const audience = audienceOf(app);
  return {
    clientId,
    clientAuth,
    authorizationUrl: server.authorizationEndpoint,
    tokenUrl: server.tokenEndpoint,
    refreshUrl: server.refreshEndpoint,
    revocationUrl: server.revocationEndpoint,
    issuer: server.issuerAssumed ? null : server.issuer,
    provider,
    audience,
    authorizeParams: withoutAudience(app.authorizeParams, audience),
    tokenParams: withoutAudience(app.tokenParams, audience),
  };
}

/** The extra parameters with the audience among them. */
export function paramsOf(draft: OAuthDraft): Pick<OAuthApp, "authorizeParams" | "tokenParams"> {
  const audience = draft.audience == null ? {} : { audience: draft.audience };
  return {
    authorizeParams: { ...draft.authorizeParams, ...audience },
    tokenParams: { ...draft.tokenParams, ...audience },
  };
}

function audienceOf({ authorizeParams, tokenParams }: OAuthApp): string | null {
  const audience = authorizeParams["audience"];
  return audience !== undefined && tokenParams["audience"] === audience ? audience : null;
}

function withoutAudience(params: Record<string, string>, audience: string | null): Record<string, string> {
  if (audience === null) return params;
  return Object.fromEntries(Object.entries(params).filter(([name]) => name !== "audience"));
}
