import {
  allowInsecureRequests,
  type ClientAuth,
  ClientSecretPost,
  Configuration,
  modifyAssertion,
  None,
  PrivateKeyJwt,
} from "openid-client";
import type { JsonObject } from "../core/json.ts";
import type { AuthServer, OAuthClient } from "../core/oauth.ts";
import { broken } from "./oauth-failures.ts";

/** The library's view of a server and of our client at it. Throws `OAuthFault` when the client cannot prove itself. */
export async function configurationOf(
  server: AuthServer,
  client: OAuthClient,
  tokenEndpoint: string = server.tokenEndpoint,
): Promise<Configuration> {
  if (client.clientId === "") throw broken("The client has no client id.");
  const metadata = {
    issuer: server.issuer,
    authorization_endpoint: server.authorizationEndpoint,
    token_endpoint: tokenEndpoint,
    ...(server.revocationEndpoint !== null && { revocation_endpoint: server.revocationEndpoint }),
  };
  const config = new Configuration(
    metadata,
    client.clientId,
    {},
    await proofOf(server, client, tokenEndpoint),
  );
  // Egress decides about plain http, and how long a request may take.
  allowInsecureRequests(config);
  config.timeout = 0;
  return config;
}

async function proofOf(
  { issuer, issuerAssumed }: AuthServer,
  client: OAuthClient,
  tokenEndpoint: string,
): Promise<ClientAuth> {
  switch (client.auth) {
    case "none":
      return None();
    case "basic":
      return basicAuth(secretOf(client));
    case "post":
      return ClientSecretPost(secretOf(client));
    case "private_key_jwt":
      // RFC 7523, 3: the audience is the issuer; where nobody has said its name, the endpoint stands for it.
      return PrivateKeyJwt(await keyOf(client.privateKey), {
        [modifyAssertion]: (_header, payload) => {
          payload["aud"] = issuerAssumed ? tokenEndpoint : issuer;
        },
      });
  }
}

/**
 * RFC 6749, 2.3.1, written as browsers write forms. The library escapes `-`, `_` and `.` as well, which is allowed, but many
 * servers decode nothing, and ids and secrets are full of these.
 */
export function basicAuth(secret: string): ClientAuth {
  return (_server, { client_id: id }, _body, headers) => {
    headers.set("authorization", `Basic ${btoa(`${formEncoded(id)}:${formEncoded(secret)}`)}`);
  };
}

const formEncoded = (text: string) => new URLSearchParams([["", text]]).toString().slice(1);

function secretOf({ clientSecret }: OAuthClient): string {
  if (clientSecret === null || clientSecret === "") throw broken("The client has no client secret.");
  return clientSecret;
}

/** A private JWK (RFC 7517) to sign with. The algorithm is the key's `alg`, else its type's most common one. */
async function keyOf(jwk: JsonObject | null): Promise<{ key: CryptoKey; kid?: string }> {
  const algorithm = jwk && algorithmOf(jwk);
  if (!jwk || !algorithm) throw broken("The client has no private key of a kind that can be used.");
  const { kid } = jwk;
  // What it says of its use elsewhere does not bind this import.
  const { key_ops: _, use: __, alg: ___, ...bare } = jwk;
  try {
    const key = await crypto.subtle.importKey("jwk", bare, algorithm, false, ["sign"]);
    return typeof kid === "string" ? { key, kid } : { key };
  } catch {
    // The original may quote the key.
    throw broken("The client's private key cannot be read.");
  }
}

function algorithmOf({ kty, crv, alg }: JsonObject): RsaHashedImportParams | EcKeyImportParams | null {
  if (kty === "RSA" && (alg === undefined || typeof alg === "string")) {
    return RSA_ALGORITHMS.get(alg ?? "RS256") ?? null;
  }
  if (kty === "EC" && typeof crv === "string") return { name: "ECDSA", namedCurve: crv };
  return null;
}

const RSA_ALGORITHMS = new Map([
  ["RS256", { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" }],
  ["RS384", { name: "RSASSA-PKCS1-v1_5", hash: "SHA-384" }],
  ["RS512", { name: "RSASSA-PKCS1-v1_5", hash: "SHA-512" }],
  ["PS256", { name: "RSA-PSS", hash: "SHA-256" }],
  ["PS384", { name: "RSA-PSS", hash: "SHA-384" }],
  ["PS512", { name: "RSA-PSS", hash: "SHA-512" }],
]);
