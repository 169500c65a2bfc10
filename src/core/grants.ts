import type { AuditEntry } from "./audit.ts";
import type { ConnectionId, ConsentId, Id, UserId } from "./ids.ts";
import type { Listed, Page } from "./storage.ts";

export type GrantId = Id<"grant">;

/**
 * `active`: it may be used and refreshed. `needs_consent`: its refresh token is dead, or what it was made for has changed;
 * the reason is kept, nothing is deleted. `revoked`: somebody took it back.
 */
export type GrantStatus = "active" | "needs_consent" | "revoked";

/** One user's authorization at one connection. One row for each (project, connection, user). */
export type Grant = {
  id: GrantId;
  project: string;
  connectionId: ConnectionId;
  user: UserId;
  status: GrantStatus;
  /** Why it is not active: `invalid_grant`, `client_changed`, … */
  reason: string | null;
  /** What the tokens are bound to; each is checked before they are used (threats, rule 8). */
  issuer: string;
  resource: string | null;
  clientGeneration: string;
  /** As granted. */
  scopes: string[];
  /** Moves with every change of the tokens: the fence of a refresh. */
  version: number;
  /** `{accessToken, refreshToken}`, sealed for `grantAad`. */
  sealed: Uint8Array;
  /** When the access token ends. Null: not said. */
  expiresAt: number | null;
  hasRefreshToken: boolean;
  createdAt: number;
  refreshedAt: number | null;
  lastUsedAt: number | null;
  lastUsedBy: string | null;
  /** The lease of the one refresher: until when, and its mark. */
  leaseUntil: number | null;
  lease: string | null;
};

/** A box is bound to its place, its issuer and its version: an old one does not open as the new one. */
export const grantAad = (
  grant: Pick<Grant, "project" | "connectionId" | "user" | "issuer" | "version">,
): string =>
  JSON.stringify(["grant", grant.project, grant.connectionId, grant.user, grant.issuer, grant.version]);

/** How far the version of a consent's grant is above the one before: refreshes move by one. */
export const CONSENT_LEAP = 1_000;

export type GrantKey = Pick<Grant, "project" | "connectionId" | "user">;

/** All of a connection, or all of a user. */
export type GrantsOf = { project: string } & ({ connectionId: ConnectionId } | { user: UserId });

/** What a token endpoint gave, sealed for the version that the row will have. */
export type NewTokens = {
  sealed: Uint8Array;
  expiresAt: number | null;
  hasRefreshToken: boolean;
  scopes: string[];
  at: number;
};

export type Grants = {
  get: (key: GrantKey) => Promise<Grant | null>;
  find: (project: string, id: GrantId) => Promise<Grant | null>;
  /** Of a connection or of a user; in order of id. */
  list: (
    project: string,
    filter: { connectionId?: ConnectionId; user?: UserId },
    page: Page,
  ) => Promise<Listed<Grant>>;
  /**
   * Finishes a consent: `authorizing` under this attempt → `connected`, its slot free, and the grant stored, in one step.
   * The grant stands in the place of the one before, whatever became of that meanwhile; `grant.version` must be far above
   * the one before (`CONSENT_LEAP`), so that a refresh under way loses. Null: the consent is over, or another attempt's:
   * nothing is stored.
   */
  put: (
    grant: Grant,
    consent: { id: ConsentId; attempt: string; at: number },
    audit: AuditEntry[],
  ) => Promise<Grant | null>;
  /** Takes the lease if nobody holds one at `now` and the row is active at `version`. Exactly one racer receives the row. */
  lease: (take: {
    key: GrantKey;
    version: number;
    lease: string;
    leaseUntil: number;
    now: number;
  }) => Promise<Grant | null>;
  /**
   * Writes refreshed tokens as version `version + 1` and ends the lease, if the row is still active at `version`, whoever
   * holds the lease: the version is the fence. Null: somebody else wrote, or it failed or was revoked; theirs stays.
   */
  refreshed: (
    key: GrantKey,
    version: number,
    tokens: NewTokens,
    audit: AuditEntry[],
  ) => Promise<Grant | null>;
  /** Gives the lease back without a change. Nothing happens when it is somebody else's by now. */
  release: (key: GrantKey, lease: string) => Promise<void>;
  /** `active` at `version` → `needs_consent`; the box and its version stay, the lease ends. Null: it is not that any more. */
  fail: (key: GrantKey, version: number, reason: string, audit: AuditEntry[]) => Promise<Grant | null>;
  /**
   * Any status → `revoked`, which holds from now on. The box stays, at its version, until the authorization server was
   * told (`emptied`). The key's open consent fails (`disconnected`) in the same step, so that nothing under way brings it back.
   * Gives the row. Null: there is none, or it was revoked.
   */
  revoke: (key: GrantKey, at: number, audit: AuditEntry[]) => Promise<Grant | null>;
  /** `revoked` at `version` → the box is emptied and the version moves on; `reason` says what the authorization server said. */
  emptied: (key: GrantKey, version: number, reason: string) => Promise<void>;
  /**
   * Revoked ones whose box is still there, in order of id: a list has just taken them back, a process died, or the server was
   * away. Without `of` those of all projects.
   */
  unrevoked: (page: Page, of?: GrantsOf) => Promise<Listed<Grant>>;
  /** Remembers the use; not for every call, and without a version. */
  used: (key: GrantKey, use: { at: number; by: string | null }) => Promise<void>;
};
