import type { Desks } from "../approved.ts";
import { auditEntry, type Context } from "../context.ts";
import { diagnose, type Diagnosis, type Seen } from "../diagnosis.ts";
import { consentNote, explainEnded } from "../diagnosis-grants.ts";
import { tokenVersionHint } from "../diagnosis-denials.ts";
import { isAllowed, needsApproval } from "../policy.ts";
import type { Connection, ConnectionRecord } from "../connection.ts";
import type { Principal } from "../machine-identity.ts";
import { serverOf, toolFor } from "../servers.ts";
import type { KnownTool } from "../tools.ts";
import {
  type AuthorizationReport,
  reportAuthorization,
  seeGrant,
  withGrant,
} from "./authorization-report.ts";
import { someoneApproves } from "./approvers.ts";
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
  const looked =
    found && !found.isUsable
      ? { diagnosis: found.diagnosis, known: [] }
      : await lookAtServer(desks, context, record);
  // Looking may have ended a grant: what is stored by now is what the next call meets.
  const seen = await seeGrant(world, context, record.connection);
  const note = consentNote(auth, seen);
  const principal = await principalOf(desks, context, record);
  const diagnosis = withMore(looked.diagnosis, { note, hint: hintOf(looked.diagnosis, principal) });
  const durationMs = world.clock.now() - begun;
  await world.audit.record(
    auditEntry(world, context, "connection_validated", {
      connection: name,
      outcome: diagnosis.ok ? "ok" : "failed",
      durationMs,
      detail: { cause: diagnosis.cause, tools: diagnosis.toolCount },
    }),
  );
  const tools = looked.known.map((tool) => judged(record.connection, tool));
  const report = found?.report ? withGrant(found.report, seen) : null;
  return { ...diagnosis, tools, authorization: report, principal, durationMs };
}

function hintOf({ cause }: Diagnosis, principal: Principal | null): string | null {
  return cause === "token_rejected" && principal ? tokenVersionHint(principal) : null;
}

function withMore(
  diagnosis: Diagnosis,
  { note, hint }: { note: string | null; hint: string | null },
): Diagnosis {
  return {
    ...diagnosis,
    hints: hint === null ? diagnosis.hints : [...diagnosis.hints, hint],
    notes: note === null ? diagnosis.notes : [...diagnosis.notes, note],
  };
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
    return { diagnosis: await withoutGrant(world, context, connection, failure.message), known: [] };
  }
  const known = listing.ok ? [...listing.tools.values()] : [];
  const seen: Seen = failure
    ? { ok: false, failure }
    : { ok: true, tools: known.map((tool) => ({ ...tool, name: tool.definition.name })) };
  // A key's form is looked at; a person's token is not.
  const door = connection.auth.kind === "key" ? await access.open(context, server) : null;
  const headers = door?.ok ? door.access.headers : {};
  const hasApprover = connection.approvers === "caller" || (await someoneApproves(world, context));
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

async function withoutGrant(
  world: Desks["world"],
  context: Context,
  connection: Connection,
  message: string,
): Promise<Diagnosis> {
  const { user, grant } = await seeGrant(world, context, connection);
  const hasEnded = user !== null && grant !== null && grant.status !== "active";
  // An active one: the server wants more than was granted, and the message says what.
  const finding = hasEnded
    ? explainEnded(user, grant)
    : { cause: "authorization" as const, message, hints: [] };
  return { ok: false, ...finding, notes: [], toolCount: null };
}

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
