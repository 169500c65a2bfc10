import type { Agent, AgentIdentity, AgentVersion } from "./agents.ts";
import type { AuditEntry, AuditEvent } from "./audit.ts";
import type { Background } from "./background.ts";
import type { ConnectionRecord } from "./connection.ts";
import type { Conversations } from "./conversations.ts";
import type { Connectors, Redirects } from "./connectors.ts";
import type { Consents, Handles, Registrations } from "./consents.ts";
import type { Grants } from "./grants.ts";
import type { Idempotency } from "./idempotency.ts";
import type { Owner, Right, Role, Viewer } from "./identity.ts";
import type { ConnectionId, HeldCallId, KeyId, ResponseId, ThreadId, UserId } from "./ids.ts";
import type { Project, Settings } from "./project.ts";
import type { StoredResponse } from "./request.ts";
import type { SigningKeys } from "./signing-keys.ts";
import type { Upkeep } from "./upkeep.ts";

/**
 * What the broker remembers. Every method is one statement or one atomic list of statements; there is no transaction
 * to hold open. Reads see every commit that came before them, on all replicas.
 *
 * Three promises hold throughout:
 * - **One-time means one statement.** Of any number of callers that race for the same change, exactly one receives the
 *   row and the others receive null (or false); a loser leaves no trace, not even an audit row.
 * - **A decision commits together with its audit rows**: both are there after a crash, or neither.
 * - **Every read names its project**, and reads of owned things take the viewer: foreign and unknown are both null.
 *
 * Times are milliseconds since the epoch. Lists come newest first unless said otherwise and are paged by `after`, the
 * id of the last row seen. Methods throw `unavailable` when the database cannot be reached.
 */
export type Store = {
  projects: Projects;
  keys: Keys;
  users: Users;
  connections: Connections;
  toolPins: ToolPins;
  agents: Agents;
  responses: Responses;
  conversations: Conversations;
  idempotency: Idempotency;
  background: Background;
  heldCalls: HeldCalls;
  grants: Grants;
  connectors: Connectors;
  redirects: Redirects;
  registrations: Registrations;
  consents: Consents;
  handles: Handles;
  signingKeys: SigningKeys;
  audit: AuditLog;
  upkeep: Upkeep;
  /** Throws `unavailable` when the database does not answer; used by `/readyz`. */
  ping: () => Promise<void>;
  close: () => Promise<void>;
};

export type Page = { after: string | null; limit: number };

/** `more`: whether rows follow the last one given. */
export type Listed<T> = { rows: T[]; more: boolean };

export type Projects = {
  get: (name: string) => Promise<Project | null>;
  /**
   * What a caller that brings a token is judged by, in one point read: the project, and whether this user is blocked there
   * (false for a user who is unknown, or null). Null: no such project.
   */
  admission: (query: {
    project: string;
    user: UserId | null;
  }) => Promise<{ project: Project; userBlocked: boolean } | null>;
  /** In order of name. */
  list: (page: Page) => Promise<Listed<Project>>;
  /** False: the name is taken. */
  insert: (project: Project, audit: AuditEntry[]) => Promise<boolean>;
  /** Null: the row is no longer at `version`. `sealed`: the settings' secrets, sealed for the next version. */
  updateSettings: (
    change: { name: string; version: number; settings: Settings; sealed: Uint8Array | null },
    audit: AuditEntry[],
  ) => Promise<Project | null>;
  /** The box of the settings' secrets with the version that it is sealed for. Null: no such project. */
  secrets: (name: string) => Promise<{ version: number; sealed: Uint8Array | null } | null>;
  /** With everything in it except its audit. False: there is none. */
  delete: (name: string, audit: AuditEntry[]) => Promise<boolean>;
};

/** An API key. The key itself is known to its holder alone: `hash` is its SHA-256. */
export type Key = {
  id: KeyId;
  /** Null: an operator key. */
  project: string | null;
  name: string;
  principal: string;
  hash: string;
  roles: Role[];
  rights: Right[];
  createdAt: number;
  /** Null: never. */
  expiresAt: number | null;
  /** The proof `runtime`: where people are sent to be recognized, and where they end up. Exact URLs. */
  confirmUrl: string | null;
  doneUrl: string | null;
};

