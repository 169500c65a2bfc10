import * as z from "zod";
import type { WorkloadIssuer } from "../../core/workload.ts";

/**
 * OpenID Connect Discovery 1.0, 3, without the endpoints that an issuer without people has not. The clouds' federations ask
 * for issuer and keys, and some look whether the rest is there.
 */
export const issuerMetadataBody = z.object({
  issuer: z.string(),
  jwks_uri: z.string(),
  response_types_supported: z.array(z.string()),
  subject_types_supported: z.array(z.string()),
  id_token_signing_alg_values_supported: z.array(z.string()),
  scopes_supported: z.array(z.string()),
  claims_supported: z.array(z.string()),
});

export function writeIssuerMetadata({
  issuer,
  jwksUri,
  algorithms,
}: ReturnType<WorkloadIssuer["metadata"]>): z.infer<typeof issuerMetadataBody> {
  return {
    issuer,
    jwks_uri: jwksUri,
    response_types_supported: ["id_token"],
    subject_types_supported: ["public"],
    id_token_signing_alg_values_supported: [...algorithms],
    scopes_supported: ["openid"],
    claims_supported: CLAIMS,
  };
}

const CLAIMS = [
  "iss",
  "sub",
  "aud",
  "exp",
  "iat",
  "nbf",
  "jti",
  "oid",
  "azp",
  "client_id",
  "idtyp",
  "token_use",
  "project",
  "agent",
];

export const jwksBody = z.object({
  keys: z.array(
    z.object({
      kty: z.literal("RSA"),
      n: z.string(),
      e: z.string(),
      kid: z.string(),
      alg: z.literal("RS256"),
      use: z.literal("sig"),
    }),
  ),
});
