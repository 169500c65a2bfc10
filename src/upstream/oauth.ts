import { buildAuthorizationUrl, calculatePKCECodeChallenge } from "openid-client";
import { BrokerError } from "../core/errors.ts";
import type { OAuth } from "../core/oauth.ts";
import { discoverResource } from "./discovery-resource.ts";
import { discoverServer } from "./discovery-server.ts";
import type { UrlFault } from "./discovery.ts";
import type { Egress } from "./egress.ts";
import { configurationOf } from "./oauth-client-auth.ts";
import { outcomeOf } from "./oauth-failures.ts";
import { requestByAssertion, requestClientCredentials, requestExchange } from "./oauth-machine.ts";
import { quirkFor } from "./oauth-quirks.ts";
import { registerClient } from "./oauth-register.ts";
import { scopeOf } from "./oauth-scopes.ts";
import { requestTokens, revokeToken } from "./oauth-tokens.ts";

/**
 * OAuth over egress, by openid-client. `urlFault`: why egress would not call a URL, for the endpoints that browsers are
 * sent to as well; null: it would.
 *
 * An answer that breaks a rule after its tokens were committed (a malformed `id_token`, no `token_type`) is `invalid`:
 * whoever committed knows that it has them.
 */
export function createOAuth({
  egress,
  clientInfo,
  urlFault,
}: {
  egress: Egress;
  clientInfo: { name: string; version: string };
  urlFault: UrlFault;
}): OAuth {
  const userAgent = `${clientInfo.name}/${clientInfo.version}`;
  const outgoing = (signal: AbortSignal) => ({ egress, userAgent, signal });
  return {
    protectedResource: (target, challenge, signal) =>
      outcomeOf(signal, () => discoverResource(outgoing(signal), { target, challenge, urlFault })),
    authServer: (issuer, signal) =>
      outcomeOf(signal, () => discoverServer(outgoing(signal), { issuer, urlFault })),
    register: (server, client, signal) =>
      outcomeOf(signal, () => registerClient(outgoing(signal), server, client)),
    authorizationUrl: (request) => authorizationUrl(request, urlFault),
    exchangeCode: (request, signal) =>
      outcomeOf(signal, () =>
        requestTokens(outgoing(signal), request, {
          type: "authorization_code",
          endpoint: request.server.tokenEndpoint,
          parameters: {
            code: request.code,
            redirect_uri: request.redirectUri,
            code_verifier: request.verifier,
          },
          secrets: [request.code, request.verifier],
        }),
      ),
    refresh: (request, signal) =>
      outcomeOf(signal, () =>
        requestTokens(outgoing(signal), request, {
          type: "refresh_token",
          endpoint: request.server.refreshEndpoint,
          parameters: { refresh_token: request.refreshToken, ...scopeOf(request.scopes) },
          secrets: [request.refreshToken],
        }),
      ),
    clientCredentials: (request, signal) =>
      outcomeOf(signal, () => requestClientCredentials(outgoing(signal), request)),
    exchangeToken: (request, signal) => outcomeOf(signal, () => requestExchange(outgoing(signal), request)),
    assertionGrant: (request, signal) =>
      outcomeOf(signal, () => requestByAssertion(outgoing(signal), request)),
    revoke: (request, signal) => outcomeOf(signal, () => revokeToken(outgoing(signal), request)),
  };
}

/** Throws `target_refused`: rules may have changed since the endpoint was saved, and a browser is about to go there. */
async function authorizationUrl(request: AuthorizationRequest, urlFault: UrlFault): Promise<string> {
  const { server, client, redirectUri, state, verifier, scopes, resource, params, quirks } = request;
  const { authorizeParams, scopeParam, askedScopeSeparator } = quirkFor(quirks, server.tokenEndpoint);
  const why = urlFault(server.authorizationEndpoint);
  if (why !== null) throw new BrokerError("target_refused", { url: server.authorizationEndpoint, why });
  // No proof of the client is asked for here, so that a key that cannot be read stops nobody before the exchange.
  const config = await configurationOf(server, { ...client, auth: "none" });
  const { scope } = scopeOf(scopes, askedScopeSeparator);
  const url = buildAuthorizationUrl(config, {
    ...authorizeParams,
    ...params,
    response_type: "code",
    client_id: client.clientId,
    redirect_uri: redirectUri,
    state,
    code_challenge: await calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    ...(scope !== undefined && { [scopeParam]: scope }),
    ...(resource !== null && { resource }),
  });
  return url.href;
}

type AuthorizationRequest = Parameters<OAuth["authorizationUrl"]>[0];
