import type { ConnectionId } from "./ids.ts";
import type { ApprovalRule, ToolFilter } from "./policy.ts";

/** Header names and verbatim values, as the admin gave them. */
export type HeaderValues = Record<string, string>;

/**
 * How a connection proves itself to its server. A union, so that a new kind fails to compile wherever it is not
 * thought of. `key` holds no secret here: the sealed box of the record does.
 */
export type ConnectionAuth = { kind: "none" } | { kind: "key"; headerNames: string[] };

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
