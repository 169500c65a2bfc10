import type { OAuthOverrides } from "./connection.ts";
import type { AuthServer } from "./oauth.ts";

/** C21 to C23 (MCP, "Authorization Code Protection"): a server that does not say that it knows S256 is not used, unless an admin answers for it. */
export function pkceFault(server: AuthServer, overrides: Pick<OAuthOverrides, "pkce">): string | null {
  if (!server.described || overrides.pkce === "assume-S256") return null;
  if (server.pkceMethods?.includes("S256")) return null;
  return (
    `the authorization server ${server.issuer} does not say that it supports PKCE with S256 ` +
    `(code_challenge_methods_supported); if it does, set pkce: "assume-S256" and overrideReason on the connection`
  );
}
