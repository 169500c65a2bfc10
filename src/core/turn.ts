import { requestItem } from "./approval.ts";
import { sayConsents } from "./consent-notice.ts";
import type { Desks } from "./approved.ts";
import { saveInConversation } from "./conversation-turn.ts";
import { type BrokerError, isRefusal } from "./errors.ts";
import type { Item } from "./items.ts";
import type { Plan } from "./plan.ts";
import type { Response, ResponseError, TurnEvent } from "./request.ts";
import { saveResponse } from "./thread.ts";
import { runDecided, tellDecided } from "./turn-decided.ts";
import { runExplicit } from "./turn-explicit.ts";
import { showListing, startListings } from "./turn-lists.ts";
import { runModel } from "./turn-model.ts";
import type { Journal, Onward } from "./turn-journal.ts";
import { takeUp } from "./turn-resume.ts";
import { beginTurn, say, type Turn } from "./turn-say.ts";

/**
 * One response in the making: decided calls run, servers are listed, then explicit calls or the model's loop; at the end
 * the thread is saved. Yields events in the order of `responses-wire` 4.2 and never throws: what goes wrong after the
 * first event is an event.
 *
 * When the caller leaves, calls under way are cancelled, and what happened until then is kept. With `onward` it goes on
 * without its caller, from where others left it, and ends without an end where it is left again.
 */
export async function* runTurn(
  desks: Desks,
  plan: Plan,
  onward: Onward | null = null,
): AsyncGenerator<TurnEvent> {
  const journal = onward?.journal ?? null;
  const turn = beginTurn(desks, plan, journal);
  if (!onward) yield { kind: "started", response: plan.response };
  let fault: Fault | null = null;
  try {
    if (onward) yield* goOn(turn, onward);
    yield* work(turn);
    yield* sayConsents(turn);
  } catch (cause) {
    if (journal?.leaving.aborted) return;
    // Who cancels a response in the background is still there, and asked for it.
    const isWanted = journal !== null && plan.context.signal.aborted;
    fault = isWanted ? null : report(turn, cause);
  }
  if (journal && !(await journal.keep({ kind: "closing" }))) return;
  turn.output = turn.output.map(asLeft);
  const { response } = plan;
  const cancelled = plan.context.signal.aborted;
  const waits = turn.consents.length > 0 && plan.context.project.settings.consentStatus === "incomplete";
  const isWhole = turn.incomplete === null && !waits;
  const status = cancelled ? "cancelled" : fault ? "failed" : isWhole ? "completed" : "incomplete";
  const ended = {
    ...response,
    status,
    completedAt: desks.world.clock.now(),
    usage: turn.usage,
    error: fault?.error ?? null,
    incompleteReason: turn.incomplete,
  } as const;
  const { kept, lost } = await save(turn, ended);
  if (lost) yield { kind: "failed", ...lost };
  else if (fault) yield { kind: "failed", ...fault };
  const last = lost ? ({ ...ended, status: "failed", error: lost.error } as const) : kept;
  yield { kind: "ended", response: last, output: turn.output };
}

type Fault = { error: ResponseError; refusal: BrokerError | null };

/** Whether it may go on is known before a call of others is made. What they had begun is ended either way. */
async function* goOn(turn: Turn, { journal, entries, fault }: Onward): AsyncGenerator<TurnEvent> {
  const refusal = fault ?? (await refusalOf(journal));
  yield* takeUp(turn, { entries, refusal });
  if (refusal !== null) throw refusal;
  turn.plan.context.signal.throwIfAborted();
}

async function refusalOf(journal: Journal): Promise<unknown> {
  try {
    await journal.goOn();
    return null;
  } catch (refusal) {
    return refusal;
  }
}

async function* work(turn: Turn): AsyncGenerator<TurnEvent> {
  const { plan } = turn;
  yield* runDecided(turn);
  if (plan.undecided.length > 0 && !speaksAnew(plan)) {
    const told = new Set(turn.output.map(({ id }) => id));
    for (const held of plan.undecided) {
      if (!told.has(held.id)) yield* say(turn, await requestItem(turn.desks.world, held));
    }
    return;
  }
  if (turn.consents.length > 0) return;
  if (turn.asksAgain) return;
  if (plan.settled.model !== null) {
    yield* runModel(turn, plan.settled.model);
    return;
  }
  if (plan.explicit.length > 0) {
    yield* runExplicit(turn);
    if (turn.output.length === 0 && turn.consents.length === 0) yield* tellDecided(turn);
    return;
  }
  if (plan.decided.length > 0) {
    yield* tellDecided(turn);
    return;
  }
  for (const { server, listing } of startListings(turn)) yield* showListing(turn, server, await listing);
}

