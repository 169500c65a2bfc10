import { encodedClaims } from "../core/claims-challenge.ts";
import { BrokerError, type Fault, type Refusal, type Refusals } from "../core/errors.ts";

import type { Surface } from "./problem-answer.ts";

/** A refusal as the wire says it. Both clients' codes stand side by side; the surface picks. */
export type Problem = {
  status: number;
  message: string;
  /** The first field at fault, in the caller's spelling. */
  param?: string | null;
  /** OpenAI's `type` and `code`; by default what the status means there. */
  type?: string;
  code?: string | null;
  faults?: Fault[];
  headers?: Record<string, string>;
};

/**
 * What every refusal is on the wire. The one place that knows: a new refusal fails to compile until it is here.
 * Unknown and foreign read the same, and so do all reasons for not knowing a caller.
 */
const table: { [C in Refusal]: (details: Refusals[C], surface: Surface) => Problem } = {
  unauthenticated: () => ({
    status: 401,
    message:
      "The credentials are missing or not valid. " +
      'Send a valid key as "Authorization: Bearer csk_…" or "api-key: csk_…", or a token that the project takes as Bearer.',
    code: "invalid_api_key",
    headers: { "www-authenticate": "Bearer" },
  }),
  forbidden: ({ needs, why }) => ({
    status: 403,
    message: `The caller may not do this: it needs ${needs}.${why ? ` ${why}.` : ""}`,
  }),
  user_assertion_forbidden: () => ({
    status: 403,
    message: "The caller may not act for users: it needs right act_for_users.",
    code: "user_assertion_forbidden",
    param: "x-ms-user-identity",
  }),
  // The caller is known, so it is no 401, at which clients fetch themselves another credential.
  user_assertion_invalid: () => ({
    status: 400,
    message:
      "The token in x-ms-user-identity is not valid here: " +
      "it must be a person's own, of one of the project's issuers, whose `delegated` says which tokens are people's.",
    code: "user_assertion_invalid",
    param: "x-ms-user-identity",
  }),
  user_conflict: () => ({
    status: 400,
    message: "The credentials, the header x-ms-user-identity and the body name different users.",
    code: "user_conflict",
    param: "x-ms-user-identity",
  }),
  user_invalid: ({ param, why }) => ({ status: 400, message: `${param}: ${why}`, param }),
  user_blocked: () => ({ status: 403, message: "This user is blocked.", code: "user_blocked" }),
  // Azure's clients read the challenge, ask for another token with it and come again (foundry-wire 2.1).
  claims_required: ({ claims }) => ({
    status: 401,
    message: "The person must sign in again, with the claims that WWW-Authenticate asks for.",
    code: "claims_required",
    headers: {
      "www-authenticate": `Bearer error="insufficient_claims", claims="${encodedClaims(claims)}"`,
    },
  }),

  invalid: ({ faults }) => ({
    status: 400,
    message: faults.map(faultText).join("; "),
    param: faults[0]?.param || null,
    faults,
  }),
  too_large: ({ what, limit, unit }) => ({
    status: 413,
    message: `The ${what} is too large: the limit is ${limit} ${unit}.`,
  }),
  not_found: ({ what, name }) => ({
    status: 404,
    message: `There is no ${what} '${name}' here.`,
    code: `${what.replaceAll(" ", "_")}_not_found`,
  }),
  name_taken: ({ what, name }) => ({
    status: 409,
    message: `There is a ${what} '${name}' already.`,
    code: "name_taken",
  }),
  changed_meanwhile: ({ what, name }) => ({
    status: 409,
    message: `The ${what} '${name}' was changed by somebody else meanwhile: read it again.`,
    code: "changed_meanwhile",
  }),
  not_supported: ({ what, param }) => ({
    status: 400,
    message: `${what} is not supported by this version.`,
    code: "not_supported",
    param: param ?? null,
  }),

  previous_response_not_found: ({ id }) => ({
    status: 400,
    message: `There is no response '${id}' to go on from.`,
    code: "previous_response_not_found",
    param: "previous_response_id",
  }),
  response_not_found: ({ id }) => ({
    status: 404,
    message: `There is no response '${id}' here.`,
    code: "response_not_found",
  }),
  conversation_not_found: ({ id, param }) => ({
    status: param === null ? 404 : 400,
    message: `There is no conversation '${id}' here.`,
    code: "conversation_not_found",
    param,
  }),
  no_model: () => ({
    status: 400,
    message:
      "This needs a model, and no model upstream is configured (CONSENTRY_MODEL_BASE_URL, or the project's setting models).",
    code: "no_model",
    param: "model",
  }),

  idempotency: ({ reason }) => idempotencyProblem(reason),

  too_many_background: ({ ofProject, ofCaller }) => ({
    status: 429,
    message: `You have ${ofCaller} responses in the background that are not over, or your project has ${ofProject}: ask again when some are.`,
    code: "too_many_background",
    headers: { "retry-after": "5" },
  }),
  too_many_followers: ({ limit }) => ({
    status: 429,
    message: `You follow ${limit} responses in the background here already: leave one, or ask for the response without stream.`,
    code: "too_many_followers",
    headers: { "retry-after": "5" },
  }),
  still_running: ({ id }) => ({
    status: 409,
    message: `The response '${id}' is not over yet: ask again when it is.`,
    code: "still_running",
    headers: { "retry-after": "5" },
  }),
  revoked: ({ why }) => ({ status: 403, message: `This may not go on: ${why}.`, code: "revoked" }),

  // A decision that fails must not be repeated by itself: 400 rather than 409, which clients retry.
  approval_not_found: ({ id }, surface) => ({
    status: surface === "openai" ? 400 : 404,
    message: `There is no approval '${id}' here.`,
    code: "approval_not_found",
    param: surface === "openai" ? "input" : null,
  }),
  approval_expired: ({ id }) => ({
    status: 400,
    message: `The approval '${id}' has expired; nothing was run.`,
    code: "approval_expired",
    param: "input",
  }),
  approval_cancelled: ({ id }) => ({
    status: 400,
    message: `The approval '${id}' was cancelled; nothing was run.`,
    code: "approval_cancelled",
    param: "input",
  }),
  approval_contradicted: ({ id, recorded }) => ({
    status: 400,
    message: `The approval '${id}' was decided before: ${recorded}. That decision stands.`,
    code: "approval_contradicted",
    param: "input",
  }),
  approval_needs_role: ({ id }) => ({
    status: 403,
    message: `The approval '${id}' is for somebody else to decide: it needs role approver and another caller and person than the call's.`,
    code: "approval_needs_role",
  }),

  // One sentence, whatever the reason: it is read by those who are not meant.
  consent_refused: () => ({
    status: 403,
    message: "This consent cannot be confirmed.",
    code: "consent_refused",
  }),

  target_refused: ({ url, why }) => ({
    status: 400,
    message: `${url} may not be called: ${why}`,
    code: "target_refused",
  }),
  model_failed: ({ status, message, code }) => ({
    status: modelStatus(status),
    message: `The model upstream failed: ${message}`,
    code: code ?? "model_failed",
  }),
  unavailable: ({ what }) => ({ status: 503, message: `Not available right now: ${what}.` }),
};

