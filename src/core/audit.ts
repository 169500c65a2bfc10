import type { AuditId, UserId } from "./ids.ts";

/** Facts, named as they happened. */
export const AUDIT_EVENTS = [
  "project_created",
  "project_deleted",
  "settings_changed",
  "key_created",
  "key_rotated",
  "key_deleted",
  "user_blocked",
  "user_restored",
  "connection_created",
  "connection_changed",
  "connection_deleted",
  "connection_validated",
  "credentials_read",
  "tool_accepted",
  "tool_changed",
  "tools_listed",
  "tool_called",
  "tool_refused",
  "approval_requested",
  "approval_approved",
  "approval_denied",
  "approval_dispatched",
  "approval_superseded",
  "approval_cancelled",
  "agent_version_created",
  "agent_changed",
  "agent_deleted",
  "agent_version_deleted",
  "response_cancelled",
  "response_deleted",
  "conversation_deleted",
  "conversation_item_deleted",
  "connector_created",
  "connector_changed",
  "connector_deleted",
  "client_registered",
  "consent_opened",
  "consent_shown",
  "consent_allowed",
  "consent_declined",
  "consent_refused",
  "consent_failed",
  "me_link_made",
  "sign_in_failed",
  "grant_made",
  "grant_refreshed",
  "grant_failed",
  "grant_revoked",
] as const;
export type AuditEvent = (typeof AUDIT_EVENTS)[number];

/** One record: who did what, for whom, to what, and how it ended. Never a token, a secret or tool arguments. */
export type AuditEntry = {
  id: AuditId;
  project: string;
  at: number;
  event: AuditEvent;
  outcome: "ok" | "failed" | "refused";
  principal: string | null;
  user: UserId | null;
  connection: string | null;
  tool: string | null;
  agent: string | null;
  responseId: string | null;
  approvalId: string | null;
  requestId: string | null;
  /** Milliseconds that the thing took, where that says something. */
  durationMs: number | null;
  /** Small facts: codes, counts, digests, changed field names. */
  detail: Record<string, string | number | boolean | null>;
};
