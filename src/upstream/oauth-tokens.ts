import {
  type Configuration,
  customFetch,
  type CustomFetchOptions,
  genericGrantRequest,
  tokenRevocation,
} from "openid-client";
import type { OAuth, OAuthClient, RawTokens, TokenRequest } from "../core/oauth.ts";
import { type Asked, plainTokenAnswer, rawTokensOf, readAnswer, readJsonAnswer } from "./oauth-answer.ts";
import { configurationOf } from "./oauth-client-auth.ts";
import { broken } from "./oauth-failures.ts";
import { type Answer, ask, type Outgoing } from "./oauth-http.ts";
import { NO_QUIRK, type Quirk, quirkFor } from "./oauth-quirks.ts";

export type Grant = {
  /** `grant_type`. */
  type: string;
  endpoint: string;
  parameters: Record<string, string>;
  /** What of the parameters must not come back in a message. */
  secrets: string[];
  /** The `issued_token_type` that must come (RFC 8693, 2.2.1). Absent: an access token that a bearer presents. */
  issues?: string;
};

/**
 * One token request. The raw tokens are committed before the library sees the answer, because it throws on a malformed
 * `id_token` or a missing `token_type` while the old refresh token is spent already (threats, rule 4). A fault of the
 * commit is thrown as it is.
 *
 * The generic grant request, for the others derive `redirect_uri` by their own normalization.
 */
export async function requestTokens(
  out: Outgoing,
  request: TokenRequest,
  { type, endpoint, parameters, secrets, issues }: Grant,
): Promise<RawTokens> {
  const { server, client, resource, params, commit } = request;
  const quirk = quirkFor(request.quirks, endpoint);
  const asked = { host: hostOf(endpoint), secrets: [...secrets, ...secretsOf(client)], quirk };
  const askedAt = request.now();
  const config = await configurationOf(server, client, endpoint);
  let kept: RawTokens | null = null;
  const granted = await throughLibrary(config, {
    out,
    quirk,
    read: async (answer) => {
      const body = plainTokenAnswer(readJsonAnswer(answer, asked), quirk);
      const raw = rawTokensOf(body, askedAt);
      if (raw) await commit(raw);
      kept = raw;
      return Response.json(body);
    },
    work: () =>
      genericGrantRequest(config, type, { ...params, ...parameters, ...(resource !== null && { resource }) }),
  });
  if (issues !== undefined && granted["issued_token_type"] !== issues)
    throw broken(`${asked.host} gave a token of another type than it was asked for.`);
  // The library knows DPoP, and we hold no proof of it (RFC 9449). What is exchanged further is presented by nobody.
  if (issues === undefined && granted.token_type !== "bearer")
    throw broken(`${asked.host} gave a token that is not a bearer token.`);
  if (!kept) throw new Error("the library accepted an answer without an access token");
  return kept;
}

/** RFC 7009, 2.1. */
export async function revokeToken(
  out: Outgoing,
  { server, client, token, hint }: Parameters<OAuth["revoke"]>[0],
): Promise<null> {
  if (server.revocationEndpoint === null)
    throw broken("The authorization server has no revocation endpoint.");
  const asked: Asked = {
    host: hostOf(server.revocationEndpoint),
    secrets: [token, ...secretsOf(client)],
  };
  const config = await configurationOf(server, client);
  await throughLibrary(config, {
    out,
    quirk: NO_QUIRK,
    read: async (answer) => {
      readAnswer(answer, asked);
      return new Response(null, { status: 200 });
    },
    work: () => tokenRevocation(config, token, { token_type_hint: hint }),
  });
  return null;
}

/**
 * Lets the library make one request and judge what `read` makes of the answer. A fault of ours comes out as it went in,
 * not as the library wraps it.
 */
async function throughLibrary<T>(
  config: Configuration,
  {
    out,
    quirk,
    read,
    work,
  }: {
    out: Outgoing;
    quirk: Quirk;
    read: (answer: Answer) => Promise<Response>;
    work: () => Promise<T>;
  },
): Promise<T> {
  const faults: unknown[] = [];
  let requests = 0;
  config[customFetch] = async (url, { method, headers, body }) => {
    try {
      // A second request would present a spent token.
      if (++requests > 1) throw new Error("the library asks a token endpoint twice");
      return await read(await ask(out, url, { method, ...written({ headers, body }, quirk) }));
    } catch (error) {
      faults.push(error);
      throw error;
    }
  };
  try {
    return await work();
  } catch (error) {
    throw faults.length > 0 ? faults[0] : error;
  }
}

/** The library's form as the provider wants it. */
function written(
  { headers, body }: Pick<CustomFetchOptions, "headers" | "body">,
  { tokenBody, tokenHeaders }: Quirk,
): { headers: Record<string, string>; body: string } {
  if (!(typeof body === "string" || body instanceof URLSearchParams))
    throw new Error("the library sends a body that is not a form");
  if (tokenBody === "form") return { headers: { ...headers, ...tokenHeaders }, body: body.toString() };
  return {
    headers: { ...headers, ...tokenHeaders, "content-type": "application/json" },
    body: JSON.stringify(Object.fromEntries(new URLSearchParams(body))),
  };
}

function secretsOf({ clientSecret }: OAuthClient): string[] {
  return clientSecret === null ? [] : [clientSecret];
}

function hostOf(endpoint: string): string {
  const host = URL.parse(endpoint)?.host;
  if (host === undefined) throw broken("An endpoint of the authorization server is not a URL.");
  return host;
}
