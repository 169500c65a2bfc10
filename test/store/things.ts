import { randomBytes } from "node:crypto";
import type { AuditEntry, AuditEvent } from "../../src/core/audit.ts";
import {
  type Connection,
  type ConnectionRecord,
  type Connector,
  type ConnectorRecord,
  NO_OVERRIDES,
} from "../../src/core/connection.ts";
import type { Consent, Consents, Handle, Registration } from "../../src/core/consents.ts";
import type { Grant, NewTokens } from "../../src/core/grants.ts";
import type { Viewer } from "../../src/core/identity.ts";
import type { Id, IdPrefix } from "../../src/core/ids.ts";
import type { AuthServer } from "../../src/core/oauth.ts";
import { DEFAULT_SETTINGS } from "../../src/core/project.ts";
import type { Response, StoredResponse } from "../../src/core/request.ts";
import type { HeldCall, ItemRow, Key, Store } from "../../src/core/storage.ts";

export const EVERYTHING = { after: null, limit: 1_000 };

export const id = <P extends IdPrefix>(prefix: P): Id<P> => `${prefix}_${randomBytes(25).toString("hex")}`;

let entries = 0;

/** An audit entry whose id sorts by the order of making. */
export function entry(project: string, event: AuditEvent, more: Partial<AuditEntry> = {}): AuditEntry {
  return {
    id: `evt_${(entries++).toString(16).padStart(12, "0")}`,
    project,
    at: 1_000,
    event,
    outcome: "ok",
    principal: null,
    user: null,
    connection: null,
    tool: null,
    agent: null,
    responseId: null,
    approvalId: null,
    requestId: null,
    durationMs: null,
    detail: {},
    ...more,
  };
}

/** The events of a project's audit, oldest first. */
export async function eventsOf(store: Store, project: string): Promise<AuditEvent[]> {
  const { rows } = await store.audit.list(project, {}, EVERYTHING);
  return rows.map((row) => row.event).toReversed();
}

/** A new project; its name. */
export async function newProject(store: Store): Promise<string> {
  const name = `p${randomBytes(8).toString("hex")}`;
  await store.projects.insert({ name, settings: DEFAULT_SETTINGS, version: 1, createdAt: 1 }, []);
  return name;
}

export function aKey(project: string | null, more: Partial<Key> = {}): Key {
  return {
    id: id("key"),
    project,
    name: "runtime",
    principal: "key:runtime",
    hash: randomBytes(32).toString("hex"),
    roles: ["runtime"],
    rights: ["act_for_users"],
    createdAt: 1_000,
    expiresAt: null,
    confirmUrl: null,
    doneUrl: null,
    ...more,
  };
}

export function aConnection(project: string, more: Partial<Connection> = {}): ConnectionRecord {
  return {
    sealed: new Uint8Array([1, 2, 3]),
    connection: {
      project,
      name: "github",
      id: id("conn"),
      target: "https://mcp.example/mcp?x=1",
      auth: { kind: "key", headerNames: ["authorization"] },
      requireApproval: { never: { readOnly: true } },
      allowedTools: null,
      approvers: "caller",
      trustAnnotations: false,
      timeoutMs: 60_000,
      metadata: { b: "2", a: "1" },
      isDefault: false,
      redirectId: null,
      version: 1,
      generation: 1,
      createdAt: 1_760_000_000_000,
      updatedAt: 1_760_000_000_000,
      ...more,
    },
  };
}

export function aResponse(project: string, more: Partial<Response> = {}): Response {
  return {
    id: id("resp"),
    project,
    owner: { user: null, principal: "key:runtime" },
    status: "completed",
    createdAt: 1_760_000_000_000,
    completedAt: 1_760_000_000_500,
    model: "gpt-5",
    agent: null,
    previousResponseId: null,
    instructions: null,
    tools: [],
    toolChoice: { kind: "auto" },
    parallelToolCalls: true,
    maxToolCalls: null,
    store: true,
    sampling: {
      temperature: null,
      topP: null,
      topLogprobs: null,
      maxOutputTokens: null,
      frequencyPenalty: null,
      presencePenalty: null,
      reasoning: null,
      textFormat: null,
      verbosity: null,
      promptCacheKey: null,
      serviceTier: null,
    },
    metadata: { z: "1", a: "2" },
    safetyIdentifier: null,
    user: null,
    usage: { inputTokens: 1, cachedTokens: 0, outputTokens: 2, reasoningTokens: 0 },
    error: null,
    incompleteReason: null,
    ...more,
  };
}

export function stored(response: Response, range: Partial<StoredResponse> = {}): StoredResponse {
  return {
    response,
    threadId: id("thrd"),
    inputFrom: 0,
    outputFrom: 1,
    end: 2,
    sealedToolSecrets: null,
    ...range,
  };
}

/** Items from position `from` to `to` (exclusive), each with a box of its own. */
export function itemRows(from: number, to: number): ItemRow[] {
  return Array.from({ length: to - from }, (_, index) => ({
    position: from + index,
    id: id("msg"),
    sealed: new Uint8Array([from + index]),
  }));
}

export function aHeldCall(project: string, more: Partial<HeldCall> = {}): HeldCall {
  return {
    id: id("mcpr"),
    project,
    owner: { user: "app:ann", principal: "key:runtime" },
    responseId: null,
    model: "gpt-5",
    agent: { name: "helper", version: 3 },
    callId: "mcp_1",
    label: "github",
    connection: { name: "github", id: id("conn"), generation: 1, version: 2 },
    target: "https://mcp.example/mcp",
    tool: "create_issue",
    argumentsDigest: "d".repeat(64),
    definitionHash: "h".repeat(64),
    approvers: "caller",
    sealed: new Uint8Array([9, 9]),
    status: "pending",
    createdAt: 1_000,
    expiresAt: 100_000,
    decidedAt: null,
    decidedBy: null,
    sealedReason: null,
    leaseUntil: null,
    sealedOutcome: null,
    ...more,
  };
}

