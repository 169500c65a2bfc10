import { publicRoute, type Route } from "./route.ts";
import type { Deps } from "./routes.ts";
import { issuerMetadataBody, jwksBody, writeIssuerMetadata } from "./wire/issuer.ts";

/**
 * What a server needs to check our tokens, or a cloud to federate with us: OpenID Connect Discovery 1.0. There is no
 * metadata of RFC 8414 beside it: nobody gets a token here by asking, and clients that look for an authorization server must
 * not take us for one.
 *
 * Not counted by address: clouds ask from few of them, and who cannot read the keys lets nobody in.
 */
export function issuerRoutes({ world }: Deps): Route[] {
  return [
    publicRoute({
      method: "GET",
      path: "/.well-known/openid-configuration",
      tag: "issuer",
      summary: "What the broker says of itself as an issuer",
      answers: { 200: { description: "The metadata", body: issuerMetadataBody } },
      handle: () => Response.json(writeIssuerMetadata(world.workload.metadata()), { headers: CACHED }),
    }),
    publicRoute({
      method: "GET",
      path: "/.well-known/jwks.json",
      tag: "issuer",
      summary: "The public keys of its tokens (RFC 7517)",
      answers: {
        200: { description: "The keys", body: jwksBody },
        503: { description: "They cannot be read now" },
      },
      handle: async () => Response.json({ keys: await world.workload.jwks() }, { headers: CACHED }),
    }),
  ];
}

const CACHED = { "cache-control": "public, max-age=300" };
