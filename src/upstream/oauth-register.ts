import type { AuthServer, ClientAuth, OAuthClient } from "../core/oauth.ts";
import type { Json } from "../core/json.ts";
import { readJsonAnswer } from "./oauth-answer.ts";
import { broken } from "./oauth-failures.ts";
import { ask, type Outgoing } from "./oauth-http.ts";

/**
 * Registers a client (RFC 7591). Written here because the library would discover the server once more, in its own order.
 * A refusal keeps the server's code. `secretExpiresAt`: milliseconds since the epoch; null: never.
 */
export async function registerClient(
  out: Outgoing,
  server: AuthServer,
  { name, redirectUri, scopes }: { name: string; redirectUri: string; scopes: string[] | null },
): Promise<{ client: OAuthClient; secretExpiresAt: number | null }> {
  const endpoint = server.registrationEndpoint;
  if (endpoint === null) throw broken("The authorization server takes no registrations.");
  const redirect = URL.parse(redirectUri);
  if (!redirect) throw broken("The redirect URI is not a URL.");
  const wanted = METHODS.find(({ method }) => (server.clientAuthMethods ?? DEFAULT_METHODS).includes(method));
  if (!wanted)
    throw broken("The authorization server offers no way of client authentication that can be registered.");
  const metadata = {
    client_name: name,
    redirect_uris: [redirectUri],
    application_type: isNative(redirect) ? "native" : "web",
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: wanted.method,
    ...(scopes !== null && scopes.length > 0 && { scope: scopes.join(" ") }),
  };
  const answer = await ask(out, endpoint, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json" },
    body: JSON.stringify(metadata),
  });
  const host = new URL(endpoint).host;
  const body = readJsonAnswer(answer, { host, secrets: [] });
  // RFC 7591, 3.2.1: the server may have registered something else than was asked for.
  const {
    client_id: clientId,
    client_secret: secret,
    token_endpoint_auth_method: method = wanted.method,
  } = body;
  if (typeof clientId !== "string" || clientId === "")
    throw broken(`${host} registered a client without an id.`);
  const auth = METHODS.find((known) => known.method === method)?.auth;
  if (!auth) throw broken(`${host} registered a way of client authentication that was not asked for.`);
  const client = { clientId, clientSecret: null, privateKey: null, auth };
  if (auth === "none") return { client, secretExpiresAt: null };
  if (typeof secret !== "string" || secret === "")
    throw broken(`${host} registered a client without its secret.`);
  const secretExpiresAt = endOf(body["client_secret_expires_at"]);
  return { client: { ...client, clientSecret: secret }, secretExpiresAt };
}

/**
 * SEP-837: what the redirect leads to, a person's own machine or a site. OpenID Connect registration, 2: a native client
 * has http there; https is a site's, wherever it is.
 */
function isNative({ protocol, hostname }: URL): boolean {
  return protocol === "http:" && LOOPBACK.has(hostname);
}

/** RFC 7591, 3.2.1: seconds since the epoch, 0 for never. */
function endOf(seconds: Json | undefined): number | null {
  const end = typeof seconds === "string" && seconds.trim() !== "" ? Number(seconds) : seconds;
  if (typeof end !== "number" || !(end > 0) || end > MAX_END_SECONDS) return null;
  return Math.floor(end * 1000);
}

/** In order of preference. */
const METHODS: { method: string; auth: ClientAuth }[] = [
  { method: "client_secret_basic", auth: "basic" },
  { method: "client_secret_post", auth: "post" },
  { method: "none", auth: "none" },
];
/** RFC 8414, 2: what holds where the metadata does not say. */
const DEFAULT_METHODS = ["client_secret_basic"];
/** The year 9999; what is later has no end. */
const MAX_END_SECONDS = 253_402_300_799;
const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]"]);
