import type { OAuthApp } from "./connection.ts";
import type { Fault } from "./errors.ts";
import type { Found, NameOf, OAuthDraft, Question } from "./oauth-app-rules.ts";
import type { AuthServer } from "./oauth.ts";

/** The endpoints as an admin typed them. */
export type TypedServer = {
  authorizationUrl: string;
  tokenUrl: string;
  refreshUrl: string | null;
  revocationUrl: string | null;
  issuer: string | null;
};

/** What was typed, as far as it is enough. Null: without both endpoints it is no server. */
export function typedServer(draft: OAuthDraft): TypedServer | null {
  const { authorizationUrl, tokenUrl, refreshUrl = null, revocationUrl = null, issuer = null } = draft;
  if (authorizationUrl == null || tokenUrl == null) return null;
  return { authorizationUrl, tokenUrl, refreshUrl, revocationUrl, issuer };
}

/**
 * The authorization server of typed endpoints (DESIGN 9). Its metadata count only if they name the same endpoints: those of
 * a given issuer must, and those at the token URL's origin may. `found` null: nobody has looked yet, and `question` says
 * where to look; null when there is no need to. `before`: the app as it was, whose server stays as long as the same is
 * typed, or when the metadata cannot be had just now.
 */
export function readServer(
  typed: TypedServer,
  context: { before: OAuthApp | null; mayKeep: boolean; found: Found | null; nameOf: NameOf },
): { server: AuthServer; question: Question | null; faults: Fault[] } {
  const { before, mayKeep, found, nameOf } = context;
  const known = before && isAtSamePlace(before.server, typed) ? before.server : null;
  if (known && mayKeep && typed.issuer === (known.issuerAssumed ? null : known.issuer)) {
    const { revocationUrl: revocationEndpoint } = typed;
    return { server: { ...withEndpoints(known, typed), revocationEndpoint }, question: null, faults: [] };
  }
  const issuer = typed.issuer ?? new URL(typed.tokenUrl).origin;
  const bare: AuthServer = {
    issuer,
    issuerAssumed: typed.issuer === null,
    described: false,
    authorizationEndpoint: typed.authorizationUrl,
    tokenEndpoint: typed.tokenUrl,
    refreshEndpoint: typed.refreshUrl ?? typed.tokenUrl,
    revocationEndpoint: typed.revocationUrl,
    registrationEndpoint: null,
    sendsIss: false,
    pkceMethods: null,
    clientAuthMethods: null,
    takesMetadataDocument: false,
    scopesSupported: null,
  };
  if (found?.kind !== "server") return { server: bare, question: { kind: "server", issuer }, faults: [] };
  const { server } = found;
  if (!server) {
    // A server that is away for a moment is not another one.
    const isKnown = known?.described && (typed.issuer === null || typed.issuer === known.issuer);
    return { server: isKnown ? withEndpoints(known, typed) : bare, question: null, faults: [] };
  }
  const faults = disagreements(server, typed, nameOf);
  if (faults.length === 0) return { server: withEndpoints(server, typed), question: null, faults };
  return { server: bare, question: null, faults: typed.issuer === null ? [] : faults };
}

/** Where a client's secret is sent, or decides where it is sent: what was kept for these goes nowhere else. */
export function originsOf(server: AuthServer): string[] {
  const { issuer, tokenEndpoint, refreshEndpoint, revocationEndpoint } = server;
  return [issuer, tokenEndpoint, refreshEndpoint, revocationEndpoint].flatMap((url) =>
    url !== null && URL.canParse(url) ? [new URL(url).origin] : [],
  );
}

function isAtSamePlace(server: AuthServer, typed: TypedServer): boolean {
  return server.authorizationEndpoint === typed.authorizationUrl && server.tokenEndpoint === typed.tokenUrl;
}

/** What is typed goes before what the metadata say. */
function withEndpoints(server: AuthServer, { tokenUrl, refreshUrl, revocationUrl }: TypedServer): AuthServer {
  return {
    ...server,
    refreshEndpoint: refreshUrl ?? tokenUrl,
    revocationEndpoint: revocationUrl ?? server.revocationEndpoint,
  };
}

function disagreements(server: AuthServer, typed: TypedServer, nameOf: NameOf): Fault[] {
  const pairs = [
    ["authorizationUrl", server.authorizationEndpoint, typed.authorizationUrl],
    ["tokenUrl", server.tokenEndpoint, typed.tokenUrl],
  ] as const;
  return pairs.flatMap(([field, described, given]) =>
    described === given
      ? []
      : [
          {
            param: nameOf(field),
            message: `is ${given}, but the metadata of the issuer ${server.issuer} name ${described}; use that, or another issuer`,
          },
        ],
  );
}