/** Open, of a browser that nobody has proven yet. */
export function aConsent(project: string, more: Partial<Consent> = {}): Consent {
  return {
    id: id("oauthreq"),
    project,
    connectionId: id("conn"),
    connection: "github",
    generation: 1,
    user: "app:ann",
    principal: "key:runtime",
    callerName: "runtime",
    agent: "helper",
    requestId: id("req"),
    confirmUrl: null,
    doneUrl: "https://app.example/done",
    why: "none",
    scopes: ["repo", "read:user"],
    newScopes: ["repo"],
    status: "open",
    outcome: null,
    createdAt: 1_000,
    expiresAt: 100_000,
    shownAt: null,
    endedAt: null,
    browserHash: null,
    provenBy: null,
    redirectId: null,
    stateHash: null,
    stateExpiresAt: null,
    attempt: null,
    sealedFlow: null,
    ...more,
  };
}

type Start = Parameters<Consents["authorize"]>[0];

/** What Allow does to a consent, by its own browser. */
export function authorizing(consent: Consent, more: Partial<Start> = {}): Start {
  return {
    id: consent.id,
    browserHash: consent.browserHash ?? "browser",
    redirectId: "r".repeat(32),
    stateHash: randomBytes(32).toString("hex"),
    stateExpiresAt: 50_000,
    attempt: id("w"),
    sealedFlow: new Uint8Array([5, 5]),
    now: 2_000,
    ...more,
  };
}

export const anAuthServer: AuthServer = {
  issuer: "https://as.example/Tenant",
  issuerAssumed: false,
  described: true,
  authorizationEndpoint: "https://as.example/authorize",
  tokenEndpoint: "https://as.example/token",
  refreshEndpoint: "https://as.example/token",
  revocationEndpoint: null,
  registrationEndpoint: null,
  sendsIss: true,
  pkceMethods: ["S256"],
  clientAuthMethods: null,
  takesMetadataDocument: false,
  scopesSupported: ["repo"],
};

export function aRegistration(project: string, more: Partial<Registration> = {}): Registration {
  return {
    id: id("reg"),
    project,
    connectionId: id("conn"),
    generation: 1,
    issuer: anAuthServer.issuer,
    kind: "dynamic",
    server: anAuthServer,
    resource: "https://mcp.example/mcp",
    scopesSupported: ["b", "a"],
    clientId: "client-1",
    clientAuth: "basic",
    sealed: new Uint8Array([4, 4]),
    expiresAt: 9_000,
    createdAt: 1_000,
    discoveredAt: 1_000,
    ...more,
  };
}

export function aConnector(more: Partial<Connector> = {}): ConnectorRecord {
  return {
    sealed: new Uint8Array([6]),
    connector: {
      name: `c${randomBytes(8).toString("hex")}`,
      app: {
        clientId: "client-1",
        clientAuth: "post",
        server: anAuthServer,
        provider: null,
        authorizeParams: { b: "2", a: "1" },
        tokenParams: {},
      },
      scopes: ["repo"],
      overrides: NO_OVERRIDES,
      targets: ["*.example.com"],
      redirectId: randomBytes(16).toString("hex"),
      version: 1,
      generation: 1,
      createdAt: 1_000,
      updatedAt: 1_000,
      ...more,
    },
  };
}

export function aHandle(project: string, more: Partial<Handle> = {}): Handle {
  return {
    hash: randomBytes(32).toString("hex"),
    kind: "me_session",
    project,
    subject: "app:ann",
    browserHash: "browser",
    sealed: null,
    createdAt: 1_000,
    expiresAt: 9_000,
    ...more,
  };
}

/** What `work` gave to each of twenty racers on two replicas. */
export const race = <T>({ a, b }: { a: Store; b: Store }, work: (store: Store, n: number) => Promise<T>) =>
  Promise.all(Array.from({ length: 20 }, (_, n) => work(n % 2 ? a : b, n)));

export const isThere = <T>(value: T | null): value is T => value !== null;

export function aGrant(project: string, more: Partial<Grant> = {}): Grant {
  return {
    id: id("grant"),
    project,
    connectionId: id("conn"),
    user: "app:ann",
    status: "active",
    reason: null,
    issuer: "https://as.example/Tenant",
    resource: "https://mcp.example/mcp",
    clientGeneration: "g1",
    scopes: ["repo", "read:user"],
    version: 1,
    sealed: new Uint8Array([7, 7, 7]),
    expiresAt: 1_760_000_003_600_000,
    hasRefreshToken: true,
    createdAt: 1_760_000_000_000,
    refreshedAt: null,
    lastUsedAt: null,
    lastUsedBy: null,
    leaseUntil: null,
    lease: null,
    ...more,
  };
}

export function newTokens(more: Partial<NewTokens> = {}): NewTokens {
  return {
    sealed: new Uint8Array([8, 8]),
    expiresAt: 1_760_000_007_200_000,
    hasRefreshToken: true,
    scopes: ["repo"],
    at: 1_760_000_003_500_000,
    ...more,
  };
}

export const viewerOf = (more: Partial<Viewer> = {}): Viewer => ({
  user: null,
  principal: "key:runtime",
  inheritsUser: false,
  ...more,
});

/** Text of so many characters that PostgreSQL cannot squeeze into an index row. */
export const incompressible = (length: number) => randomBytes(length / 2).toString("hex");

/** Bytes that tell their own places, so that chunks in a wrong order would show. */
export function bigBox(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at++) bytes[at] = (at * 31 + (at >> 8)) & 0xff;
  return bytes;
}
