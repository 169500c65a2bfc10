import {
  authorizationCodeGrant,
  AuthorizationResponseError,
  buildAuthorizationUrl,
  calculatePKCECodeChallenge,
  type Configuration,
  customFetch,
  enableNonRepudiationChecks,
  getJwksCache,
  type ServerMetadata,
  setJwksCache,
} from "openid-client";
import { createCache } from "../core/cache.ts";
import { isJsonObject, type JsonObject } from "../core/json.ts";
import type { SignIn, SignInClient } from "../core/oauth.ts";
import type { Clock } from "../core/ports.ts";
import type { UrlFault } from "./discovery.ts";
import type { Egress } from "./egress.ts";
import { readJsonAnswer, told } from "./oauth-answer.ts";
import { broken, OAuthFault, outcomeOf, transient } from "./oauth-failures.ts";
import { ask, type Outgoing } from "./oauth-http.ts";
import { MAX_DESCRIPTION, MAX_ERROR_CODE } from "./oauth-limits.ts";
import { configureSignIn } from "./signin-client.ts";
import { createPrompts } from "./signin-prompt.ts";
import { discoverProvider } from "./signin-provider.ts";

/** What is known of an issuer: its metadata and, once a token was checked, its keys. Replaced whole, for minutes. */
type Known = { metadata: ServerMetadata; keys: ReturnType<typeof getJwksCache> };

/**
 * OpenID Connect sign-in by openid-client over egress. Metadata and keys of an issuer are remembered for minutes; a key
 * that is missing among them is looked for again, by the library, once a minute at most.
 */
export function createSignIn({
  egress,
  clientInfo,
  urlFault,
  clock,
}: {
  egress: Egress;
  clientInfo: { name: string; version: string };
  urlFault: UrlFault;
  clock: Pick<Clock, "now">;
}): SignIn {
  const userAgent = `${clientInfo.name}/${clientInfo.version}`;
  const issuers = createCache<Known>({ max: MAX_ISSUERS, now: clock.now });
  const prompts = createPrompts(clock.now);
  const outgoing = (signal: AbortSignal) => ({ egress, userAgent, signal });

  async function known(out: Outgoing, issuer: string): Promise<Known> {
    const held = issuers.get(issuer);
    if (held) return held;
    const found = { metadata: await discoverProvider(out, { issuer, urlFault }), keys: undefined };
    issuers.set(issuer, found, { ttlMs: ISSUER_TTL_MS });
    return found;
  }

  return {
    authorizationUrl: (request, signal) =>
      outcomeOf(signal, async () => {
        const { metadata } = await known(outgoing(signal), request.issuer);
        // Rules may have changed since it was remembered, and a browser is about to go there.
        const why = urlFault(metadata.authorization_endpoint ?? "");
        if (why !== null) throw broken(`The sign-in page of ${request.issuer} is refused: ${why}`);
        const config = configureSignIn(metadata, request);
        return authorizationUrl(config, { ...request, params: prompts.paramsFor(metadata) });
      }),
    claims: async (request, signal) => {
      const outcome = await outcomeOf(signal, async () => {
        const out = outgoing(signal);
        const issuer = await known(out, request.issuer);
        const config = configureSignIn(issuer.metadata, request);
        enableNonRepudiationChecks(config);
        if (issuer.keys) setJwksCache(config, issuer.keys);
        const claims = await verifiedClaims(out, config, request);
        issuer.keys = getJwksCache(config);
        return claims;
      });
      // What an exchange is answered with is about something else.
      if (!outcome.ok && request.callback.has("error")) prompts.heard(request.issuer, outcome.failure);
      return outcome;
    },
  };
}

type Asked = Parameters<SignIn["authorizationUrl"]>[0] & { params: Record<string, string> };

async function authorizationUrl(config: Configuration, request: Asked): Promise<string> {
  const url = buildAuthorizationUrl(config, {
    response_type: "code",
    redirect_uri: redirectOf(request).href,
    scope: "openid email",
    state: request.state,
    nonce: request.nonce,
    code_challenge: await calculatePKCECodeChallenge(request.verifier),
    code_challenge_method: "S256",
    ...request.params,
  });
  return url.href;
}

/** The library checks `iss`, then `state`, then `error`, exchanges the code and verifies the token and its signature. */
async function verifiedClaims(
  out: Outgoing,
  config: Configuration,
  request: Parameters<SignIn["claims"]>[0],
): Promise<JsonObject> {
  const { callback, state, nonce, verifier, clientSecret } = request;
  const secrets = [callback.get("code") ?? "", verifier, clientSecret ?? ""];
  const faults: unknown[] = [];
  config[customFetch] = async (url, { method, headers, body }) => {
    try {
      const text = body instanceof URLSearchParams ? { body: body.toString() } : {};
      const answer = await ask(out, url, { method, headers, ...text });
      const host = new URL(url).host;
      if (method === "POST") return Response.json(readJsonAnswer(answer, { host, secrets }));
      if (answer.status !== 200) throw transient(`${host} did not give its keys.`, "unknown");
      return new Response(answer.text, { headers: { "content-type": "application/json" } });
    } catch (error) {
      faults.push(error);
      throw error;
    }
  };
  const back = redirectOf(request);
  back.search = callback.toString();
  try {
    const checks = { expectedState: state, expectedNonce: nonce, pkceCodeVerifier: verifier };
    const claims: unknown = (await authorizationCodeGrant(config, back, checks)).claims();
    if (!isJsonObject(claims)) throw new Error("the library accepted an answer without an ID token");
    return claims;
  } catch (error) {
    // A fault of ours comes out as it went in, not as the library wraps it.
    if (faults.length > 0) throw faults[0];
    if (error instanceof AuthorizationResponseError) throw refusedBy(error, secrets);
    throw error;
  }
}

function refusedBy({ error, error_description: why }: AuthorizationResponseError, secrets: string[]) {
  return new OAuthFault({
    kind: "refused",
    error: told(error, secrets, MAX_ERROR_CODE),
    description: why === undefined ? null : told(why, secrets, MAX_DESCRIPTION),
  });
}

/** As the library will write it in the exchange, where it must be the same text. */
function redirectOf({ redirectUri }: Pick<SignInClient, "redirectUri">): URL {
  const url = URL.parse(redirectUri);
  if (!url) throw broken("The redirect URI is not a URL.");
  return url;
}

const MAX_ISSUERS = 100;
const ISSUER_TTL_MS = 5 * 60_000;
