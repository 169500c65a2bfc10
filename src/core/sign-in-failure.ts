import { auditEntry } from "./context.ts";
import type { OAuthFailure } from "./oauth.ts";
import type { World } from "./ports.ts";
import type { SignInSettings } from "./project.ts";
import type { SignInSubject } from "./sign-in.ts";

/** How a sign-in failed, as a code for those who help and in words for the person: both ours, nothing is a server's text. */
export type SignInFailure = { code: string; message: string };

/** Says it to log and audit, and gives what the page says. `requestId` null: it had not begun. */
export async function failSignIn(
  world: World,
  failure: OAuthFailure,
  about: { subject: SignInSubject; signIn: SignInSettings; requestId: string | null },
): Promise<SignInFailure> {
  const { subject, signIn, requestId } = about;
  const failed = failureOf(failure);
  const detail = { error: failed.code, issuer: new URL(signIn.issuer).host };
  world.log("warn", "sign_in_failed", { project: subject.project, ...detail, requestId });
  // Nobody is proven to have been there.
  const nobody = {
    caller: { principal: null },
    user: null,
    requestId: "",
    project: { name: subject.project },
  };
  const consent = subject.kind === "consent" ? { consent: subject.id } : {};
  const facts = { outcome: "failed" as const, requestId, detail: { ...detail, ...consent } };
  await world.audit.record(auditEntry(world, nobody, "sign_in_failed", facts));
  return failed;
}

function failureOf(failure: OAuthFailure): SignInFailure {
  switch (failure.kind) {
    case "refused": {
      const code = CODES.has(failure.error) ? failure.error : "authorization_error";
      return { code, message: MESSAGES[code] ?? "The sign-in service did not accept the request." };
    }
    case "transient":
      return {
        code: "transient",
        message: "The sign-in service cannot be reached right now, or it is in trouble.",
      };
    case "invalid":
      return { code: "answer_invalid", message: "The answer of the sign-in service could not be trusted." };
  }
}

/** An administrator was faster. */
export const SIGN_IN_CHANGED: SignInFailure = {
  code: "sign_in_changed",
  message: "The sign-in was changed by an administrator meanwhile.",
};

/**
 * Codes of RFC 6749 (4.1.2.1 and 5.2) and OpenID Connect Core (3.1.2.6): the only words of an issuer that go anywhere.
 */
const CODES = new Set([
  "invalid_request",
  "unauthorized_client",
  "access_denied",
  "unsupported_response_type",
  "invalid_scope",
  "server_error",
  "temporarily_unavailable",
  "invalid_client",
  "invalid_grant",
  "unsupported_grant_type",
  "interaction_required",
  "login_required",
  "account_selection_required",
  "consent_required",
  "invalid_request_uri",
  "invalid_request_object",
  "request_not_supported",
  "request_uri_not_supported",
  "registration_not_supported",
]);

const IN_TROUBLE = "The sign-in service is in trouble right now.";
const UNANSWERED =
  "The sign-in service wanted you to enter or to choose something, and that did not come about.";
const MISSET = "The sign-in service did not accept the request as it is set up here.";

const MESSAGES: Record<string, string> = {
  access_denied: "You cancelled the sign-in, or it was not allowed.",
  server_error: IN_TROUBLE,
  temporarily_unavailable: IN_TROUBLE,
  interaction_required: UNANSWERED,
  login_required: UNANSWERED,
  account_selection_required: UNANSWERED,
  consent_required: UNANSWERED,
  invalid_client: MISSET,
  unauthorized_client: MISSET,
  invalid_scope: MISSET,
};