export type Keys = {
  /**
   * The read that begins every request: the key, the project named by the route (null when it does not exist or
   * `project` is null), and whether the named user is blocked there. Null: no such key. Expiry is for the caller to judge.
   */
  authenticate: (query: {
    hash: string;
    project: string | null;
    user: UserId | null;
  }) => Promise<{ key: Key; project: Project | null; userBlocked: boolean } | null>;
  list: (project: string) => Promise<Key[]>;
  get: (project: string, id: KeyId) => Promise<Key | null>;
  /** False: another key of this project that has not expired has the name. */
  insert: (key: Key, audit: AuditEntry[]) => Promise<boolean>;
  /** Adds the successor (same name and principal) and lets the old one end at `oldExpiresAt`. False: the old one is gone. */
  rotate: (
    change: { project: string; old: KeyId; oldExpiresAt: number; successor: Key },
    audit: AuditEntry[],
  ) => Promise<boolean>;
  delete: (project: string, id: KeyId, audit: AuditEntry[]) => Promise<boolean>;
  /** The bootstrap key: inserted or replaced under its fixed id. */
  putBootstrap: (key: Key) => Promise<void>;
  getBootstrap: () => Promise<Key | null>;
};

export type User = { project: string; id: UserId; status: "active" | "blocked"; createdAt: number };

export type Users = {
  get: (project: string, id: UserId) => Promise<User | null>;
  /** In order of id. */
  list: (project: string, page: Page) => Promise<Listed<User>>;
  /** Remembers a user who was seen; nothing happens when the row exists. */
  note: (user: User) => Promise<void>;
  /**
   * The kill switch: the user is blocked (the row is made when missing), the user's held calls that have not left yet
   * (`pending`, `approved`) are cancelled, the user's open consents fail (`user_blocked`), the user's conversations are gone
   * with the responses in them, what is made for the user in the background shall end, and the user's grants are taken back (`revoked`, their authorization servers still to be
   * told), in one step. `eachGrant`: the model of an audit row for
   * each of them, which gets the grant's user, connection, `detail.grant` and an id of its own.
   */
  block: (
    user: { project: string; id: UserId; at: number },
    audit: AuditEntry[],
    eachGrant?: AuditEntry,
  ) => Promise<void>;
  /** False: there is no blocked user of that id. */
  restore: (project: string, id: UserId, audit: AuditEntry[]) => Promise<boolean>;
};

export type Connections = {
  get: (project: string, name: string) => Promise<ConnectionRecord | null>;
  /** By id: whatever it is called by now. */
  find: (project: string, id: ConnectionId) => Promise<ConnectionRecord | null>;
  /** In order of name. `place`: only connections whose target is at this place (`placeOf`). */
  list: (
    project: string,
    filter: { target?: string; place?: string },
    page: Page,
  ) => Promise<Listed<ConnectionRecord>>;
  /** False: the name is taken. */
  insert: (record: ConnectionRecord, audit: AuditEntry[]) => Promise<boolean>;
  /**
   * Replaces the row with the record's id if it is still at `version`. When its generation moves, open consents of another
   * one fail (`connection_changed`), all its grants are taken back as by a block, and its registrations are no longer found
   * but by their ids (`Registrations.find`), in the same step. False: it is not.
   */
  replace: (
    record: ConnectionRecord,
    version: number,
    audit: AuditEntry[],
    eachGrant?: AuditEntry,
  ) => Promise<boolean>;
  /**
   * With its pins; its open consents fail (`connection_deleted`), its grants are taken back as by a block, its registrations
   * are no longer found but by their ids, its redirect begins to age at `at`.
   */
  delete: (
    project: string,
    name: string,
    at: number,
    audit: AuditEntry[],
    eachGrant?: AuditEntry,
  ) => Promise<boolean>;
};

/**
 * What a tool's definition hashed to when it was first listed (or last accepted), and what it hashed to last.
 * Keyed by connection id, place of the target and tool name: other secrets, headers or queries are the same server, and
 * pointing a connection back finds the old pins.
 */
export type ToolPin = { tool: string; pinned: string; seen: string; seenAt: number };

export type ToolPins = {
  list: (key: PinKey) => Promise<ToolPin[]>;
  /**
   * Records what a listing showed: tools not yet known are pinned as they are; known ones keep their pin and take the
   * new `seen`. Two listings at once pin each tool once: the first wins. Gives all pins of the key.
   */
  record: (key: PinKey, tools: { tool: string; hash: string }[], at: number) => Promise<ToolPin[]>;
  /** The pin moves to `hash` if that is what was seen last. False: it is not (the tool changed again, or is unknown). */
  accept: (key: PinKey, tool: string, hash: string, audit: AuditEntry[]) => Promise<boolean>;
};