/** Whether the person, or the runtime, said something new instead of deciding: then the turn goes on without a decision. */
function speaksAnew({ input, explicit }: Plan): boolean {
  if (explicit.length > 0) return true;
  const lastAsked = input.findLastIndex((item) => item.kind === "mcp_approval_request");
  return input.slice(lastAsked + 1).some((item) => item.kind === "message" && item.role === "user");
}

/** An item that was cut off is not in progress any more. */
function asLeft(item: Item): Item {
  const unfinished = "status" in item && item.status === "in_progress";
  return unfinished ? { ...item, status: "incomplete" } : item;
}

function report({ desks, plan }: Turn, cause: unknown): Fault {
  const { world } = desks;
  const { requestId, signal } = plan.context;
  if (signal.aborted) return { error: { code: "cancelled", message: "the caller left" }, refusal: null };
  const facts = { requestId, responseId: plan.response.id, err: cause };
  if (isRefusal(cause, "model_failed")) {
    // Its sentence may hold what the upstream quotes of a prompt: the caller hears it, the log does not.
    const { status, code } = cause.details;
    const { requestId: at, responseId } = facts;
    world.log("warn", "model_failed", { requestId: at, responseId, status, code, err: cause.cause });
    return { error: { code: codeOf(cause.details), message: cause.details.message }, refusal: cause };
  }
  if (isRefusal(cause, "unavailable")) {
    world.log("error", "turn_failed", facts);
    return {
      error: { code: "server_error", message: `${cause.details.what} is not available` },
      refusal: cause,
    };
  }
  if (isRefusal(cause, "revoked")) {
    world.log("info", "turn_revoked", { requestId, responseId: plan.response.id, why: cause.details.why });
    return {
      error: { code: "server_error", message: `it may not go on: ${cause.details.why}` },
      refusal: cause,
    };
  }
  if (isRefusal(cause, "invalid") || isRefusal(cause, "not_supported")) {
    // What the model's API cannot express; it is found when the request for the upstream is written.
    return { error: { code: "invalid_prompt", message: sentenceOf(cause) }, refusal: cause };
  }
  world.log("error", "turn_broke", facts);
  const message = `an internal fault; the log has it under request ${requestId}`;
  return { error: { code: "server_error", message }, refusal: null };
}

/** What clients know of a response that failed (OpenAI's `response.error.code`); the upstream's own word where it is one. */
function codeOf({ status, code }: BrokerError<"model_failed">["details"]): string {
  if (code !== null && FAILURES.test(code)) return code;
  if (status === 429) return "rate_limit_exceeded";
  return status === 400 || status === 404 || status === 422 ? "invalid_prompt" : "server_error";
}

const FAILURES =
  /^(?:invalid_prompt|(?:bio|misalignment)_policy\w*|invalid_\w*image\w*|image_\w+|unsupported_image_media_type|empty_image_file|failed_to_download_image)$/;

function sentenceOf(refusal: BrokerError): string {
  if (isRefusal(refusal, "not_supported")) return `${refusal.details.what} is not supported`;
  if (!isRefusal(refusal, "invalid")) return refusal.code;
  return refusal.details.faults.map(({ param, message }) => `${param}: ${message}`).join("; ");
}

/** Keeps the response. What cannot be kept is not called done: gives the fault then. */
async function save(turn: Turn, response: Response): Promise<{ kept: Response; lost: Fault | null }> {
  const { plan, desks } = turn;
  try {
    const { chain, conversation, input, settled, context } = plan;
    const { output } = turn;
    const whole = { response, chain, input, output, audit: [], tools: settled.tools };
    if (conversation !== null) {
      const kept = await saveInConversation(desks.world, context, { ...whole, conversation });
      return { kept, lost: null };
    }
    if (!response.store) return { kept: response, lost: null };
    return { kept: await saveResponse(desks.world, whole), lost: null };
  } catch (cause) {
    return { kept: response, lost: report(turn, cause) };
  }
}
