import type { AuditEntry } from "./audit.ts";
import type { ConnectionId, ConsentId, Id, UserId } from "./ids.ts";
import type { AuthServer, ClientAuth } from "./oauth.ts";
import type { ConsentProof } from "./project.ts";

export const CONSENT_STATUSES = [
  "open",
  "authorizing",
  "connected",
  "declined",
  "failed",
  "expired",
] as const;
/** `open → authorizing → connected | declined | failed | expired` (DESIGN 6). */
export type ConsentStatus = (typeof CONSENT_STATUSES)[number];

/** A pending request for a grant: bound to the user, finished once. One of them is open for each (project, connection, user). */
export type Consent = {
  id: ConsentId;
  project: string;
  connectionId: ConnectionId;
  /** The connection's name. */
  connection: string;
  /** The connection's, when this was opened: a connection that means something else now needs another consent. */
  generation: number;
  user: UserId;
  /** Who asked: the caller's principal and what people call it, the stored agent, the request. */
  principal: string;
  callerName: string;
  agent: string | null;
  requestId: string;
  /** The caller's key's, as they were registered then (A13). */
  confirmUrl: string | null;
  doneUrl: string | null;
  /** Why the person is asked: `none` (the first time), `invalid_grant`, `insufficient_scope`, … */
  why: string;
  /** What is asked for. Null: nothing by name. `newScopes`: those of them that a grant before had not. */
  scopes: string[] | null;
  newScopes: string[];
  status: ConsentStatus;
  /** How it ended, as a code. */
  outcome: string | null;
  createdAt: number;
  expiresAt: number;
  shownAt: number | null;
  endedAt: number | null;
  /** The one browser that may allow or decline: SHA-256 of its cookie. Null: nobody is proven yet. */
  browserHash: string | null;
  provenBy: ConsentProof | null;
  /** The authorization under way, from Allow on. */
  redirectId: string | null;
  /** SHA-256 of `state`. Null: none is under way, or its callback has come. */
  stateHash: string | null;
  stateExpiresAt: number | null;
  attempt: string | null;
  /** `Flow`, sealed for `consentAad`. */
  sealedFlow: Uint8Array | null;
};

/** What an authorization request was made with; its callback is judged by nothing else (A7, A8, C32). */
export type Flow = {
  verifier: string;
  server: AuthServer;
  clientGeneration: string;
  redirectUri: string;
  resource: string | null;
  scopes: string[] | null;
};

export type Consents = {
  /**
   * Opens a consent, or gives the one that is open already for its connection and user. One that has expired by
   * `consent.createdAt` or belongs to another generation ends first (`expired`, `failed`; `ended`: how many did by this).
   * Of any number of racers one makes the row, and its audit; all receive it.
   */
  open: (
    consent: Consent,
    audit: AuditEntry[],
  ) => Promise<{ consent: Consent; isNew: boolean; ended: { expired: number; failed: number } }>;
  /**
   * Ends those that have expired by `before`, and whose person is not on the way any more by then; gives how many. Of any number
   * of racers one counts each.
   */
  expire: (times: { now: number; before: number }) => Promise<number>;
  /** By id alone: whoever asks has proven that the id is ours. */
  find: (id: ConsentId) => Promise<Consent | null>;
  /** A user's consents for a connection that were opened since then; newest first, at most 20. */
  since: (key: Pick<Consent, "project" | "connectionId" | "user">, createdAt: number) => Promise<Consent[]>;
  /**
   * Nothing is taken. A state is gone when a callback has taken it and when its consent has ended, but for one that failed because
   * of something else: its connection was changed or deleted, its user blocked, its grant taken back.
   */
  findByState: (stateHash: string) => Promise<Consent | null>;
  /** More scopes than before, while it is `open`. Null: it is not any more. */
  widen: (
    id: ConsentId,
    scopes: { scopes: string[]; newScopes: string[]; why: string },
  ) => Promise<Consent | null>;
  /** Where its person is sent from now on, while it is `open`: by the runtime that asked last. Null: it is not any more. */
  readdress: (id: ConsentId, urls: Pick<Consent, "confirmUrl" | "doneUrl">) => Promise<Consent | null>;
  /** The first sight of the page; exactly one racer receives true. */
  shown: (id: ConsentId, at: number, audit: AuditEntry[]) => Promise<boolean>;
  /**
   * `open` and not expired: this browser is the person's from now on. `rebind` "never": only while there is none, or if it
   * is the same one. "while open": instead of another one, too, and also while it is `authorizing`: the person goes on here,
   * what was under way is void, and it is `open` again. Null: it is not to be had.
   */
  prove: (
    proof: {
      id: ConsentId;
      browserHash: string;
      by: ConsentProof;
      rebind: "never" | "while open";
      now: number;
    },
    audit: AuditEntry[],
  ) => Promise<Consent | null>;
  /** `open` or `authorizing`, not expired, this browser → `authorizing` with a new state; one before is void. */
  authorize: (
    start: {
      id: ConsentId;
      browserHash: string;
      redirectId: string;
      stateHash: string;
      stateExpiresAt: number;
      attempt: string;
      sealedFlow: Uint8Array;
      now: number;
    },
    audit: AuditEntry[],
  ) => Promise<Consent | null>;
  /**
   * The callback: takes the state, once. All of redirect, state and browser must be the row's, so that a wrong browser
   * burns nothing. Exactly one racer receives the row.
   */
  claim: (callback: {
    redirectId: string;
    stateHash: string;
    browserHash: string;
    now: number;
  }) => Promise<Consent | null>;
  /**
   * `open` or `authorizing` → `declined` or `failed`; the slot is free. With `attempt` only that attempt's, with
   * `browserHash` only that browser's. Null: it is over, or somebody else's.
   */
  end: (
    end: {
      id: ConsentId;
      status: "declined" | "failed";
      outcome: string;
      attempt: string | null;
      browserHash: string | null;
      at: number;
    },
    audit: AuditEntry[],
  ) => Promise<Consent | null>;
};

