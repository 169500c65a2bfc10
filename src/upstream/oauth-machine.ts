import type { OAuth } from "../core/oauth.ts";
import type { Outgoing } from "./oauth-http.ts";
import { scopeOf } from "./oauth-scopes.ts";
import { requestTokens } from "./oauth-tokens.ts";

type Machine = Pick<OAuth, "clientCredentials" | "exchangeToken" | "assertionGrant">;
type Work<F extends keyof Machine> = (
  out: Outgoing,
  request: Parameters<Machine[F]>[0],
) => ReturnType<typeof requestTokens>;

/** Nobody waits with an old refresh token that would be spent: a token that is lost is asked for again. */
const keepNothing = async () => {};

export const requestClientCredentials: Work<"clientCredentials"> = (out, request) =>
  requestTokens(
    out,
    { ...request, commit: keepNothing },
    {
      type: "client_credentials",
      endpoint: request.server.tokenEndpoint,
      parameters: scopeOf(request.scopes),
      secrets: [],
    },
  );

export const requestExchange: Work<"exchangeToken"> = (out, request) => {
  const { subjectToken, subjectTokenType, requestedTokenType, audience, scopes } = request;
  return requestTokens(
    out,
    { ...request, commit: keepNothing },
    {
      type: "urn:ietf:params:oauth:grant-type:token-exchange",
      endpoint: request.server.tokenEndpoint,
      parameters: {
        subject_token: subjectToken,
        subject_token_type: subjectTokenType,
        ...(requestedTokenType !== null && { requested_token_type: requestedTokenType }),
        ...(audience !== null && { audience }),
        ...scopeOf(scopes),
      },
      secrets: [subjectToken],
      ...(requestedTokenType !== null && { issues: requestedTokenType }),
    },
  );
};

export const requestByAssertion: Work<"assertionGrant"> = (out, request) =>
  requestTokens(
    out,
    { ...request, commit: keepNothing },
    {
      type: "urn:ietf:params:oauth:grant-type:jwt-bearer",
      endpoint: request.server.tokenEndpoint,
      parameters: { assertion: request.assertion, ...scopeOf(request.scopes) },
      secrets: [request.assertion],
    },
  );
