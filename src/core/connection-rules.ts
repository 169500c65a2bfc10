import {
  type Approvers,
  type Connection,
  CONNECTION_NAME,
  type ConnectionAuth,
  DEFAULT_TIMEOUT_MS,
  type HeaderValues,
  MAX_TIMEOUT_MS,
  MIN_TIMEOUT_MS,
} from "./connection.ts";
import { BrokerError, type Fault, invalid } from "./errors.ts";
import { headerFaults } from "./header-rules.ts";
import type { ApprovalRule, ToolFilter } from "./policy.ts";
import type { Settings } from "./project.ts";

/** A connection as an admin writes it. Undefined: not given. */
export type ConnectionDraft = {
  category?: string | undefined;
  authType?: string | undefined;
  target?: string | undefined;
  /** The header names and values of `credentials.keys`. Null: `credentials` without any. */
  keys?: HeaderValues | null | undefined;
  requireApproval?: ApprovalRule | null | undefined;
  allowedTools?: ToolFilter | null | undefined;
  approvers?: Approvers | undefined;
  trustAnnotations?: boolean | undefined;
  timeoutMs?: number | undefined;
  metadata?: Record<string, string> | undefined;
  isDefault?: boolean | undefined;
};

export type ConnectionContent = Omit<
  Connection,
  "project" | "name" | "id" | "version" | "generation" | "createdAt" | "updatedAt"
>;

/** What a draft comes to. `headers` null: the secrets stay as they are (or there are none to have). */
export type ReadConnection = { content: ConnectionContent; headers: HeaderValues | null };

/**
 * The rules of a connection (DESIGN 9), pure. `existing` null: a new one, or a full replacement; else what the draft
 * does not say stays, secrets included.
 *
 * Throws `not_supported` for auth kinds of later versions, else `invalid` with every fault, under `at`.
 */
export function readConnection(
  draft: ConnectionDraft,
  context: {
    name: string;
    existing: Connection | null;
    settings: Settings;
    /** Why egress would refuse the URL; null when it would not. */
    checkTarget: (url: string) => string | null;
    /** Where the draft stands in the caller's body: `properties`. */
    at: string;
  },
): ReadConnection {
  const { existing, at } = context;
  const authType = draft.authType ?? (existing && authTypeOf(existing.auth));
  refuseLaterKinds(authType, at);
  const target = draft.target ?? existing?.target;
  const timeoutMs = draft.timeoutMs ?? existing?.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const metadata = draft.metadata ?? existing?.metadata ?? {};
  const auth = readAuth(authType, draft.keys, existing?.auth ?? null, `${at}.credentials`);
  const faults = [
    ...nameFaults(context.name),
    ...categoryFaults(draft.category, `${at}.category`),
    ...authTypeFaults(authType, `${at}.authType`),
    ...(existing && draft.target === undefined
      ? []
      : targetFaults(target, context.checkTarget, `${at}.target`)),
    ...auth.faults,
    ...strayFaults(
      existing,
      target,
      { kept: auth.auth.kind === "key" && auth.headers === null },
      `${at}.credentials`,
    ),
    ...timeoutFaults(timeoutMs, `${at}.timeoutMs`),
    ...metadataFaults(metadata, `${at}.metadata`),
  ];
  if (faults.length > 0 || target === undefined) throw invalid(...faults);
  const before = existing ?? { requireApproval: context.settings.defaultRequireApproval, allowedTools: null };
  const content: ConnectionContent = {
    target,
    auth: auth.auth,
    requireApproval: draft.requireApproval === undefined ? before.requireApproval : draft.requireApproval,
    allowedTools: draft.allowedTools === undefined ? before.allowedTools : draft.allowedTools,
    approvers: draft.approvers ?? existing?.approvers ?? "caller",
    trustAnnotations: draft.trustAnnotations ?? existing?.trustAnnotations ?? true,
    timeoutMs,
    metadata,
    isDefault: draft.isDefault ?? existing?.isDefault ?? false,
  };
  return { content, headers: auth.headers };
}

/** Whether held calls and pins made for `before` mean something else now: another place, or other proof. */
export function isElsewhere(before: ConnectionContent, after: ConnectionContent): boolean {
  const names = ({ auth }: ConnectionContent) =>
    auth.kind === "key" ? auth.headerNames.map((name) => name.toLowerCase()).toSorted() : [];
  return (
    before.target !== after.target ||
    before.auth.kind !== after.auth.kind ||
    names(before).join() !== names(after).join()
  );
}

/** The ARM `authType` of an auth kind. */
export function authTypeOf(auth: ConnectionAuth): "None" | "CustomKeys" {
  switch (auth.kind) {
    case "none":
      return "None";
    case "key":
      return "CustomKeys";
  }
}

