import type { Connection, ConnectionAuth } from "./connection.ts";
import type { Finding } from "./diagnosis-failures.ts";
import type { Principal } from "./machine-identity.ts";

/**
 * Why a server turned down a token that somebody had issued (401), or the one it was issued to (403). Null: another status,
 * or the connection's credentials are nobody's tokens.
 */
export function explainDenial({ auth }: Connection, status: number, host: string): Finding | null {
  if (auth.kind === "none" || auth.kind === "key") return null;
  if (status === 401) {
    const message = `${host} does not accept the token (401), although its issuer gave it for ${wantedOf(auth)}.`;
    return { cause: "token_rejected", message, hints: rejectedHints(auth) };
  }
  if (status !== 403) return null;
  if (auth.kind === "oauth" || auth.kind === "user_token") {
    const message = `${host} knows the person and does not allow it (403).`;
    return { cause: "forbidden", message, hints: [PERSONS_ACCESS, SCOPES] };
  }
  const message = `${host} knows ${presenterOf(auth)} and does not allow it (403).`;
  return { cause: "role_missing", message, hints: roleHints(auth) };
}

type TokenAuth = Exclude<ConnectionAuth, { kind: "none" | "key" }>;
type OwnAuth = Exclude<TokenAuth, { kind: "oauth" | "user_token" }>;

/** What the token was asked for. */
function wantedOf(auth: TokenAuth): string {
  switch (auth.kind) {
    case "oauth":
      return "this server";
    case "identity":
    case "user_token":
      return `the audience ${auth.audience}`;
    case "client_credentials":
      return `the client ${auth.client.clientId}`;
  }
}

function rejectedHints(auth: TokenAuth): string[] {
  switch (auth.kind) {
    case "oauth":
      return [
        "The token may be for another resource than the server expects: compare authorization.resource here with what the server checks as audience.",
        "The account, or the app's permission, may have been taken away at the authorization server: disconnect the account and connect it again.",
      ];
    case "identity":
      return [
        "The server may expect another audience: compare the connection's, byte for byte, with what the server checks (at Microsoft Entra the server's application id URI or client id).",
        "The server must trust the issuer of the token: see whoami for the issuer and subject that it is shown.",
      ];
    case "user_token":
      return [
        "The server may expect another audience: compare the connection's, byte for byte, with what the server checks (at Microsoft Entra the server's application id URI or client id).",
        "The server must trust the issuer that exchanges the token, and take tokens of that client.",
      ];
    case "client_credentials":
      return [
        "The server may want the token for another resource or audience: see resource, audience and scopes of the connection.",
      ];
  }
}

/**
 * Microsoft Entra makes tokens of the version that the server's own registration asks for (`requestedAccessTokenVersion`), which
 * differ in `iss` and `aud`. Null: the principal is not Entra's.
 */
export function tokenVersionHint({ issuer, tenant }: Principal): string | null {
  if (tenant === null) return null;
  const isSecond = issuer.endsWith("/v2.0");
  return (
    `The token is of version ${isSecond ? "2.0" : "1.0"} (iss ${issuer}), as requestedAccessTokenVersion of the server's registration asks for: ` +
    (isSecond
      ? "its aud is the registration's client id, which the server must take."
      : "a server that expects version 2.0 (iss …/v2.0, aud its client id) wants 2 there.")
  );
}

function presenterOf(auth: OwnAuth): string {
  if (auth.kind === "client_credentials") return `the client ${auth.client.clientId}`;
  return auth.of === "project" ? "the project's identity" : "the agent's identity";
}

function roleHints(auth: OwnAuth): string[] {
  if (auth.kind === "client_credentials")
    return ["Give this client the scopes or app roles that the server asks for."];
  return [
    "Give this identity what the server asks for, an app role or its name on the server's list: whoami shows its subject, client id and tenant.",
    "A token made before does not have a new role, and at Microsoft Entra an assignment can take some minutes.",
  ];
}

const PERSONS_ACCESS =
  "The person needs access in the service itself; a consent gives none that the person does not have.";
const SCOPES = "The scopes of the connection may be fewer than the server asks for.";
