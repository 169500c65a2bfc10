import type { Desks } from "../approved.ts";
import { auditEntry, type Context } from "../context.ts";
import { diagnose, type Diagnosis, type Seen } from "../diagnosis.ts";
import { isAllowed, needsApproval } from "../policy.ts";
import type { Connection, ConnectionRecord } from "../connection.ts";
import type { Principal } from "../machine-identity.ts";
import { serverOf, toolFor } from "../servers.ts";
import type { KnownTool } from "../tools.ts";
import { type AuthorizationReport, reportAuthorization } from "./authorization-report.ts";
import { getRecord } from "./connections.ts";

/** A tool as the connection's own settings judge it; a request can ask for more approval, never for less. */
export type JudgedTool = {
  name: string;
  description: string | null;
  readOnly: boolean;
  allowed: boolean;
  /** True whatever a request says. Null: the request's own rule decides, `always` where it has none. */
  needsApproval: true | null;
  changed: boolean;
  hash: string;
};

export type Validation = Diagnosis & {
  tools: JudgedTool[];
  /** Null: the connection is none of OAuth, or its authorization cannot be found out. */
  authorization: AuthorizationReport | null;
  /** Whom the server sees, of a connection with an identity; null: it has none, or nothing tells yet. */
  principal: Principal | null;
  durationMs: number;
};

/**
 * Connects, lists the tools, and says what is wrong if something is. Goes through the same doors as every call: egress,
 * the sealed credential, pins, audit. Where each user has an own account and the caller's has none, it looks whether people
 * can be asked, and asks nobody. Throws `not_found`.
 */
export async function validateConnection(desks: Desks, context: Context, name: string): Promise<Validation> {
  const { world } = desks;
  const begun = world.clock.now();
  const record = await getRecord(world, context, name);
  const { auth } = record.connection;
  const outside = { world, authorization: desks.access.authorization };
  const found = auth.kind === "oauth" ? await reportAuthorization(outside, context, record) : null;
  const seen =
    found && !found.isUsable
      ? { diagnosis: found.diagnosis, known: [] }
      : await lookAtServer(desks, context, record);
  const { diagnosis, known } = seen;
  const durationMs = world.clock.now() - begun;
  await world.audit.record(
    auditEntry(world, context, "connection_validated", {
      connection: name,
      outcome: diagnosis.ok ? "ok" : "failed",
      durationMs,
      detail: { cause: diagnosis.cause, tools: diagnosis.toolCount },
    }),
  );
  const tools = known.map((tool) => judged(record.connection, tool));
  const principal = await principalOf(desks, context, record);
  return { ...diagnosis, tools, authorization: found?.report ?? null, principal, durationMs };
}

async function lookAtServer(
  { world, access, tools: desk }: Desks,
  context: Context,
  record: ConnectionRecord,
): Promise<{ diagnosis: Diagnosis; known: KnownTool[] }> {
  const { connection } = record;
  const found = serverOf(toolFor(connection.name), record);
  const server = { ...found, timeoutMs: Math.min(found.timeoutMs, MAX_WAIT_MS) };
  const listing = await desk.list(context, server, { fresh: true });
  const failure = listing.ok ? null : listing.failure;
  if (failure?.kind === "consent" || failure?.kind === "declined") {
    return { diagnosis: { ...WITHOUT_GRANT, message: failure.message }, known: [] };
  }
  const known = listing.ok ? [...listing.tools.values()] : [];
  const seen: Seen = failure
    ? { ok: false, failure }
    : { ok: true, tools: known.map((tool) => ({ ...tool, name: tool.definition.name })) };
  // A key's form is looked at; a person's token is not.
  const door = connection.auth.kind === "key" ? await access.open(context, server) : null;
  const headers = door?.ok ? door.access.headers : {};
  const hasApprover = connection.approvers === "caller" || (await someKeyApproves(world, context));
  return { diagnosis: diagnose(connection, { headers, seen, hasApprover }), known };
}

async function principalOf(
  { access }: Desks,
  context: Context,
  record: ConnectionRecord,
): Promise<Principal | null> {
  const { auth, name } = record.connection;
  if (auth.kind !== "identity") return null;
  return (await access.principal({ context, server: serverOf(toolFor(name), record), record, auth }))
    .principal;
}

const WITHOUT_GRANT: Omit<Diagnosis, "message"> = {
  ok: false,
  cause: "authorization",
  hints: ["The server, or its authorization server, takes the user's grant no longer."],
  notes: [],
  toolCount: null,
};

/** Somebody waits for the answer: this is not the time for a tool's ten minutes. */
const MAX_WAIT_MS = 30_000;

function judged(connection: Connection, { definition, readOnly, changed, hash }: KnownTool): JudgedTool {
  const { name, description } = definition;
  const facts = { name, readOnly };
  const rule = connection.requireApproval;
  return {
    name,
    description,
    readOnly,
    allowed: isAllowed(connection.allowedTools, facts),
    needsApproval: changed || (rule !== null && needsApproval(rule, facts)) ? true : null,
    changed,
    hash,
  };
}

async function someKeyApproves({ store, clock }: Desks["world"], context: Context): Promise<boolean> {
  const bootstrap = await store.keys.getBootstrap();
  const keys = [...(await store.keys.list(context.project.name)), ...(bootstrap ? [bootstrap] : [])];
  const isLive = (expiresAt: number | null) => expiresAt === null || expiresAt > clock.now();
  return keys.some((key) => key.roles.includes("approver") && isLive(key.expiresAt));
}
