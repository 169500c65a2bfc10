import type { Json, JsonObject } from "../core/json.ts";
import type { AuthServer } from "../core/oauth.ts";
import { fetchDocument, insertedWellKnown, pathOf, type UrlFault, withPath } from "./discovery.ts";
import { textsOf } from "./oauth-answer.ts";
import { broken, OAuthFault } from "./oauth-failures.ts";
import type { Outgoing } from "./oauth-http.ts";

/**
 * An authorization server's metadata: RFC 8414, then OIDC discovery (MCP 2026-07-28, Authorization Server Metadata
 * Discovery). A document that names another issuer ends the search: it is not about this server (RFC 8414, 3.3).
 */
export async function discoverServer(
  out: Outgoing,
  { issuer, urlFault }: { issuer: string; urlFault: UrlFault },
): Promise<AuthServer> {
  const url = URL.parse(issuer);
  if (!url || url.search !== "" || url.hash !== "") {
    throw broken("An issuer is a URL without query and fragment (RFC 8414, 2).");
  }
  for (const place of serverUrls(url)) {
    const document = await fetchDocument(out, place, isAbsent);
    if (document) return readServer(document, { issuer, host: url.host, urlFault });
  }
  throw broken(`${url.host} has no authorization server metadata.`);
}

/** In the order of the MCP specification; without a path the last one is the one before. */
export function serverUrls(issuer: URL): URL[] {
  const inserted = [insertedWellKnown(issuer, OAUTH), insertedWellKnown(issuer, OIDC)];
  const path = pathOf(issuer);
  return path === "" ? inserted : [...inserted, withPath(issuer, `${path}/.well-known/${OIDC}`)];
}

function readServer(
  document: JsonObject,
  about: { issuer: string; host: string; urlFault: UrlFault },
): AuthServer {
  const { issuer, host } = about;
  // Byte for byte: normalizing is how one server passes for another (RFC 9207, 2.4).
  if (document["issuer"] !== issuer) {
    throw otherIssuer(host, document["issuer"]);
  }
  const endpoint = (name: string) => endpointOf(document[name], { ...about, name });
  const tokenEndpoint = required(endpoint("token_endpoint"), host, "token_endpoint");
  return {
    issuer,
    issuerAssumed: false,
    described: true,
    authorizationEndpoint: required(endpoint("authorization_endpoint"), host, "authorization_endpoint"),
    tokenEndpoint,
    refreshEndpoint: tokenEndpoint,
    revocationEndpoint: endpoint("revocation_endpoint"),
    registrationEndpoint: endpoint("registration_endpoint"),
    sendsIss: document["authorization_response_iss_parameter_supported"] === true,
    pkceMethods: textsOf(document["code_challenge_methods_supported"]),
    clientAuthMethods: textsOf(document["token_endpoint_auth_methods_supported"]),
    takesMetadataDocument: document["client_id_metadata_document_supported"] === true,
    scopesSupported: textsOf(document["scopes_supported"]),
  };
}

/** A server's own word is repeated only if it is a URL of ordinary length and letters. */
function otherIssuer(host: string, named: Json | undefined): OAuthFault {
  const message = `The metadata of ${host} is about another issuer (RFC 8414, 3.3).`;
  const isPlain = typeof named === "string" && /^https?:\/\/[\x21-\x7e]{1,200}$/.test(named);
  return new OAuthFault({ kind: "invalid", message, ...(isPlain && { namedIssuer: named }) });
}

/** An https URL without a fragment (RFC 6749, 3.1 and 3.2), which egress would call. Null: there is none. */
function endpointOf(
  value: Json | undefined,
  { name, host, urlFault }: { name: string; host: string; urlFault: UrlFault },
): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value !== "string" || URL.parse(value)?.hash !== "") {
    throw broken(`The ${name} of ${host} is not a URL without a fragment.`);
  }
  const fault = urlFault(value);
  if (fault !== null) throw broken(`The ${name} of ${host} is refused: ${fault}`);
  return value;
}

function required(value: string | null, host: string, name: string): string {
  if (value === null) throw broken(`The metadata of ${host} has no ${name}.`);
  return value;
}

// Some servers answer 400, 401 or 403 for a well-known URI that they do not have; the issuer is checked in the end.
const isAbsent = (status: number) => status >= 400 && status < 500 && status !== 408 && status !== 429;

const OAUTH = "oauth-authorization-server";
const OIDC = "openid-configuration";
