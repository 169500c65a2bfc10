import type { Refusal } from "./errors.ts";
import type { CallError } from "./items.ts";
import type { UpstreamFailure } from "./ports.ts";
import type { Trace } from "./trace.ts";

/** Something that has begun. Say once how it ended. `trace`: for whatever is done for it, and to be passed on with it. */
export type Ongoing<How> = { trace: Trace | null; ended: (how: How) => void };

/** Of a connection, by the names that admins gave. Null: a `server_url` without one. */
export type Place = { project: string; connection: string | null };

export type Asked = "tools/list" | "tools/call" | "model";

/** `route`: the template, never a path. Null: there is none. */
export type RequestEnd = { method: string; route: string | null; status: number };
/** A request. Say once that the head of its answer is there, and once that all of the answer is. */
export type Answering = { trace: Trace | null; answered: (how: RequestEnd) => void; ended: () => void };
/** `failed`: a fault of ours. */
export type CallHow = "ok" | "failed" | "consent" | CallError["kind"];
export type AskHow = "ok" | "failed" | UpstreamFailure["kind"];
/** `refreshed`: whoever of the replicas did it. `refused`: the grant is over. `failed`: not now. */
export type RefreshHow = "refreshed" | "refused" | "failed";

/**
 * Who counts, times and traces what happens. `parent` is the trace that it happens for. Whatever is given here is one of few values: names of
 * admins' and of ours. Never a user, a secret, an argument, a URL, or words that a caller, a model or a server chose.
 *
 * Never throws, and takes microseconds: calls wait for it.
 */
export type Observer = {
  requestBegun: (parent: Trace | null) => Answering;
  toolCallBegun: (place: Place, parent: Trace | null) => Ongoing<CallHow>;
  upstreamAsked: (asked: Asked, parent: Trace | null) => Ongoing<AskHow>;
  refreshBegun: (place: Place, parent: Trace | null) => Ongoing<RefreshHow>;
  /** By this replica, and after it was kept. `count`: how many at once; one, when it is left out. */
  consentBecame: (status: "opened" | "connected" | "declined" | "failed" | "expired", count?: number) => void;
  approvalBecame: (status: "requested" | "approved" | "denied", count?: number) => void;
  /** A box under an older key (core/reseal). */
  boxResealed: (how: "resealed" | "changed" | "unopened") => void;
  /** Rows of one sort that have ended by themselves (core/housekeeping). */
  swept: (chore: string, rows: number) => void;
  /** A response in the background: `lost` broke off too often and could not even be stored as failed. */
  backgroundBecame: (status: "queued" | "done" | "lost") => void;
  /** How many this process makes now. */
  backgroundRunning: (count: number) => void;
  /** A request was refused. */
  refused: (code: Refusal) => void;
};

const nothing = (trace: Trace | null): Ongoing<unknown> => ({ trace, ended: () => {} });

/** For whoever wants to know nothing. */
export const noObserver: Observer = {
  requestBegun: (trace) => ({ trace, answered: () => {}, ended: () => {} }),
  toolCallBegun: (_, parent) => nothing(parent),
  upstreamAsked: (_, parent) => nothing(parent),
  refreshBegun: (_, parent) => nothing(parent),
  consentBecame: () => {},
  approvalBecame: () => {},
  boxResealed: () => {},
  swept: () => {},
  backgroundBecame: () => {},
  backgroundRunning: () => {},
  refused: () => {},
};
