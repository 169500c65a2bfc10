/** Limits of one outbound call. Bytes count after decompression. */
export type EgressLimits = {
  /** From the request's start to the answer's last byte, redirects included. Null: only `idleMs` bounds it. */
  totalMs: number | null;
  /**
   * The longest silence while the answer comes, counted only while somebody reads. Without `totalMs` it also bounds the
   * wait for the answer's head.
   */
  idleMs: number;
  maxBytes: number;
  /** The deepest nesting of arrays and objects in a JSON or SSE answer. */
  maxDepth: number;
};

/**
 * Why a call out failed. `refused`: by our own rules, before or instead of a connection. With `refused` at the first
 * hop, `dns`, `connect` and `tls` nothing of the request has left us.
 */
export type EgressReason =
  | "refused"
  | "dns"
  | "connect"
  | "tls"
  | "closed"
  | "timeout"
  | "too_large"
  | "too_deep";

/** `message` is a sentence for callers: host and reason, never headers, bodies or query strings. */
export class EgressError extends Error {
  readonly reason: EgressReason;
  constructor(reason: EgressReason, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "EgressError";
    this.reason = reason;
  }
}

/** What came back. Its body is read once, whole or as it comes; or it is let go, which must be said, too. */
export type EgressAnswer = {
  status: number;
  headers: Headers;
  /** Where it came from, after redirects. */
  url: string;
  /** The whole body, decompressed. Rejects as the request does. */
  bytes: () => Promise<Uint8Array>;
  /** The body as it comes. Null: there is none. */
  stream: () => ReadableStream<Uint8Array> | null;
  /** Nobody reads it. Never fails. */
  discard: () => void;
};

export type EgressAsk = (url: string | URL, init?: RequestInit) => Promise<EgressAnswer>;
export type EgressFetch = (url: string | URL, init?: RequestInit) => Promise<Response>;

/** The one way out for every URL that comes from admins, users, servers or metadata (DESIGN 12). */
export type Egress = {
  /**
   * A `fetch` under these limits. It rejects with `EgressError`; reading the body of an answer may, too. When the
   * caller's own signal aborts, both reject at once with that signal's reason, unchanged. The body must be read or
   * cancelled.
   *
   * Redirects stay within the origin: at most three, checked again, for GET and HEAD, and for 307 and 308 when the body
   * can be sent again. Any other redirect is `refused`; with `redirect: "manual"` it is the answer.
   */
  fetch: (limits: EgressLimits) => EgressFetch;
  /**
   * The same, without making a `Response` of the answer: a stream of the web's and its reader cost more than the rest of a call
   * together, and most answers are wanted whole. `Headers` that it is given are its own from then on.
   */
  ask: (limits: EgressLimits) => EgressAsk;
  /** Ends what is under way with `closed` and closes every socket. */
  close: () => Promise<void>;
};