/** The problem behind an error. Null: it is no refusal but a bug of ours. */
export function problemOf(error: unknown, surface: Surface): Problem | null {
  if (!(error instanceof BrokerError)) return null;
  return wordOf(error, surface);
}

function wordOf<C extends Refusal>(error: BrokerError<C>, surface: Surface): Problem {
  return table[error.code](error.details, surface);
}

/** What is not a refusal of the broker but of HTTP itself. */
export const httpProblems = {
  hostRefused: { status: 403, message: "This host name or origin is not served here." },
  noRoute: { status: 404, message: "There is nothing at this path." },
  wrongMethod: (allowed: string[]): Problem => ({
    status: 405,
    message: `This path takes ${allowed.join(", ")}.`,
    headers: { allow: allowed.join(", ") },
  }),
  tooMany: (retryAfterSeconds: number): Problem => ({
    status: 429,
    message: `Too many requests: try again in ${retryAfterSeconds} s.`,
    code: "rate_limit_exceeded",
    headers: { "retry-after": String(retryAfterSeconds) },
  }),
  ourFault: (requestId: string): Problem => ({
    status: 500,
    message: `Something went wrong on our side. The log has it under request ${requestId}.`,
  }),
};

function faultText({ param, message }: Fault): string {
  return param === "" ? message : `${param}: ${message}`;
}

function idempotencyProblem(reason: Refusals["idempotency"]["reason"]): Problem {
  const param = "Idempotency-Key";
  switch (reason) {
    case "other_body":
      return {
        status: 400,
        message: "This Idempotency-Key was used for another request: take a new one.",
        code: "idempotency_key_reused",
        param,
      };
    case "running":
      return {
        status: 409,
        message: "The first request with this Idempotency-Key still runs: ask again.",
        code: "idempotency_in_progress",
        param,
        // Repeating does nothing but ask for the answer.
        headers: { "retry-after": "5", "x-should-retry": "true" },
      };
    case "unknown":
      return {
        status: 409,
        message:
          "The first request with this Idempotency-Key broke off, and nobody knows what it did. " +
          "It is not run again; look before you send it with a new key.",
        code: "idempotency_outcome_unknown",
        param,
      };
    case "deleted":
      return {
        status: 409,
        message: "The request of this Idempotency-Key was run, and its response was deleted.",
        code: "idempotency_answer_deleted",
        param,
      };
    case "caller_busy":
      return {
        status: 429,
        message:
          "Too many of your requests with an Idempotency-Key are under way, those that you left included. " +
          "This one was not begun: send it again when others have ended.",
        code: "idempotency_too_many",
        param,
        headers: { "retry-after": "5" },
      };
    case "process_busy":
      return {
        status: 503,
        message:
          "Too many requests with an Idempotency-Key are under way here. This one was not begun: send it again later.",
        code: "idempotency_too_many",
        param,
        headers: { "retry-after": "5" },
      };
  }
}

/** A fault of the caller's stays one; the upstream's keys and outages are not the caller's fault. */
function modelStatus(upstream: number | null): number {
  if (upstream === 400 || upstream === 404 || upstream === 422) return 400;
  return upstream === 429 ? 429 : 502;
}
