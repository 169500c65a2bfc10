import {
  allowInsecureRequests,
  ClientSecretPost,
  Configuration,
  None,
  type ServerMetadata,
} from "openid-client";
import type { SignInClient } from "../core/oauth.ts";
import { basicAuth } from "./oauth-client-auth.ts";

/** The library's view of an OpenID provider and of a project's client at it. */
export function configureSignIn(
  metadata: ServerMetadata,
  { clientId, clientSecret }: Pick<SignInClient, "clientId" | "clientSecret">,
): Configuration {
  const config = new Configuration(metadata, clientId, {}, proofOf(metadata, clientSecret));
  // Egress decides about plain http, and how long a request may take.
  allowInsecureRequests(config);
  config.timeout = 0;
  return config;
}

/** OpenID Connect discovery, 3: without a word about it, it is basic authentication. */
function proofOf({ token_endpoint_auth_methods_supported: methods }: ServerMetadata, secret: string | null) {
  if (secret === null) return None();
  const post = methods?.includes("client_secret_post") === true && !methods.includes("client_secret_basic");
  return post ? ClientSecretPost(secret) : basicAuth(secret);
}