const LATER_KINDS = new Set([
  "OAuth2",
  "ProjectManagedIdentity",
  "UserEntraToken",
  "AgenticIdentityToken",
  "AgenticUser",
  "AgentUserImpersonation",
  "DeveloperConnection",
  "UserTokenAndProjectManagedIdentity",
]);

function refuseLaterKinds(authType: string | null, at: string): void {
  if (authType === null || !LATER_KINDS.has(authType)) return;
  throw new BrokerError("not_supported", { what: `authType ${authType}`, param: `${at}.authType` });
}

function authTypeFaults(authType: string | null, param: string): Fault[] {
  if (authType === null) return [{ param, message: "is required" }];
  if (authType === "None" || authType === "CustomKeys") return [];
  // Foundry takes these for other resources and refuses them for MCP servers, too.
  if (authType === "ApiKey")
    return [{ param, message: "must be CustomKeys: name the header in credentials.keys" }];
  return [{ param, message: "must be None or CustomKeys" }];
}

function readAuth(
  authType: string | null,
  keys: HeaderValues | null | undefined,
  existing: ConnectionAuth | null,
  param: string,
): { auth: ConnectionAuth; headers: HeaderValues | null; faults: Fault[] } {
  const none: ConnectionAuth = { kind: "none" };
  const isEmpty = !keys || Object.keys(keys).length === 0;
  if (authType !== "CustomKeys") {
    const faults =
      isEmpty || authType !== "None" ? [] : [{ param, message: "must be absent with authType None" }];
    return { auth: none, headers: null, faults };
  }
  // Null counts as not given: it is what a reader got, and sends back.
  if (!keys && existing?.kind === "key") return { auth: existing, headers: null, faults: [] };
  if (isEmpty) {
    const message = 'is required with authType CustomKeys: {"Header-Name": "value"}';
    return { auth: none, headers: null, faults: [{ param: `${param}.keys`, message }] };
  }
  const auth: ConnectionAuth = { kind: "key", headerNames: Object.keys(keys) };
  return { auth, headers: keys, faults: headerFaults(keys, `${param}.keys`) };
}

/**
 * Secrets that are kept stay with the server they were given for. An admin may not read them, and must not be able to
 * have them sent to a server of the own choice either.
 */
function strayFaults(
  existing: Connection | null,
  target: string | undefined,
  { kept }: { kept: boolean },
  param: string,
): Fault[] {
  if (!existing || !kept || target === undefined || !URL.canParse(target)) return [];
  if (new URL(target).origin === new URL(existing.target).origin) return [];
  return [{ param, message: "must be given again when the target moves to another origin" }];
}

function nameFaults(name: string): Fault[] {
  if (CONNECTION_NAME.test(name)) return [];
  const message = "must have 3 to 33 letters, digits, '_' or '-', and begin with a letter or digit";
  return [{ param: "name", message }];
}

function categoryFaults(category: string | undefined, param: string): Fault[] {
  if (category === undefined || category === "RemoteTool" || category === "RemoteTool_Preview") return [];
  return [{ param, message: "must be RemoteTool" }];
}

function targetFaults(
  target: string | undefined,
  checkTarget: (url: string) => string | null,
  param: string,
): Fault[] {
  if (target === undefined) return [{ param, message: "is required" }];
  if (target.length > MAX_TARGET_CHARS) {
    return [{ param, message: `must have at most ${MAX_TARGET_CHARS} characters` }];
  }
  if (!/^https?:\/\/[^\s\p{Cc}]+$/iu.test(target) || !URL.canParse(target)) {
    return [{ param, message: "must be an absolute https or http URL" }];
  }
  const url = new URL(target);
  const faults: Fault[] = [];
  if (url.username !== "" || url.password !== "") {
    faults.push({ param, message: "must not hold a user or password: use credentials.keys" });
  }
  if (target.includes("#")) faults.push({ param, message: "must not have a fragment" });
  const refusal = faults.length === 0 ? checkTarget(target) : null;
  if (refusal !== null) faults.push({ param, message: refusal });
  return faults;
}

function timeoutFaults(timeoutMs: number, param: string): Fault[] {
  const isRight = Number.isInteger(timeoutMs) && timeoutMs >= MIN_TIMEOUT_MS && timeoutMs <= MAX_TIMEOUT_MS;
  if (isRight) return [];
  return [{ param, message: `must be a whole number from ${MIN_TIMEOUT_MS} to ${MAX_TIMEOUT_MS}` }];
}

function metadataFaults(metadata: Record<string, string>, param: string): Fault[] {
  const entries = Object.entries(metadata);
  const total = entries.reduce((sum, [key, value]) => sum + key.length + value.length, 0);
  if (total <= MAX_METADATA_CHARS) return [];
  return [{ param, message: `must have at most ${MAX_METADATA_CHARS} characters together` }];
}

const MAX_TARGET_CHARS = 2_048;
const MAX_METADATA_CHARS = 32 * 1024;
