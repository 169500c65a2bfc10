import type { Grant } from "./grants.ts";
import type { Binding } from "./refresh.ts";

/** What is to be done about a grant whose token is wanted. `stillGood`: the old token serves while a newer one is made. */
export type State =
  | { kind: "consent"; reason: string }
  | { kind: "foreign" | "ended"; grant: Grant; reason: string }
  | { kind: "fresh"; grant: Grant }
  | { kind: "due"; grant: Grant; stillGood: boolean };

/** `since`: when the token was asked for. */
export function stateOf(
  grant: Grant | null,
  binding: Binding,
  { now, since, staleVersion }: { now: number; since: number; staleVersion: number },
): State {
  if (!grant) return { kind: "consent", reason: "none" };
  if (grant.status !== "active") return { kind: "consent", reason: grant.reason ?? grant.status };
  const foreign = foreignFault(grant, binding);
  if (foreign !== null) return { kind: "foreign", grant, reason: foreign };
  const isStale = grant.version === staleVersion;
  const begun = grant.refreshedAt ?? grant.createdAt;
  const end = grant.expiresAt ?? (grant.hasRefreshToken ? begun + UNSAID_LIFE_MS : Infinity);
  const ahead = Math.min(AHEAD_MS, (end - begun) / 5);
  // Made since it was asked for, or a moment before: served, however soon its server says that it ends. Another would be no
  // better, and the server that it is for may say so.
  const isNew = grant.refreshedAt !== null && grant.refreshedAt >= Math.min(since, now - JUST_MADE_MS);
  if (!isStale && (now < end - ahead || isNew)) return { kind: "fresh", grant };
  if (grant.hasRefreshToken) return { kind: "due", grant, stillGood: !isStale && now < end };
  if (!isStale && now < end) return { kind: "fresh", grant };
  return { kind: "ended", grant, reason: isStale ? "token_rejected" : "token_expired" };
}

function foreignFault(grant: Grant, binding: Binding): string | null {
  if (grant.issuer !== binding.server.issuer) return "issuer_changed";
  if (grant.clientGeneration !== binding.clientGeneration) return "client_changed";
  return grant.resource === binding.resource ? null : "resource_changed";
}

const JUST_MADE_MS = 5_000;
/** Rule 7: a token without an end is taken to live this long. */
const UNSAID_LIFE_MS = 10 * 60_000;
/** Refreshed so long before its end, but not in the first four fifths of a short life. */
const AHEAD_MS = 60_000;
