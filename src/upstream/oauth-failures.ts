import { ClientError } from "openid-client";
import type { OAuthFailure, OAuthOutcome } from "../core/oauth.ts";
import { EgressError } from "./egress.ts";

/** What went wrong, already judged; thrown within this room only. */
export class OAuthFault extends Error {
  readonly failure: OAuthFailure;
  constructor(failure: OAuthFailure, options?: { cause?: unknown }) {
    super(failure.kind, options);
    this.name = "OAuthFault";
    this.failure = failure;
  }
}

/** A broken rule, named. `message` is a sentence for callers: it never quotes a token, code or secret. */
export const broken = (message: string) => new OAuthFault({ kind: "invalid", message });

export const transient = (message: string, outcome: "not_sent" | "unknown") =>
  new OAuthFault({ kind: "transient", message, outcome });

/** Runs `work` and turns its faults into values; bugs stay errors. */
export async function outcomeOf<T>(signal: AbortSignal, work: () => Promise<T>): Promise<OAuthOutcome<T>> {
  // Whoever has left already has asked for nothing.
  if (signal.aborted) return { ok: false, failure: CANCELLED_BEFORE };
  try {
    return { ok: true, value: await work() };
  } catch (error) {
    const failure = toFailure(error, signal);
    if (!failure) throw error;
    return { ok: false, failure };
  }
}

/** The one place where faults of egress and of the library become failures. Null: it is a bug. */
function toFailure(error: unknown, signal: AbortSignal): OAuthFailure | null {
  if (error instanceof OAuthFault) return error.failure;
  if (error instanceof EgressError) return ofEgress(error);
  if (error instanceof ClientError) return { kind: "invalid", message: sentenceOf(error) };
  if (signal.aborted && error === signal.reason) return CANCELLED_UNDER_WAY;
  return null;
}

function ofEgress({ reason, message }: EgressError): OAuthFailure {
  switch (reason) {
    case "refused":
      return { kind: "invalid", message };
    case "dns":
    case "connect":
    case "tls":
      return { kind: "transient", message, outcome: "not_sent" };
    case "closed":
    case "timeout":
    case "too_large":
    case "too_deep":
      return { kind: "transient", message, outcome: "unknown" };
  }
}

/** The library's own sentences are fixed texts; only one that it made itself is shown, never what caused it. */
function sentenceOf(error: ClientError): string {
  const why = error.code !== undefined && error.cause instanceof Error ? error.cause.message : error.message;
  return `The authorization server's answer breaks a rule: ${why}.`;
}

const CANCELLED_BEFORE: OAuthFailure = {
  kind: "transient",
  message: "The request was cancelled before it was sent.",
  outcome: "not_sent",
};
const CANCELLED_UNDER_WAY: OAuthFailure = {
  kind: "transient",
  message: "The authorization server did not answer before the request was cancelled.",
  outcome: "unknown",
};