/** A client at an authorization server that discovery found, for one connection. Keyed by (connection, issuer). */
export type Registration = {
  /** Also the client's generation: tokens of one registration are nothing to another (threats, rule 8). */
  id: Id<"reg">;
  project: string;
  connectionId: ConnectionId;
  /** The connection's, when this was found: what was found for a connection that means something else now is nothing to it. */
  generation: number;
  issuer: string;
  kind: "preregistered" | "metadata_document" | "dynamic";
  server: AuthServer;
  /** RFC 9728 `resource`, verbatim; the canonical URI where there is no metadata. */
  resource: string;
  /** Of the metadata. Null: it names none. */
  scopesSupported: string[] | null;
  clientId: string;
  clientAuth: ClientAuth;
  /** The client's secret, sealed for `registrationAad`. Null: it has none, or it is the connection's. */
  sealed: Uint8Array | null;
  /** When the client's secret ends (RFC 7591). Null: never. */
  expiresAt: number | null;
  createdAt: number;
  /** When the server and its metadata were asked last. */
  discoveredAt: number;
};

export type Registrations = {
  get: (project: string, connectionId: ConnectionId, issuer: string) => Promise<Registration | null>;
  /**
   * By id. Also one whose connection means something else by now or is gone: nothing else finds it, and it stays until the
   * authorization servers were told of all the connection's revoked grants, for it takes this client to tell them.
   */
  find: (project: string, id: Registration["id"]) => Promise<Registration | null>;
  /** The one that was discovered last: the connection's current authorization server. */
  latest: (project: string, connectionId: ConnectionId) => Promise<Registration | null>;
  /**
   * Inserts a registration, or replaces the one with the id `instead`. Gives what stands under (connection, issuer)
   * afterwards: of racers the first wins, and the others receive the winner's.
   */
  put: (
    registration: Registration,
    instead: Registration["id"] | null,
    audit: AuditEntry[],
  ) => Promise<Registration>;
  /** What discovery says now of the same client. */
  seen: (
    registration: Pick<
      Registration,
      | "id"
      | "project"
      | "connectionId"
      | "issuer"
      | "server"
      | "resource"
      | "scopesSupported"
      | "discoveredAt"
    >,
  ) => Promise<void>;
};

/**
 * Short-lived handles that a browser or runtime carries; only their SHA-256 is kept. `sign_in`: the state of a sign-in,
 * subject: a consent, or a project's `/me`. `consent_code` and `continue`: the proof `runtime`, subject: a consent.
 * `me_link` and `me_session`: subject: a user.
 */
export type Handle = {
  hash: string;
  kind: "sign_in" | "consent_code" | "continue" | "me_link" | "me_session";
  project: string;
  subject: string;
  /** The browser that it was given to. Null: the first one that brings it. */
  browserHash: string | null;
  /** Sealed for `handleAad`. */
  sealed: Uint8Array | null;
  createdAt: number;
  expiresAt: number;
};

export type Handles = {
  put: (handle: Handle, audit: AuditEntry[]) => Promise<void>;
  get: (kind: Handle["kind"], hash: string, now: number) => Promise<Handle | null>;
  /** Takes it, if it has not expired and is this browser's (or nobody's). Exactly one racer receives it. */
  take: (query: {
    kind: Handle["kind"];
    hash: string;
    browserHash: string | null;
    now: number;
  }) => Promise<Handle | null>;
  /** Ends all of a subject's, such as the sessions of a user who was blocked. */
  drop: (project: string, kind: Handle["kind"], subject: string) => Promise<void>;
  /** Removes what has expired. */
  sweep: (now: number) => Promise<void>;
};
