import type { AnySQLiteColumn } from "drizzle-orm/sqlite-core";
import type { OAuthApp, OAuthOverrides } from "../core/connection.ts";
import type { ConsentStatus, Handle, Registration } from "../core/consents.ts";
import type { GrantId, GrantStatus } from "../core/grants.ts";
import type { ConnectionId, ConsentId, UserId } from "../core/ids.ts";
import type { AuthServer, ClientAuth } from "../core/oauth.ts";
import type { ConsentProof } from "../core/project.ts";
import type { RedirectOwner } from "../core/connectors.ts";
import type { Columns } from "./columns.ts";

/**
 * What OAuth connections remember. Without foreign keys to connections: what was granted is still to be revoked when its
 * connection is gone.
 */
export const defineOAuthTables = (c: Columns, projects: { name: AnySQLiteColumn }) => {
  const writeId = () => c.text("write_id").notNull();
  const ofProject = () => c.text("project").references(() => projects.name, { onDelete: "cascade" });
  const connectionId = () => c.text("connection_id").$type<ConnectionId>().notNull();
  const user = () => c.text("user_id").$type<UserId>().notNull();

  const grants = c.table(
    "grants",
    {
      id: c.text("id").$type<GrantId>().primaryKey(),
      project: ofProject().notNull(),
      connectionId: connectionId(),
      user: user(),
      status: c.text("status").$type<GrantStatus>().notNull(),
      reason: c.text("reason"),
      issuer: c.text("issuer").notNull(),
      resource: c.text("resource"),
      clientGeneration: c.text("client_generation").notNull(),
      scopes: c.json<string[]>("scopes").notNull(),
      version: c.int("version").notNull(),
      sealed: c.bytes("sealed").notNull(),
      expiresAt: c.millis("expires_at"),
      hasRefreshToken: c.bool("has_refresh_token").notNull(),
      createdAt: c.millis("created_at").notNull(),
      refreshedAt: c.millis("refreshed_at"),
      lastUsedAt: c.millis("last_used_at"),
      lastUsedBy: c.text("last_used_by"),
      leaseUntil: c.millis("lease_until"),
      lease: c.text("lease"),
      /** Revoked here, and its authorization server was not told yet. */
      untold: c.bool("untold").notNull(),
      writeId: writeId(),
    },
    (t) => [
      c.uniqueIndex("grants_by_key").on(t.project, t.connectionId, t.user),
      c.index("grants_by_connection").on(t.project, t.connectionId, t.id),
      c.index("grants_by_user").on(t.project, t.user, t.id),
      c.index("grants_untold").on(t.untold, t.id),
    ],
  );

  const consents = c.table(
    "consents",
    {
      id: c.text("id").$type<ConsentId>().primaryKey(),
      project: ofProject().notNull(),
      connectionId: connectionId(),
      connection: c.text("connection").notNull(),
      generation: c.int("generation").notNull(),
      user: user(),
      principal: c.text("principal").notNull(),
      callerName: c.text("caller_name").notNull(),
      agent: c.text("agent"),
      requestId: c.text("request_id").notNull(),
      confirmUrl: c.text("confirm_url"),
      doneUrl: c.text("done_url"),
      why: c.text("why").notNull(),
      scopes: c.json<string[]>("scopes"),
      newScopes: c.json<string[]>("new_scopes").notNull(),
      status: c.text("status").$type<ConsentStatus>().notNull(),
      outcome: c.text("outcome"),
      createdAt: c.millis("created_at").notNull(),
      expiresAt: c.millis("expires_at").notNull(),
      shownAt: c.millis("shown_at"),
      endedAt: c.millis("ended_at"),
      browserHash: c.text("browser_hash"),
      provenBy: c.text("proven_by").$type<ConsentProof>(),
      redirectId: c.text("redirect_id"),
      stateHash: c.text("state_hash"),
      stateExpiresAt: c.millis("state_expires_at"),
      attempt: c.text("attempt"),
      sealedFlow: c.bytes("sealed_flow"),
      /** `indexKey` of project, connection and user while it is `open` or `authorizing`; null afterwards. */
      slot: c.text("slot"),
      writeId: writeId(),
    },
    (t) => [
      c.uniqueIndex("consents_by_slot").on(t.slot),
      c.uniqueIndex("consents_by_state").on(t.stateHash),
      c.index("consents_by_key").on(t.project, t.connectionId, t.user, t.createdAt),
      c.index("consents_by_user").on(t.project, t.user),
      c.index("consents_by_end").on(t.endedAt),
    ],
  );

  const registrations = c.table(
    "registrations",
    {
      id: c.text("id").$type<Registration["id"]>().primaryKey(),
      project: ofProject().notNull(),
      connectionId: connectionId(),
      generation: c.int("generation").notNull(),
      /** `indexKey` of the issuer. Null: its connection means something else now, or is gone. */
      issuerKey: c.text("issuer_key"),
      issuer: c.text("issuer").notNull(),
      kind: c.text("kind").$type<Registration["kind"]>().notNull(),
      server: c.json<AuthServer>("server").notNull(),
      resource: c.text("resource").notNull(),
      scopesSupported: c.json<string[]>("scopes_supported"),
      clientId: c.text("client_id").notNull(),
      clientAuth: c.text("client_auth").$type<ClientAuth>().notNull(),
      sealed: c.bytes("sealed"),
      expiresAt: c.millis("expires_at"),
      createdAt: c.millis("created_at").notNull(),
      discoveredAt: c.millis("discovered_at").notNull(),
      writeId: writeId(),
    },
    (t) => [
      c.uniqueIndex("registrations_by_issuer").on(t.project, t.connectionId, t.issuerKey),
      c.index("registrations_by_time").on(t.project, t.connectionId, t.discoveredAt),
    ],
  );

  const connectors = c.table("connectors", {
    name: c.text("name").primaryKey(),
    app: c.json<OAuthApp>("app").notNull(),
    scopes: c.json<string[]>("scopes"),
    overrides: c.json<OAuthOverrides>("overrides").notNull(),
    targets: c.json<string[]>("targets").notNull(),
    redirectId: c.text("redirect_id").notNull(),
    version: c.int("version").notNull(),
    generation: c.int("generation").notNull(),
    createdAt: c.millis("created_at").notNull(),
    updatedAt: c.millis("updated_at").notNull(),
    sealed: c.bytes("sealed"),
    writeId: writeId(),
  });

  const redirects = c.table(
    "redirects",
    {
      /** `indexKey` of the owner's kind, project and name. */
      ownerKey: c.text("owner_key").primaryKey(),
      id: c.text("id").notNull(),
      kind: c.text("kind").$type<RedirectOwner["kind"]>().notNull(),
      /** Null: a connector's. */
      project: ofProject(),
      name: c.text("name").notNull(),
      /** When its owner was deleted. Null: the owner is there. */
      agedAt: c.millis("aged_at"),
    },
    (t) => [c.uniqueIndex("redirects_by_id").on(t.id)],
  );

  const handles = c.table(
    "handles",
    {
      kind: c.text("kind").$type<Handle["kind"]>().notNull(),
      hash: c.text("hash").notNull(),
      project: ofProject().notNull(),
      subject: c.text("subject").notNull(),
      browserHash: c.text("browser_hash"),
      sealed: c.bytes("sealed"),
      createdAt: c.millis("created_at").notNull(),
      expiresAt: c.millis("expires_at").notNull(),
    },
    (t) => [
      c.primaryKey({ name: "handles_pk", columns: [t.kind, t.hash] }),
      c.index("handles_by_subject").on(t.project, t.kind, t.subject),
      c.index("handles_by_end").on(t.expiresAt),
    ],
  );

  return { grants, consents, registrations, connectors, redirects, handles };
};
