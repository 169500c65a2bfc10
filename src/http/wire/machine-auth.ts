import { draftOf } from "../../core/connection-machine-rules.ts";
import type { ClientCredentialsAuth, ConnectionAuth, UserTokenAuth } from "../../core/connection.ts";

/** What an answer says of kinds whose tokens somebody issues without asking a person, which is everything but secrets. */
export function writeMachine(auth: ConnectionAuth) {
  switch (auth.kind) {
    case "identity":
      return { audience: auth.audience };
    case "user_token":
      return {
        audience: auth.audience,
        scopes: auth.scopes,
        exchange: auth.idJag && ("id-jag" as const),
        ...writeResource(auth),
        ...(auth.idJag && writeClient(auth)),
      };
    case "client_credentials":
      return {
        grantType: "client_credentials" as const,
        audience: draftOf(auth).audience ?? null,
        tokenParams: draftOf(auth).tokenParams ?? {},
        scopes: auth.scopes,
        ...writeResource(auth),
        ...writeClient(auth),
      };
    case "none":
    case "key":
    case "oauth":
      return {};
  }
}

function writeResource({ resource, overrideReason }: UserTokenAuth | ClientCredentialsAuth) {
  return { resource: typeof resource === "object" ? resource.value : resource, overrideReason };
}

function writeClient(auth: UserTokenAuth | ClientCredentialsAuth) {
  const { clientId = null, clientAuth = null, tokenUrl = null, issuer = null } = draftOf(auth);
  return { clientId, clientAuth, tokenUrl, issuer };
}
