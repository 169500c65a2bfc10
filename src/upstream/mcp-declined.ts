import type { CallOutcome, UpstreamFailure } from "../core/ports.ts";

/** A sentence for who reads a call's outcome: what its server asked for in vain. Null: nothing that has a name. */
function declinedText(methods: Iterable<string>): string | null {
  const asked = new Set(methods);
  const known = [...WANTED].flatMap(([method, what]) => (asked.has(method) ? [`${what} (${method})`] : []));
  if (known.length === 0) return null;
  return `The server asked for ${known.join(" and ")} in the middle of the call, which this broker does not pass on.`;
}

/**
 * The outcome of a call with that sentence, where it failed: a tool that went on without what it asked for needs no excuse.
 */
export function withDeclined(outcome: CallOutcome, methods: Iterable<string>): CallOutcome {
  const text = declinedText(methods);
  if (text === null) return outcome;
  if (!outcome.ok) return { ...outcome, failure: explained(outcome.failure, text) };
  const { result } = outcome;
  if (!result.isError) return outcome;
  return { ok: true, result: { ...result, content: [...result.content, { type: "text", text }] } };
}

/** What a JSON-RPC error of the protocol's own asks for. Null: it is another one. */
export function declinedByCode(code: number): string | null {
  switch (code) {
    case URL_ELICITATION_REQUIRED:
      return "The server wants the user to open a link first, which this broker does not pass on.";
    case MISSING_CAPABILITY:
      return "The server wants what this broker does not pass on: the user's input, a model, or folders.";
    default:
      return null;
  }
}

export function explained<F extends UpstreamFailure>(failure: F, text: string): F {
  return { ...failure, message: `${failure.message} ${text}`.trim() };
}

// Client features of the revisions, in the words of who reads them.
const WANTED = new Map([
  ["elicitation/create", "the user's input"],
  ["sampling/createMessage", "a model"],
  ["roots/list", "the client's folders"],
]);
/** 2025-11-25, "URL Elicitation". */
const URL_ELICITATION_REQUIRED = -32042;
/** 2026-07-28, "Error Codes". */
export const MISSING_CAPABILITY = -32021;
