import type { Desks } from "../approved.ts";
import { asAgent } from "./acting.ts";
import { failureText } from "../calls.ts";
import type { Connection, ConnectionAuth, ConnectionRecord } from "../connection.ts";
import type { Context } from "../context.ts";
import { BrokerError } from "../errors.ts";
import type { GrantStatus } from "../grants.ts";
import type { UserId } from "../ids.ts";
import type { Principal } from "../machine-identity.ts";
import { serverOf, toolFor } from "../servers.ts";
import type { Listed, Page } from "../storage.ts";
import { userTokenWay } from "../user-token-way.ts";

/** As whom a connection would call, for this caller now. */
export type Presented =
  | { kind: "nobody" }
  | { kind: "key"; headerNames: string[] }
  /** The user's own account at the server. */
  | { kind: "account"; user: UserId | null; status: GrantStatus | "none" }
  | { kind: "identity"; of: "project" | "agent"; audience: string; principal: Principal | null }
  /** The person, by an exchange of the token that the request came with. */
  | { kind: "person"; user: UserId | null; audience: string }
  | { kind: "client"; clientId: string; issuer: string };

/** `fault`: why nothing would be called, as a sentence. */
export type Presentation = { connection: Connection; presents: Presented; fault: string | null };

/**
 * Shows as whom each connection would call, in order of their names: for the user of this request, and as the agent, if one is
 * named. Opens no consent and calls no server; an identity whose principal nothing else tells is asked for a token.
 *
 * Throws `not_found` for an agent that is unknown here.
 */
export async function whoAmI(
  desks: Desks,
  context: Context,
  query: { agent: string | null; connection: string | null },
  page: Page,
): Promise<Listed<Presentation>> {
  const acting = await asAgent(desks.world, context, query.agent);
  const found = await recordsOf(desks, context, query.connection, page);
  const rows = await Promise.all(found.rows.map((record) => presentation(desks, acting, record)));
  return { ...found, rows };
}

async function recordsOf(
  { world }: Desks,
  { project }: Context,
  name: string | null,
  page: Page,
): Promise<Listed<ConnectionRecord>> {
  if (name === null) return world.store.connections.list(project.name, {}, page);
  const record = await world.store.connections.get(project.name, name);
  if (!record) throw new BrokerError("not_found", { what: "connection", name });
  return { rows: [record], more: false };
}

async function presentation(desks: Desks, context: Context, record: ConnectionRecord): Promise<Presentation> {
  const { connection } = record;
  return { connection, ...(await presentedBy(desks, context, record, connection.auth)) };
}

async function presentedBy(
  desks: Desks,
  context: Context,
  record: ConnectionRecord,
  auth: ConnectionAuth,
): Promise<Pick<Presentation, "presents" | "fault">> {
  const { user } = context;
  switch (auth.kind) {
    case "none":
      return { presents: { kind: "nobody" }, fault: null };
    case "key":
      return {
        presents: { kind: "key", headerNames: auth.headerNames },
        fault: auth.references === undefined ? null : await elsewhereFault(desks, context, record),
      };
    case "oauth": {
      const { project, id: connectionId } = record.connection;
      const grant = user && (await desks.world.store.grants.get({ project, connectionId, user }));
      const status = grant?.status ?? "none";
      const fault = user === null ? NO_USER : status === "active" ? null : NO_CONSENT;
      return { presents: { kind: "account", user, status }, fault };
    }
    case "identity": {
      const { of, audience } = auth;
      const server = serverOf(toolFor(record.connection.name), record);
      const { principal, fault } = await desks.access.principal({ context, server, record, auth });
      return { presents: { kind: "identity", of, audience, principal }, fault };
    }
    case "user_token": {
      const way = userTokenWay(desks.world, context, { record, auth });
      const fault = way.ok ? null : way.message;
      return { presents: { kind: "person", user, audience: auth.audience }, fault };
    }
    case "client_credentials": {
      const { clientId, server } = auth.client;
      return { presents: { kind: "client", clientId, issuer: server.issuer }, fault: null };
    }
  }
}

/** Why what is kept elsewhere cannot be had. */
async function elsewhereFault(
  { access }: Desks,
  context: Context,
  record: ConnectionRecord,
): Promise<string | null> {
  const door = await access.open(context, serverOf(toolFor(record.connection.name), record));
  return door.ok ? null : failureText(door.failure);
}

const NO_USER =
  "calls are made with the account of a user, and this request names none: send x-ms-user-identity";
const NO_CONSENT = "the user has connected no account, or it has ended: the next call asks for it";
