import type { Connection, OAuthAuth } from "./connection.ts";

/** The settings of an OAuth connection. Throws for others: nobody asks for them. */
export function oauthOf({ auth, name }: Connection): OAuthAuth {
  if (auth.kind === "oauth") return auth;
  throw new Error(`the connection ${name} is not one of OAuth`);
}
