import type { ConnectionId } from "./ids.ts";
import type { AuthServer, ClientAuth, TokenServer } from "./oauth.ts";
import type { ApprovalRule, ToolFilter } from "./policy.ts";

/** Header names and verbatim values, as the admin gave them. */
export type HeaderValues = Record<string, string>;

/**
 * How a connection proves itself to its server. A union, so that a new kind fails to compile wherever it is not
 * thought of. `key` holds no secret here: the sealed box of the record does.
 */
export type ConnectionAuth =
  | { kind: "none" }
  /** `references`: the headers whose values are kept elsewhere, and where. Left out: none. */
  | { kind: "key"; headerNames: string[]; references?: Record<string, string> }
  | OAuthAuth
  | IdentityAuth
  | UserTokenAuth
  | ClientCredentialsAuth;

/** An identity that is not a person's (DESIGN 11): the project's own, or that of the agent that acts. */
export type IdentityAuth = { kind: "identity"; of: "project" | "agent"; audience: string };

/** The token of the person who calls, exchanged for one that the server takes. There is no secret but an ID-JAG's client. */
export type UserTokenAuth = {
  kind: "user_token";
  /** For whom the token is asked: the server's application id URI; of an ID-JAG the issuer of its authorization server. */
  audience: string;
  /** Null: the audience says it all (Entra: `{audience}/.default`). */
  scopes: string[] | null;
  /**
   * Null: at the person's own issuer; Entra does it on behalf of, all others by RFC 8693. Else the server's authorization
   * server takes an assertion of the person's issuer (MCP extension "Enterprise-managed authorization"), from this client.
   */
  idJag: MachineClient | null;
  resource: OAuthOverrides["resource"];
  overrideReason: string | null;
  /** Where the client's secret is kept, if not in the box. */
  references?: Record<string, string>;
};

/** One client for all users (MCP extension "OAuth client credentials", SEP-1046). */
export type ClientCredentialsAuth = {
  kind: "client_credentials";
  client: MachineClient;
  scopes: string[] | null;
  /** Added to token requests; `audience` is among them where the admin gave one. */
  tokenParams: Record<string, string>;
  resource: OAuthOverrides["resource"];
  overrideReason: string | null;
  /** Where the client's secret is kept, if not in the box. */
  references?: Record<string, string>;
};

/** A client of the admin's own, pinned to one authorization server (A7). Its secret or key is in the record's box. */
export type MachineClient = { clientId: string; clientAuth: ClientAuth; server: TokenServer };

/** Each user's own account at the server (DESIGN 9). The client's secret or key is in the record's box. */
export type OAuthAuth = {
  kind: "oauth";
  source: OAuthSource;
  /** What is asked for. Null: what the server's challenge or metadata say, for a connector what it has. */
  scopes: string[] | null;
  overrides: OAuthOverrides;
  /** `clientSecret`, where it is kept elsewhere. Left out: it is not. */
  references?: Record<string, string>;
};

export type OAuthSource =
  /** An app that the admin registered at an authorization server, its endpoints typed. */
  | { kind: "custom"; app: OAuthApp }
  /** An app of the operator's, by its name. */
  | { kind: "connector"; connector: string }
  /**
   * Found out by the MCP specification. `issuer`: the only authorization server that may be used; never null with a client
   * of the admin's own (`clientId`), whose secret goes nowhere else (A7).
   */
  | { kind: "discovery"; issuer: string | null; clientId: string | null; clientAuth: ClientAuth | null };

/** An app at an authorization server, as connections and connectors name it. */
export type OAuthApp = {
  clientId: string;
  clientAuth: ClientAuth;
  /** The endpoints as typed, with what the metadata added if they agree with it. */
  server: AuthServer;
  /** A name in the table of providers' ways: its quirks. Null: none. */
  provider: string | null;
  /** Added to the authorization request and to token requests, such as `access_type=offline`. */
  authorizeParams: Record<string, string>;
  tokenParams: Record<string, string>;
};

/** Where a server needs something else than the specification says. Each is off by default, has a reason, and is audited. */
export type OAuthOverrides = {
  /** RFC 8707: the server's own metadata (or its canonical URI), nothing at all, or this very text. */
  resource: "prm" | "omit" | { value: string };
  refreshScope: "granted" | "omit";
  pkce: "strict" | "assume-S256";
  reason: string | null;
};

export const NO_OVERRIDES: OAuthOverrides = {
  resource: "prm",
  refreshScope: "granted",
  pkce: "strict",
  reason: null,
};

/** An OAuth app that the operator manages once for many projects' connections. Belongs to no project. */
export type Connector = {
  name: string;
  app: OAuthApp;
  scopes: string[] | null;
  overrides: OAuthOverrides;
  /** Hosts (`api.example.com`, `*.example.com`, with a port where it is not the usual one) that its tokens may be sent to. */
  targets: string[];
  redirectId: string;
  version: number;
  /** Moves when tokens made before are nothing to it any more: another client, another server. */
  generation: number;
  createdAt: number;
  updatedAt: number;
};

/** With the client's secret or key, sealed for `connectorAad`. */
export type ConnectorRecord = { connector: Connector; sealed: Uint8Array | null };

/** Who may decide a held call: the caller that asked, or somebody with the role `approver` who is not that caller. */
export type Approvers = "caller" | "role";

/** A named way to reach one MCP server. */
export type Connection = {
  project: string;
  name: string;
  /** New for every creation: a connection deleted and made again under the same name is another one. */
  id: ConnectionId;
  target: string;
  auth: ConnectionAuth;
  requireApproval: ApprovalRule | null;
  allowedTools: ToolFilter | null;
  approvers: Approvers;
  /** False: hints of the server (`readOnlyHint` …) count for nothing. */
  trustAnnotations: boolean;
  /** The limit of one tool call or listing. */
  timeoutMs: number;
  metadata: Record<string, string>;
  isDefault: boolean;
  /** In `{PUBLIC_URL}/oauth/callback/{redirectId}`: 32 hex digits, kept across edits. Null: the auth kind has none. */
  redirectId: string | null;
  /** Moves with every change of the row; opened boxes and listings are cached by it. */
  version: number;
  /** Moves when target or auth change (not when only secret values do): held calls and tool pins are bound to it. */
  generation: number;
  createdAt: number;
  updatedAt: number;
};

/** A connection with its secrets, sealed for `connectionAad(connection)`. Null: it has none. */
export type ConnectionRecord = { connection: Connection; sealed: Uint8Array | null };

export const DEFAULT_TIMEOUT_MS = 60_000;
export const MIN_TIMEOUT_MS = 100;
export const MAX_TIMEOUT_MS = 600_000;
/** Foundry's rule for connection names. */
export const CONNECTION_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_-]{2,32}$/;

/**
 * Where a target is, whatever its spelling: origin and path, without query, fragment, dot segments, needless escapes and
 * slash at the end. Two URLs at one place reach one server. The URL must be absolute.
 */
export function placeOf(target: string): string {
  const { origin, pathname } = new URL(target);
  return (
    origin +
    unescaped(pathname)
      .replaceAll(/\/{2,}/g, "/")
      .replace(/\/$/, "")
  );
}

function unescaped(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
