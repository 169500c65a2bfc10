/** Limits of one outbound call. Bytes count after decompression. */
export type EgressLimits = {
  /** From the request's start to the answer's last byte. Null: only `idleMs` bounds it. */
  totalMs: number | null;
  /** The longest silence while the answer comes. */
  idleMs: number;
  maxBytes: number;
  /** The deepest nesting of arrays and objects in a JSON or SSE answer. */
  maxDepth: number;
};

/** Why a call out failed. `refused`: by our own rules, before or instead of a connection. */
export type EgressReason = "refused" | "dns" | "connect" | "tls" | "closed" | "timeout" | "too_large" | "too_deep";

export class EgressError extends Error {
  readonly reason: EgressReason;
  constructor(reason: EgressReason, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "EgressError";
    this.reason = reason;
  }
}

export type EgressFetch = (url: string | URL, init?: RequestInit) => Promise<Response>;

/** The one way out for every URL that comes from admins, users, servers or metadata (DESIGN 12). */
export type Egress = {
  /** A `fetch` under these limits. It rejects with `EgressError`; reading the body of an answer may, too. */
  fetch: (limits: EgressLimits) => EgressFetch;
  close: () => Promise<void>;
};