/** `place`: `placeOf` the connection's target. */
export type PinKey = { project: string; connectionId: ConnectionId; place: string };

export type Agents = {
  get: (project: string, name: string) => Promise<Agent | null>;
  /** In order of name. */
  list: (project: string, page: Page) => Promise<Listed<Agent>>;
  /**
   * Adds a version, numbered one more than the highest ever given, and makes it the latest if the latest is `after`; with
   * `after` 0 the agent is made, too. Null: the agent is not at
   * `after` (somebody else added a version, or it exists, or it does not). `identity`: what the agent's becomes; without
   * it a new agent's is `shared`, and another's stays.
   */
  addVersion: (
    version: Omit<AgentVersion, "version">,
    after: number,
    audit: AuditEntry[],
    identity?: AgentIdentity,
  ) => Promise<Agent | null>;
  setState: (project: string, name: string, state: Agent["state"], audit: AuditEntry[]) => Promise<boolean>;
  setIdentity: (
    project: string,
    name: string,
    identity: AgentIdentity,
    audit: AuditEntry[],
  ) => Promise<boolean>;
  delete: (project: string, name: string, audit: AuditEntry[]) => Promise<boolean>;
  getVersion: (project: string, name: string, version: number) => Promise<AgentVersion | null>;
  /** Newest first; `after` is a version number. */
  listVersions: (project: string, name: string, page: Page) => Promise<Listed<AgentVersion>>;
  /** Deleting the latest makes the newest remaining one the latest; deleting the last deletes the agent. */
  deleteVersion: (project: string, name: string, version: number, audit: AuditEntry[]) => Promise<boolean>;
};

/** One item of a thread. `id` is the item's own, for references; the body is sealed for its place (`itemAad`). */
export type ItemRow = { position: number; id: string; sealed: Uint8Array };

export type Responses = {
  get: (project: string, id: string, viewer: Viewer) => Promise<StoredResponse | null>;
  /** The response that ends last in a thread, at `to` or before; a conversation goes on from it. */
  lastOf: (project: string, threadId: ThreadId, to: number, viewer: Viewer) => Promise<StoredResponse | null>;
  /** Items of a thread from position `from` (inclusive) to `to` (exclusive), in order. */
  items: (project: string, threadId: ThreadId, from: number, to: number) => Promise<ItemRow[]>;
  /** Items by their ids, in threads of responses and conversations that the viewer may see; with the thread, to open them. */
  findItems: (
    project: string,
    ids: string[],
    viewer: Viewer,
  ) => Promise<(ItemRow & { threadId: ThreadId })[]>;
  /**
   * Saves a response with new items and its audit rows, if the thread ends exactly where `rows` begin (at `stored.end`
   * when there are none; a thread that is not there ends at 0 and is made). Afterwards it ends at `stored.end`. Usually
   * `rows` begin at `stored.inputFrom`; a fork writes a new thread from position 0, the copied past included. False: the
   * thread ends elsewhere, somebody else continued it, or it is of a conversation that is gone; then nothing is written.
   */
  append: (stored: StoredResponse, rows: ItemRow[], audit: AuditEntry[]) => Promise<boolean>;
  /**
   * Deletes the response and cancels its pending held calls, in one step. Items stay while another response of the
   * thread, or its conversation, needs them. False: none that the viewer may see.
   */
  delete: (
    query: { project: string; id: string; viewer: Viewer; at: number },
    audit: AuditEntry[],
  ) => Promise<boolean>;
};

export const HELD_CALL_STATUSES = [
  "pending",
  "approved",
  "dispatched",
  "done",
  "unknown",
  "denied",
  "expired",
  "cancelled",
] as const;
export type HeldCallStatus = (typeof HELD_CALL_STATUSES)[number];

