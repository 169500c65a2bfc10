import type { UpstreamAccess, UpstreamFailure } from "../core/ports.ts";
import type { Deadline } from "./mcp-deadline.ts";
import { EgressError, type EgressReason } from "./egress.ts";
import { MAX_ERROR_TEXT, MIN_SECRET_LENGTH } from "./mcp-limits.ts";

/**
 * How an exchange failed. `sent`: the request may have reached the server. `unread`: the server turned the HTTP request
 * away without answering the message in it, by its status alone or with a JSON-RPC error that names no request. `body`:
 * what it said then, for negotiation only.
 */
export type Failed = {
  ok: false;
  failure: UpstreamFailure;
  sent: boolean;
  unread: "http" | "rpc" | null;
  body: string | null;
};

export function failed(failure: UpstreamFailure, { sent }: { sent: boolean }): Failed {
  return { ok: false, failure, sent, unread: null, body: null };
}

export const notMcp = (message: string): Failed => failed({ kind: "not_mcp", message }, { sent: true });

/** The one translation of what a request out, or reading its answer, throws. `sent`: surely, whatever is thrown. */
export function thrown(error: unknown, { deadline, sent }: { deadline: Deadline; sent: boolean }): Failed {
  const ended = deadline.ended();
  if (ended) return failed(ended, { sent: true });
  if (!(error instanceof EgressError)) {
    const message = "The server broke off its answer.";
    return failed({ kind: "unreachable", reason: "closed", message }, { sent: true });
  }
  return failed(failureOf(error), { sent: sent || !UNSENT.includes(error.reason) });
}

function failureOf({ reason, message }: EgressError): UpstreamFailure {
  switch (reason) {
    case "refused":
      return { kind: "refused", message };
    case "dns":
    case "connect":
    case "tls":
    case "closed":
      return { kind: "unreachable", reason, message };
    case "timeout":
      return { kind: "timeout", message };
    case "too_large":
    case "too_deep":
      return { kind: "too_large", message };
  }
}

const UNSENT: EgressReason[] = ["refused", "dns", "connect", "tls"];

/**
 * A server's own words for a caller: without what we were let in with, bounded, and with everything that does not show
 * made to show.
 */
export function visible(text: string, access: UpstreamAccess): string {
  const escaped = redacted(text, access).slice(0, MAX_ERROR_TEXT).toWellFormed().replace(UNSEEN, escapeOf);
  return escaped.length > MAX_ERROR_TEXT ? `${escaped.slice(0, MAX_ERROR_TEXT)}…` : escaped;
}

/** Whether a text holds what we were let in with. */
export function echoes(text: string, access: UpstreamAccess): boolean {
  return secretsOf(access).some((secret) => text.includes(secret));
}

/** As much of a text as may be passed on, and some more, without the secrets of the access. */
function redacted(text: string, access: UpstreamAccess): string {
  const secrets = secretsOf(access);
  const longest = secrets[0]?.length ?? 0;
  const looked = text.slice(0, MAX_ERROR_TEXT + longest);
  const clean = secrets.reduce((words, secret) => words.replaceAll(secret, "[redacted]"), looked);
  // What a cut leaves of a secret is not found: as much goes as that can be.
  return longest > 0 && looked.length < text.length ? clean.slice(0, -longest) : clean;
}

/** Header values, whole and without a scheme such as `Bearer`, and values in the query; longest first. */
function secretsOf({ url, headers }: UpstreamAccess): string[] {
  const sent = Object.values(headers).map((value) => value.trim());
  const bare = sent.map((value) => value.replace(/^\S+[ \t]+/, ""));
  const asked = URL.parse(url)?.searchParams.values() ?? [];
  return [...new Set([...sent, ...bare, ...asked])]
    .filter(({ length }) => length >= MIN_SECRET_LENGTH)
    .toSorted((one, other) => other.length - one.length);
}

function escapeOf(character: string): string {
  if (character === "\n") return "\\n";
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

// Controls, soft hyphen, zero-width and bidirectional marks, line separators, byte order mark.
const UNSEEN = /[\p{Cc}\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;
