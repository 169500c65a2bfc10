import type { ClientSecrets } from "./client-secrets.ts";
import type { ClientCredentialsAuth, MachineClient, UserTokenAuth } from "./connection.ts";
import type { Context } from "./context.ts";
import { CALLS_US, callsUs } from "./exchange-guard.ts";
import type { Minted, UserToken } from "./machine-identity.ts";
import { type OAuthOutcome, type RawTokens, TOKEN_TYPES, tokenServerOf } from "./oauth.ts";
import type { World } from "./ports.ts";
import { canonicalResource, resourceOf } from "./resource.ts";
import { createUserExchange } from "./user-exchange.ts";

/** Tokens by OAuth without a person to ask: one request, or two, and nothing is kept here. */
export type TokenMinting = {
  /** RFC 6749, 4.4. */
  clientCredentials: (
    asked: { auth: ClientCredentialsAuth; secrets: ClientSecrets; target: string },
    signal: AbortSignal,
  ) => Promise<Minted>;
  /** RFC 8693 at the person's issuer, or the two steps of an ID-JAG. `secrets`: of the client at the server's own issuer. */
  exchange: (
    asked: {
      project: Context["project"];
      user: UserToken;
      auth: UserTokenAuth;
      secrets: ClientSecrets | null;
      target: string;
    },
    signal: AbortSignal,
  ) => Promise<Minted>;
};

export function createTokenMinting(world: World): TokenMinting {
  const wayOf = createUserExchange(world);
  const { now } = world.clock;
  const plain = { params: {}, quirks: null, now };

  function minted(outcome: OAuthOutcome<RawTokens>, by: { issuer: string; clientId: string }): Minted {
    if (!outcome.ok) return failureOf(outcome, by.issuer);
    const { accessToken: token, expiresAt } = outcome.value;
    const principal = { issuer: by.issuer, subject: null, clientId: by.clientId, tenant: null };
    return { ok: true, token, expiresAt: expiresAt ?? now() + UNSAID_LIFE_MS, principal };
  }

  const exchange: TokenMinting["exchange"] = async ({ project, user, auth, secrets, target }, signal) => {
    const found = await wayOf(project, user, signal);
    if (!found.ok) return { ...found, claims: null };
    const { way } = found;
    const { idJag, audience, scopes } = auth;
    const resource = resourceOf(auth, canonicalResource(target));
    const first = await world.oauth.exchangeToken(
      {
        ...plain,
        server: way.server,
        client: way.client,
        resource,
        subjectToken: user.token,
        subjectTokenType: way.subjectTokenType,
        requestedTokenType: idJag === null ? null : TOKEN_TYPES.id_jag,
        audience,
        scopes,
      },
      signal,
    );
    const at = { issuer: way.server.issuer, clientId: way.client.clientId };
    if (idJag === null || !first.ok) return minted(first, at);
    if (callsUs(project, first.value.accessToken, user))
      return { ok: false, transient: false, message: CALLS_US, claims: null };
    const second = await world.oauth.assertionGrant(
      {
        ...plain,
        server: tokenServerOf(idJag.server),
        client: clientOf(idJag, secrets),
        // The assertion says which resource it is for (SEP-990, 5.1); a server may ask to be told all the same.
        resource,
        assertion: first.value.accessToken,
        scopes,
      },
      signal,
    );
    return minted(second, { issuer: idJag.server.issuer, clientId: idJag.clientId });
  };

  return {
    exchange,
    clientCredentials: async ({ auth, secrets, target }, signal) => {
      const { client, scopes, tokenParams } = auth;
      const outcome = await world.oauth.clientCredentials(
        {
          ...plain,
          params: tokenParams,
          server: tokenServerOf(client.server),
          client: clientOf(client, secrets),
          resource: resourceOf(auth, canonicalResource(target)),
          scopes,
        },
        signal,
      );
      return minted(outcome, { issuer: client.server.issuer, clientId: client.clientId });
    },
  };
}

/** No `expires_in`: assume a short life (threats, rule 7). */
const UNSAID_LIFE_MS = 5 * 60_000;

function clientOf({ clientId, clientAuth }: MachineClient, secrets: ClientSecrets | null) {
  return { clientSecret: null, privateKey: null, ...secrets, clientId, auth: clientAuth };
}

function failureOf({ failure }: OAuthOutcome<RawTokens> & { ok: false }, issuer: string): Minted {
  const isTransient = failure.kind === "transient";
  const said =
    failure.kind === "refused"
      ? `${issuer} refused: ${failure.error}${failure.description === null ? "" : ` (${failure.description})`}`
      : failure.message;
  return { ok: false, transient: isTransient, message: said, claims: null };
}
