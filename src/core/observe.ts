import type { Refusal } from "./errors.ts";
import type { CallError } from "./items.ts";
import type { UpstreamFailure } from "./ports.ts";

/** Something that has begun. Say once how it ended. */
export type Ongoing<How> = { ended: (how: How) => void };

/** Of a connection, by the names that admins gave. Null: a `server_url` without one. */
export type Place = { project: string; connection: string | null };

export type Asked = "tools/list" | "tools/call" | "model";

/** `route`: the template, never a path. Null: there is none. */
export type RequestEnd = { method: string; route: string | null; status: number };
export type CallHow = "ok" | "consent" | CallError["kind"];
export type AskHow = "ok" | "failed" | UpstreamFailure["kind"];
/** `refreshed`: whoever of the replicas did it. `refused`: the grant is over. `failed`: not now. */
export type RefreshHow = "refreshed" | "refused" | "failed";

/**
 * Who counts and times what happens (metrics). Whatever is given here is one of few values: names of
 * admins' and of ours. Never a user, a secret, an argument, a URL, or words that a caller, a model or a server chose.
 *
 * Never throws, and takes microseconds: calls wait for it.
 */
export type Observer = {
  requestBegun: () => Ongoing<RequestEnd>;
  toolCallBegun: (place: Place) => Ongoing<CallHow>;
  upstreamAsked: (asked: Asked) => Ongoing<AskHow>;
  refreshBegun: (place: Place) => Ongoing<RefreshHow>;
  /** By this replica, and after it was kept. */
  consentBecame: (status: "opened" | "connected" | "declined" | "failed") => void;
  approvalBecame: (status: "requested" | "approved" | "denied") => void;
  /** A request was refused. */
  refused: (code: Refusal) => void;
};

const nothing: Ongoing<unknown> = { ended: () => {} };

/** For whoever wants to know nothing. */
export const noObserver: Observer = {
  requestBegun: () => nothing,
  toolCallBegun: () => nothing,
  upstreamAsked: () => nothing,
  refreshBegun: () => nothing,
  consentBecame: () => {},
  approvalBecame: () => {},
  refused: () => {},
};
