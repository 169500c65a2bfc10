import type { ConnectionAuth } from "./connection.ts";
import type { Finding } from "./diagnosis-failures.ts";
import type { Grant } from "./grants.ts";
import type { UserId } from "./ids.ts";

/** Who asks, and what is stored of their account at the connection. Null: nobody is named; there is none. */
export type GrantSeen = { user: UserId | null; grant: Pick<Grant, "status" | "reason"> | null };

/**
 * Whether a call would ask a person for consent, for an admin who waits for the question in vain, or is asked again and again. Null:
 * the diagnosis itself says so.
 */
export function consentNote(auth: ConnectionAuth, { user, grant }: GrantSeen): string | null {
  if (auth.kind !== "oauth") return `Nobody is asked for consent: ${unaskedWhy(auth)}.`;
  if (user === null) return NO_USER_NAMED;
  switch (grant?.status) {
    case undefined:
      return null;
    case "active":
      return `Nobody is asked for consent: ${user} has connected an account, and calls are made with it.`;
    case "needs_consent":
    case "revoked":
      return `The next call asks ${user} for consent again: ${endedWhy(grant)}.`;
  }
}

/** The account of the user ended while it was looked at, or had just ended. */
export function explainEnded(user: UserId, grant: Pick<Grant, "status" | "reason">): Finding {
  return {
    cause: "authorization",
    message: `The account of ${user} can be used no longer: ${endedWhy(grant)}.`,
    hints: [...endedHints(grant), `The next call asks ${user} for consent again.`],
  };
}

type UnaskedAuth = Exclude<ConnectionAuth, { kind: "oauth" }>;

function unaskedWhy(auth: UnaskedAuth): string {
  switch (auth.kind) {
    case "none":
      return "authType None sends no credentials. For each person's own account use OAuth2";
    case "key":
      return "authType CustomKeys sends one key for all users. For each person's own account use OAuth2";
    case "identity":
      return `calls are made as the ${auth.of === "project" ? "project's" : "agent's"} identity, whoever the user is`;
    case "user_token":
      return "the person's own token is exchanged, and what that takes is granted at its issuer";
    case "client_credentials":
      return "one client calls for all users";
  }
}

/** The reasons that a grant is stored with (`refresh-state.ts`, `refresh-attempt.ts`); of others only the word is known. */
function endedWhy({ status, reason }: Pick<Grant, "status" | "reason">): string {
  if (status === "revoked") return "it was disconnected";
  switch (reason) {
    case "invalid_grant":
      return "the authorization server takes its refresh token no longer (invalid_grant)";
    case "token_expired":
      return "its token has ended, and there is no refresh token (token_expired)";
    case "token_rejected":
      return "the server turned its token down, and there is no refresh token (token_rejected)";
    case "client_changed":
      return "the connection has another client since (client_changed)";
    case "issuer_changed":
      return "the connection has another authorization server since (issuer_changed)";
    case "resource_changed":
      return "the connection's tokens are for another resource since (resource_changed)";
    default:
      return `its grant has ended (${reason ?? status})`;
  }
}

function endedHints({ reason }: Pick<Grant, "reason">): string[] {
  switch (reason) {
    case "invalid_grant":
      return [
        "Refresh tokens end when they are not used for long, when the person's password changes, and when the person or an administrator takes them back.",
      ];
    case "token_expired":
    case "token_rejected":
      return [
        "Ask for a refresh token: many authorization servers give one for the scope offline_access only.",
      ];
    default:
      return [];
  }
}

const NO_USER_NAMED =
  "This request names no user, so nothing is known of anybody's account. A call that names none is refused (400) and asks " +
  "nobody: send x-ms-user-identity, with the right act_for_users, or call with the person's own token.";
