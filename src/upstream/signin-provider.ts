import type { ServerMetadata } from "openid-client";
import type { JsonObject } from "../core/json.ts";
import { fetchDocument, pathOf, type UrlFault, withPath } from "./discovery.ts";
import { textsOf } from "./oauth-answer.ts";
import { broken } from "./oauth-failures.ts";
import type { Outgoing } from "./oauth-http.ts";

/**
 * An OpenID provider's metadata at its one place (OpenID Connect Discovery, 4). `issuer` must be the same text, byte for
 * byte: what a token says is compared with it, and normalizing is how one issuer passes for another.
 */
export async function discoverProvider(
  out: Outgoing,
  { issuer, urlFault }: { issuer: string; urlFault: UrlFault },
): Promise<ServerMetadata> {
  const url = URL.parse(issuer);
  if (!url || url.search !== "" || url.hash !== "") {
    throw broken("An issuer is a URL without query and fragment (OpenID Connect Discovery, 3).");
  }
  const place = withPath(url, `${pathOf(url)}/.well-known/openid-configuration`);
  const document = await fetchDocument(out, place, (status) => status === 404);
  if (!document) throw broken(`${url.host} has no OpenID Connect metadata at ${place.pathname}.`);
  checkIssuer(document, issuer);
  const endpoint = (name: string) => endpointOf(document, { name, host: url.host, urlFault });
  const algorithms = textsOf(document["id_token_signing_alg_values_supported"]);
  const methods = textsOf(document["token_endpoint_auth_methods_supported"]);
  const prompts = textsOf(document["prompt_values_supported"]);
  return {
    issuer,
    authorization_endpoint: endpoint("authorization_endpoint"),
    token_endpoint: endpoint("token_endpoint"),
    jwks_uri: endpoint("jwks_uri"),
    authorization_response_iss_parameter_supported:
      document["authorization_response_iss_parameter_supported"] === true,
    ...(algorithms && { id_token_signing_alg_values_supported: algorithms }),
    ...(methods && { token_endpoint_auth_methods_supported: methods }),
    ...(prompts && { prompt_values_supported: prompts }),
  };
}

function checkIssuer({ issuer: named }: JsonObject, issuer: string): void {
  if (named === issuer) return;
  // Entra's `common` and `organizations`: tokens of any tenant, whose issuer is another one each time.
  if (typeof named === "string" && /\{[a-z]+\}/i.test(named)) {
    throw broken(
      `The issuer ${issuer} stands for many tenants, so that no token's issuer can be checked; name the one of your tenant.`,
    );
  }
  throw broken(`The metadata of ${issuer} is about another issuer (OpenID Connect Discovery, 4.3).`);
}

function endpointOf(
  document: JsonObject,
  { name, host, urlFault }: { name: string; host: string; urlFault: UrlFault },
): string {
  const value = document[name];
  if (typeof value !== "string" || URL.parse(value)?.hash !== "") {
    throw broken(`The metadata of ${host} has no ${name} that is a URL without a fragment.`);
  }
  const fault = urlFault(value);
  if (fault !== null) throw broken(`The ${name} of ${host} is refused: ${fault}`);
  return value;
}
