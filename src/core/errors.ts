import type { Usage } from "./request.ts";

/**
 * Every way in which the broker refuses. The HTTP status and the wording of the wire live in `http/problems.ts`, one
 * exhaustive table; here is only what happened and the facts that the caller may know.
 */
export type Refusals = {
  // who is calling
  unauthenticated: { reason: "missing" | "invalid" | "expired" };
  /** `why`: where it can be looked up why the caller has it not. */
  forbidden: { needs: string; why?: string | null };
  user_assertion_forbidden: Record<never, never>;
  /** A user's token that proves no user here, whatever the reason. */
  user_assertion_invalid: Record<never, never>;
  user_conflict: { header: string; body: string };
  user_invalid: { param: string; why: string };
  user_blocked: Record<never, never>;
  /** The person must sign in again, with these claims (a claims challenge, as JSON). */
  claims_required: { claims: string };
  // what was sent
  invalid: { faults: Fault[] };
  too_large: { what: string; limit: number; unit: string };
  not_found: { what: Noun; name: string };
  name_taken: { what: Noun; name: string };
  changed_meanwhile: { what: Noun; name: string };
  not_supported: { what: string; param?: string };
  // responses
  previous_response_not_found: { id: string };
  response_not_found: { id: string };
  /** `param`: the field of the body that names it. Null: the path does. */
  conversation_not_found: { id: string; param: string | null };
  no_model: Record<never, never>;
  /** What became of the request that the `Idempotency-Key` stands for. Busy: nothing, there is no room for it now. */
  idempotency: {
    reason: "other_body" | "running" | "unknown" | "deleted" | "caller_busy" | "process_busy";
  };
  /** So many responses in the background are not over: of the project, or of the caller. */
  too_many_background: { ofProject: number; ofCaller: number };
  /** The caller follows so many responses in the background at this process. */
  too_many_followers: { limit: number };
  /** It cannot be deleted while somebody makes it. */
  still_running: { id: string };
  /** Whoever a response is made for may not go on. */
  revoked: { why: string };
  // approvals
  approval_not_found: { id: string };
  approval_expired: { id: string };
  approval_cancelled: { id: string };
  approval_contradicted: { id: string; recorded: "approve" | "deny" };
  approval_needs_role: { id: string };
  // consent
  /** What a page says to a stranger: one dull sentence, whatever the reason. */
  consent_refused: Record<never, never>;
  // what is behind us
  target_refused: { url: string; why: string };
  /** `usage`: what it says that its answer took until then. */
  model_failed: { status: number | null; message: string; code: string | null; usage?: Usage };
  /**
   * `reference`: the secret that is kept elsewhere and cannot be had. `passing`: it may be had later, so that nothing must be
   * given up or made anew for the want of it; where it is left out, nobody knows.
   */
  unavailable: { what: string; reference?: string; passing?: true };
};

export type Refusal = keyof Refusals;

/** One wrong field: where (in the caller's own spelling) and what would be right. */
export type Fault = { param: string; message: string };

export type Noun =
  | "project"
  | "key"
  | "user"
  | "connection"
  | "connector"
  | "tool"
  | "agent"
  | "agent version"
  | "approval"
  | "grant"
  | "response"
  | "conversation item";

/** A refusal: thrown, translated once at each surface. `details` never holds a secret, a token or tool arguments. */
export class BrokerError<C extends Refusal = Refusal> extends Error {
  readonly code: C;
  readonly details: Refusals[C];
  constructor(code: C, details: Refusals[C], options?: { cause?: unknown }) {
    super(code, options);
    this.name = "BrokerError";
    this.code = code;
    this.details = details;
  }
}

/** The refusal for wrong input: every fault at once, so that the caller mends them in one go. */
export function invalid(...faults: Fault[]): BrokerError<"invalid"> {
  return new BrokerError("invalid", { faults });
}

/** Whether something of ours does not open, and will not by waiting: its key is gone, or it is damaged. */
export function isUnopenable(error: unknown): boolean {
  return isRefusal(error, "unavailable") && error.details.passing !== true;
}

export function isRefusal<C extends Refusal>(error: unknown, code: C): error is BrokerError<C> {
  return error instanceof BrokerError && error.code === code;
}
