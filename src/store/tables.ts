import type { AuditEntry } from "../core/audit.ts";
import type { Approvers, ConnectionAuth } from "../core/connection.ts";
import type { Right, Role } from "../core/identity.ts";
import type { AuditId, ConnectionId, HeldCallId, KeyId, ResponseId, ThreadId, UserId } from "../core/ids.ts";
import type { ApprovalRule, ToolFilter } from "../core/policy.ts";
import type { Settings } from "../core/project.ts";
import type { HeldCallStatus, User } from "../core/storage.ts";
import type { Agent, AgentIdentity } from "../core/agents.ts";
import type { SigningPurpose } from "../core/signing-keys.ts";
import type { Columns } from "./columns.ts";
import { defineBackgroundTables } from "./background-tables.ts";
import { defineConversationTables } from "./conversation-tables.ts";
import { defineIdempotencyTable } from "./idempotency-table.ts";
import { defineLeaseTable } from "./lease-table.ts";
import { defineOAuthTables } from "./oauth-tables.ts";

/**
 * All that we remember. `write_id` is the mark of the last list of statements that changed the row (engine.ts).
 * Deleting a project takes everything with it but its audit.
 */
export const defineTables = (c: Columns) => {
  const writeId = () => c.text("write_id").notNull();

  const projects = c.table("projects", {
    name: c.text("name").primaryKey(),
    settings: c.json<Settings>("settings").notNull(),
    sealed: c.bytes("sealed"),
    version: c.int("version").notNull(),
    createdAt: c.millis("created_at").notNull(),
    writeId: writeId(),
  });
  const inProject = () =>
    c
      .text("project")
      .notNull()
      .references(() => projects.name, { onDelete: "cascade" });

  const keys = c.table(
    "keys",
    {
      id: c.text("id").$type<KeyId>().primaryKey(),
      project: c.text("project").references(() => projects.name, { onDelete: "cascade" }),
      name: c.text("name").notNull(),
      principal: c.text("principal").notNull(),
      hash: c.text("hash").notNull(),
      roles: c.json<Role[]>("roles").notNull(),
      rights: c.json<Right[]>("rights").notNull(),
      createdAt: c.millis("created_at").notNull(),
      expiresAt: c.millis("expires_at"),
      confirmUrl: c.text("confirm_url"),
      doneUrl: c.text("done_url"),
      writeId: writeId(),
    },
    (t) => [
      c.uniqueIndex("keys_by_hash").on(t.hash),
      // Not unique: a rotated key keeps its name while it lasts.
      c.index("keys_by_project_and_name").on(t.project, t.name),
    ],
  );

  const users = c.table(
    "users",
    {
      project: inProject(),
      id: c.text("id").$type<UserId>().notNull(),
      status: c.text("status").$type<User["status"]>().notNull(),
      createdAt: c.millis("created_at").notNull(),
      writeId: writeId(),
    },
    (t) => [c.primaryKey({ name: "users_pk", columns: [t.project, t.id] })],
  );

  const connections = c.table(
    "connections",
    {
      id: c.text("id").$type<ConnectionId>().primaryKey(),
      project: inProject(),
      name: c.text("name").notNull(),
      target: c.text("target").notNull(),
      /** `indexKey` of the target's place. */
      place: c.text("place").notNull(),
      auth: c.json<ConnectionAuth>("auth").notNull(),
      requireApproval: c.json<ApprovalRule>("require_approval"),
      allowedTools: c.json<ToolFilter>("allowed_tools"),
      approvers: c.text("approvers").$type<Approvers>().notNull(),
      trustAnnotations: c.bool("trust_annotations").notNull(),
      timeoutMs: c.int("timeout_ms").notNull(),
      metadata: c.json<Record<string, string>>("metadata").notNull(),
      isDefault: c.bool("is_default").notNull(),
      redirectId: c.text("redirect_id"),
      version: c.int("version").notNull(),
      generation: c.int("generation").notNull(),
      createdAt: c.millis("created_at").notNull(),
      updatedAt: c.millis("updated_at").notNull(),
      sealed: c.bytes("sealed"),
      writeId: writeId(),
    },
    (t) => [
      c.uniqueIndex("connections_by_project_and_name").on(t.project, t.name),
      c.index("connections_by_place").on(t.project, t.place, t.name),
    ],
  );

  // Without a foreign key to connections: a listing that ends after its connection was deleted is no fault.
  const toolPins = c.table(
    "tool_pins",
    {
      project: inProject(),
      connectionId: c.text("connection_id").$type<ConnectionId>().notNull(),
      /** `indexKey` of the place. */
      place: c.text("place").notNull(),
      /** `indexKey` of the name: servers name their tools as they like. */
      toolKey: c.text("tool_key").notNull(),
      tool: c.text("tool").notNull(),
      pinned: c.text("pinned").notNull(),
      seen: c.text("seen").notNull(),
      seenAt: c.millis("seen_at").notNull(),
      writeId: writeId(),
    },
    (t) => [c.primaryKey({ name: "tool_pins_pk", columns: [t.project, t.connectionId, t.place, t.toolKey] })],
  );

  const agents = c.table(
    "agents",
    {
      project: inProject(),
      name: c.text("name").notNull(),
      state: c.text("state").$type<Agent["state"]>().notNull(),
      /** Agents that were made before there were identities share one. */
      identity: c.text("identity").$type<AgentIdentity>().notNull().default("shared"),
      createdAt: c.millis("created_at").notNull(),
      latest: c.int("latest").notNull(),
      /** The highest number ever given: deleting the latest version does not free its number. */
      highest: c.int("highest").notNull(),
      writeId: writeId(),
    },
    (t) => [c.primaryKey({ name: "agents_pk", columns: [t.project, t.name] })],
  );

  const agentVersions = c.table(
    "agent_versions",
    {
      project: c.text("project").notNull(),
      agent: c.text("agent").notNull(),
      version: c.int("version").notNull(),
      description: c.text("description"),
      metadata: c.json<Record<string, string>>("metadata").notNull(),
      definition: c.bytes("definition").notNull(),
      createdAt: c.millis("created_at").notNull(),
      writeId: writeId(),
    },
    (t) => [
      c.primaryKey({ name: "agent_versions_pk", columns: [t.project, t.agent, t.version] }),
      c
        .foreignKey({
          name: "agent_versions_of_agent",
          columns: [t.project, t.agent],
          foreignColumns: [agents.project, agents.name],
        })
        .onDelete("cascade"),
    ],
  );

  const threads = c.table(
    "threads",
    {
      id: c.text("id").$type<ThreadId>().primaryKey(),
      project: inProject(),
      length: c.int("length").notNull(),
      writeId: writeId(),
    },
    (t) => [c.index("threads_by_project").on(t.project)],
  );
  const inThread = () =>
    c
      .text("thread_id")
      .$type<ThreadId>()
      .notNull()
      .references(() => threads.id, { onDelete: "cascade" });

  const items = c.table(
    "items",
    {
      threadId: inThread(),
      position: c.int("position").notNull(),
      project: c.text("project").notNull(),
      /** `indexKey` of the item's id: clients name their items as they like. */
      id: c.text("id").notNull(),
      sealed: c.bytes("sealed").notNull(),
    },
    (t) => [
      c.primaryKey({ name: "items_pk", columns: [t.threadId, t.position] }),
      c.index("items_by_id").on(t.project, t.id),
    ],
  );

  const responses = c.table(
    "responses",
    {
      id: c.text("id").$type<ResponseId>().primaryKey(),
      project: c.text("project").notNull(),
      threadId: inThread(),
      inputFrom: c.int("input_from").notNull(),
      outputFrom: c.int("output_from").notNull(),
      end: c.int("end_position").notNull(),
      ownerUser: c.text("owner_user").$type<UserId>(),
      ownerPrincipal: c.text("owner_principal").notNull(),
      createdAt: c.millis("created_at").notNull(),
      body: c.bytes("body").notNull(),
      sealedToolSecrets: c.bytes("sealed_tool_secrets"),
      writeId: writeId(),
    },
    (t) => [
      c.index("responses_by_thread").on(t.threadId, t.end),
      c.index("responses_by_time").on(t.project, t.createdAt, t.id),
    ],
  );

  const heldCalls = c.table(
    "held_calls",
    {
      id: c.text("id").$type<HeldCallId>().primaryKey(),
      project: inProject(),
      ownerUser: c.text("owner_user").$type<UserId>(),
      ownerPrincipal: c.text("owner_principal").notNull(),
      responseId: c.text("response_id").$type<ResponseId>(),
      position: c.int("position").notNull(),
      model: c.text("model"),
      agentName: c.text("agent_name"),
      agentVersion: c.int("agent_version"),
      callId: c.text("call_id").notNull(),
      label: c.text("label").notNull(),
      connectionName: c.text("connection_name"),
      connectionId: c.text("connection_id").$type<ConnectionId>(),
      connectionGeneration: c.int("connection_generation"),
      connectionVersion: c.int("connection_version"),
      target: c.text("target").notNull(),
      tool: c.text("tool").notNull(),
      argumentsDigest: c.text("arguments_digest").notNull(),
      definitionHash: c.text("definition_hash").notNull(),
      approvers: c.text("approvers").$type<Approvers>().notNull(),
      sealed: c.bytes("sealed").notNull(),
      status: c.text("status").$type<HeldCallStatus>().notNull(),
      createdAt: c.millis("created_at").notNull(),
      expiresAt: c.millis("expires_at").notNull(),
      decidedAt: c.millis("decided_at"),
      decidedBy: c.text("decided_by"),
      sealedReason: c.bytes("sealed_reason"),
      leaseUntil: c.millis("lease_until"),
      sealedOutcome: c.bytes("sealed_outcome"),
      writeId: writeId(),
    },
    (t) => [
      c.index("held_calls_by_time").on(t.project, t.createdAt, t.id),
      c.index("held_calls_by_response").on(t.responseId),
      c.index("held_calls_by_status").on(t.status, t.expiresAt),
      c.index("held_calls_by_user").on(t.project, t.ownerUser),
    ],
  );

  // Of no project: an issuer is the broker's.
  const signingKeys = c.table(
    "signing_keys",
    {
      purpose: c.text("purpose").$type<SigningPurpose>().notNull(),
      seq: c.int("seq").notNull(),
      kid: c.text("kid").notNull(),
      sealed: c.bytes("sealed").notNull(),
      createdAt: c.millis("created_at").notNull(),
      notBefore: c.millis("not_before").notNull(),
    },
    (t) => [c.primaryKey({ name: "signing_keys_pk", columns: [t.purpose, t.seq] })],
  );

  // What did not fit into its row (boxes.ts).
  const boxChunks = c.table(
    "box_chunks",
    {
      project: inProject(),
      owner: c.text("owner").notNull(),
      part: c.int("part").notNull(),
      seq: c.int("seq").notNull(),
      bytes: c.bytes("bytes").notNull(),
    },
    (t) => [c.primaryKey({ name: "box_chunks_pk", columns: [t.project, t.owner, t.part, t.seq] })],
  );

  // Without foreign keys: the audit outlives what it speaks of.
  const audit = c.table(
    "audit",
    {
      id: c.text("id").$type<AuditId>().primaryKey(),
      project: c.text("project").notNull(),
      at: c.millis("at").notNull(),
      event: c.text("event").$type<AuditEntry["event"]>().notNull(),
      outcome: c.text("outcome").$type<AuditEntry["outcome"]>().notNull(),
      principal: c.text("principal"),
      user: c.text("user_id").$type<UserId>(),
      connection: c.text("connection"),
      tool: c.text("tool"),
      agent: c.text("agent"),
      responseId: c.text("response_id"),
      approvalId: c.text("approval_id"),
      requestId: c.text("request_id"),
      durationMs: c.millis("duration_ms"),
      detail: c.json<AuditEntry["detail"]>("detail").notNull(),
    },
    (t) => [c.index("audit_by_project").on(t.project, t.id)],
  );

  return {
    projects,
    keys,
    users,
    connections,
    toolPins,
    agents,
    agentVersions,
    threads,
    items,
    responses,
    ...defineConversationTables(c, { projects, threads }),
    heldCalls,
    ...defineIdempotencyTable(c, projects),
    ...defineLeaseTable(c),
    ...defineBackgroundTables(c, projects),
    ...defineOAuthTables(c, projects),
    signingKeys,
    boxChunks,
    audit,
  };
};

export type Tables = ReturnType<typeof defineTables>;
