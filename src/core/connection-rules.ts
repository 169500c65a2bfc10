import {
  type Approvers,
  type Connection,
  CONNECTION_NAME,
  DEFAULT_TIMEOUT_MS,
  MAX_TIMEOUT_MS,
  MIN_TIMEOUT_MS,
} from "./connection.ts";
import {
  AUTH_TYPES,
  type AuthDraft,
  authTypeOf,
  placeOfAuth,
  readAuth,
  type SecretsBox,
} from "./connection-auth-rules.ts";
import type { CheckAudience } from "./connection-machine-rules.ts";
import { BrokerError, type Fault, invalid } from "./errors.ts";
import type { Found, Question } from "./oauth-app-rules.ts";
import type { ApprovalRule, ToolFilter } from "./policy.ts";
import type { Settings } from "./project.ts";
import type { CheckReference } from "./secret-references.ts";
import { type CheckTarget, urlFaults } from "./url-rules.ts";

/** A connection as an admin writes it. Undefined: not given. */
export type ConnectionDraft = AuthDraft & {
  category?: string | undefined;
  authType?: string | undefined;
  target?: string | undefined;
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
  "project" | "name" | "id" | "redirectId" | "version" | "generation" | "createdAt" | "updatedAt"
>;

/** What a draft comes to. `question` not null: ask it, and read the draft again with what was found. */
export type ReadConnection = { content: ConnectionContent; secrets: SecretsBox; question: Question | null };

/**
 * The rules of a connection (DESIGN 9), pure. `mode` "replace": a new one, or all of it anew; "change": what the draft does
 * not say stays, secrets included.
 *
 * Throws `not_supported` for auth kinds of later versions, else `invalid` with every fault, under `at`.
 */
export function readConnection(
  draft: ConnectionDraft,
  context: {
    name: string;
    /** Null: there is none of the name. */
    before: Connection | null;
    mode: "replace" | "change";
    settings: Settings;
    checkTarget: CheckTarget;
    checkAudience: CheckAudience;
    checkReference: CheckReference;
    /** The answer to the question of an earlier reading. */
    found: Found | null;
    /** Where the draft stands in the caller's body: `properties`. */
    at: string;
  },
): ReadConnection {
  const { at, checkTarget, mode } = context;
  const existing = mode === "change" ? context.before : null;
  const authType = draft.authType ?? (existing && authTypeOf(existing.auth));
  refuseLaterKinds(authType, at);
  const target = draft.target ?? existing?.target;
  const timeoutMs = draft.timeoutMs ?? existing?.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const metadata = draft.metadata ?? existing?.metadata ?? {};
  const wrongTarget =
    existing && draft.target === undefined ? [] : targetFaults(target, checkTarget, `${at}.target`);
  const { audience, ...withoutAudience } = metadata;
  const isForAudience = TAKES_AUDIENCE.has(authType ?? "");
  const auth = readAuth(authType, isForAudience ? withAudience(draft, audience) : draft, {
    ...context,
    existing: existing?.auth ?? null,
    target: wrongTarget.length === 0 ? (target ?? null) : null,
  });
  const isKept = auth.secrets.kind === "keep";
  const faults = [
    ...nameFaults(context.name),
    ...categoryFaults(draft.category, `${at}.category`),
    ...authTypeFaults(authType, `${at}.authType`),
    ...wrongTarget,
    ...auth.faults,
    ...(isForAudience ? audienceFaults(draft, audience, `${at}.metadata.audience`) : []),
    ...(isKept ? strayFaults(existing, target, `${at}.credentials`) : []),
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
    metadata: isForAudience ? withoutAudience : metadata,
    isDefault: draft.isDefault ?? existing?.isDefault ?? false,
  };
  return { content, secrets: auth.secrets, question: auth.question };
}

/** Whether held calls, pins and grants made for `before` mean something else now: another place, or other proof. */
export function isElsewhere(before: ConnectionContent, after: ConnectionContent): boolean {
  return before.target !== after.target || placeOfAuth(before.auth) !== placeOfAuth(after.auth);
}

/** Kinds whose audience Foundry's clients write into `metadata`, too (foundry-wire 7.1). There is one, and it is the auth's. */
const TAKES_AUDIENCE = new Set(["ProjectManagedIdentity", "AgenticIdentityToken", "UserEntraToken"]);

function withAudience(draft: ConnectionDraft, inMetadata: string | undefined): ConnectionDraft {
  if (inMetadata === undefined || draft.oauth?.audience != null) return draft;
  return { ...draft, oauth: { ...draft.oauth, audience: inMetadata } };
}

function audienceFaults({ oauth }: ConnectionDraft, inMetadata: string | undefined, param: string): Fault[] {
  const beside = oauth?.audience ?? null;
  if (inMetadata === undefined || beside === null || beside === inMetadata) return [];
  return [{ param, message: `is another audience than ${beside} beside it` }];
}

const LATER_KINDS = new Set([
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
  if (AUTH_TYPES.some((known) => known === authType)) return [];
  // Foundry takes these for other resources and refuses them for MCP servers, too.
  if (authType === "ApiKey")
    return [{ param, message: "must be CustomKeys: name the header in credentials.keys" }];
  return [{ param, message: `must be one of ${AUTH_TYPES.join(", ")}` }];
}

/**
 * Secrets that are kept stay with the server they were given for. An admin may not read them, and must not be able to
 * have them sent to a server of the own choice either. A client's secret is not sent there, but what is made with it is:
 * the tokens of its users.
 */
function strayFaults(existing: Connection | null, target: string | undefined, param: string): Fault[] {
  if (!existing || target === undefined || !URL.canParse(target)) return [];
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

function targetFaults(target: string | undefined, checkTarget: CheckTarget, param: string): Fault[] {
  if (target === undefined) return [{ param, message: "is required" }];
  return urlFaults(target, { checkTarget, param });
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

const MAX_METADATA_CHARS = 32 * 1024;
