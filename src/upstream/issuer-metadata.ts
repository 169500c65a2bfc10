import { fetchDocument, insertedWellKnown, pathOf, type UrlFault, withPath } from "./discovery.ts";
import { broken } from "./oauth-failures.ts";
import type { Outgoing } from "./oauth-http.ts";

/**
 * Where an issuer's keys are, by its metadata: where OpenID Connect Discovery puts them, then RFC 8414. A document that names
 * another issuer, byte for byte, ends the search: it is not about this one.
 */
export async function keysUrlOf(
  out: Outgoing,
  { issuer, urlFault }: { issuer: string; urlFault: UrlFault },
): Promise<string> {
  const url = URL.parse(issuer);
  if (!url || url.search !== "" || url.hash !== "") {
    throw broken("An issuer is a URL without query and fragment (RFC 8414, 2).");
  }
  for (const place of placesOf(url)) {
    const document = await fetchDocument(out, place, isAbsent);
    if (!document) continue;
    if (document["issuer"] !== issuer)
      throw broken(`The metadata of ${url.host} is about another issuer (RFC 8414, 3.3).`);
    const { jwks_uri: keys } = document;
    if (typeof keys !== "string" || URL.parse(keys)?.hash !== "")
      throw broken(`The metadata of ${url.host} has no jwks_uri that is a URL without a fragment.`);
    const fault = urlFault(keys);
    if (fault !== null) throw broken(`The jwks_uri of ${url.host} is refused: ${fault}`);
    return keys;
  }
  throw broken(`${url.host} has no metadata.`);
}

function placesOf(issuer: URL): URL[] {
  const oidc = withPath(issuer, `${pathOf(issuer)}/.well-known/openid-configuration`);
  return [oidc, insertedWellKnown(issuer, "oauth-authorization-server")];
}

// Some servers answer 400, 401 or 403 for a well-known URI that they do not have; the issuer is checked in the end.
const isAbsent = (status: number) => status >= 400 && status < 500 && status !== 408 && status !== 429;