/** A tool call that waits for approval: stored whole, run at most once. */
export type HeldCall = {
  id: HeldCallId;
  project: string;
  owner: Owner;
  /** The stored response that asked. Null with `store:false`. */
  responseId: ResponseId | null;
  model: string | null;
  agent: { name: string; version: number } | null;
  /** The id of the `mcp_call` item to be: the explicit call's own, else one of ours. */
  callId: string;
  label: string;
  /** Null: a server without a connection; then `target` alone says where. */
  connection: { name: string; id: ConnectionId; generation: number; version: number } | null;
  target: string;
  tool: string;
  /** SHA-256 of the exact arguments text. */
  argumentsDigest: string;
  definitionHash: string;
  approvers: "caller" | "role";
  /** `{arguments, authorization, headers}`, sealed for `heldCallAad`. */
  sealed: Uint8Array;
  status: HeldCallStatus;
  createdAt: number;
  expiresAt: number;
  decidedAt: number | null;
  /** The principal that decided. */
  decidedBy: string | null;
  /** The reason given, sealed. */
  sealedReason: Uint8Array | null;
  /** While `dispatched`: when the one that runs it counts as dead. */
  leaseUntil: number | null;
  /** `{output, error}` of the call, sealed; there once it is `done`. */
  sealedOutcome: Uint8Array | null;
};

export type HeldCalls = {
  insert: (calls: HeldCall[], audit: AuditEntry[]) => Promise<void>;
  get: (project: string, id: string) => Promise<HeldCall | null>;
  getOwned: (project: string, id: string, viewer: Viewer) => Promise<HeldCall | null>;
  /** Those of one response, in the order in which they were asked. */
  ofResponse: (project: string, responseId: ResponseId) => Promise<HeldCall[]>;
  /** `viewer` null: of everybody (an approver's list). A row past its expiry is listed as `expired`, not `pending`. */
  list: (
    query: { project: string; viewer: Viewer | null; status: HeldCallStatus | null; now: number },
    page: Page,
  ) => Promise<Listed<HeldCall>>;
  /** `pending` and not past `expiresAt` → `approved` or `denied`. Exactly one racer receives the row. */
  decide: (
    change: {
      project: string;
      id: HeldCallId;
      approve: boolean;
      decidedBy: string;
      sealedReason: Uint8Array | null;
      now: number;
    },
    audit: AuditEntry[],
  ) => Promise<HeldCall | null>;
  /** `approved` → `dispatched`, committed before anything leaves. Exactly one racer receives the row. */
  claim: (
    change: { project: string; id: HeldCallId; leaseUntil: number },
    audit: AuditEntry[],
  ) => Promise<HeldCall | null>;
  /** `dispatched` or `unknown` → `done`, by the one that ran it. */
  finish: (
    change: { project: string; id: HeldCallId; sealedOutcome: Uint8Array },
    audit: AuditEntry[],
  ) => Promise<void>;
  /** `dispatched` with a lease that ended before `now` → `unknown`. Gives the row as it is afterwards. */
  expireLease: (project: string, id: HeldCallId, now: number) => Promise<HeldCall | null>;
  /** `pending` or `approved` → `cancelled`. Null: it is neither. */
  cancel: (project: string, id: HeldCallId, audit: AuditEntry[]) => Promise<HeldCall | null>;
};

export type AuditFilter = {
  event?: AuditEvent;
  user?: UserId;
  principal?: string;
  connection?: string;
  tool?: string;
  responseId?: string;
  approvalId?: string;
  requestId?: string;
  outcome?: AuditEntry["outcome"];
  /** From (inclusive) and to (exclusive). */
  since?: number;
  until?: number;
};

export type AuditLog = {
  append: (entries: AuditEntry[]) => Promise<void>;
  list: (project: string, filter: AuditFilter, page: Page) => Promise<Listed<AuditEntry>>;
};

/** What the box of a stored thing is bound to. */
export const itemAad = (project: string, threadId: ThreadId, position: number) =>
  `item|${project}|${threadId}|${position}`;
export const heldCallAad = (project: string, id: HeldCallId, part: "call" | "reason" | "outcome") =>
  `held|${project}|${id}|${part}`;
export const connectionAad = (project: string, id: ConnectionId, version: number) =>
  `connection|${project}|${id}|${version}`;
export const connectorAad = (name: string, version: number) => JSON.stringify(["connector", name, version]);
export const projectSecretsAad = (name: string, version: number) =>
  JSON.stringify(["project", name, version]);
export const registrationAad = (project: string, connectionId: ConnectionId, issuer: string, id: string) =>
  JSON.stringify(["registration", project, connectionId, issuer, id]);
export const consentAad = (project: string, id: string, attempt: string) =>
  JSON.stringify(["consent", project, id, attempt]);
export const handleAad = (project: string, kind: string, hash: string) =>
  JSON.stringify(["handle", project, kind, hash]);
export const toolSecretsAad = (project: string, id: ResponseId) => `tools|${project}|${id}`;
