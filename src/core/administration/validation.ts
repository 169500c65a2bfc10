import type { Desks } from "../approved.ts";
import { auditEntry, type Context } from "../context.ts";
import { diagnose, type Diagnosis } from "../diagnosis.ts";
import { isAllowed, needsApproval } from "../policy.ts";
import type { Connection } from "../connection.ts";
import type { McpTool } from "../request.ts";
import { serverOf } from "../servers.ts";
import { type KnownTool, openDoor } from "../tools.ts";
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

export type Validation = Diagnosis & { tools: JudgedTool[]; durationMs: number };

/**
 * Connects, lists the tools, and says what is wrong if something is. Goes through the same doors as every call: egress,
 * the sealed credential, pins, audit. Throws `not_found`.
 */
export async function validateConnection(
  { world, access, tools: desk }: Desks,
  context: Context,
  name: string,
): Promise<Validation> {
  const begun = world.clock.now();
  const record = await getRecord(world, context, name);
  const { connection } = record;
  const found = serverOf(toolFor(name), record);
  const server = { ...found, timeoutMs: Math.min(found.timeoutMs, MAX_WAIT_MS) };
  const door = await openDoor(access, context, server);
  const listing = await desk.list(context, server, { fresh: true });
  const known = listing.ok ? [...listing.tools.values()] : [];
  const seen = listing.ok
    ? { ok: true as const, tools: known.map((tool) => ({ ...tool, name: tool.definition.name })) }
    : listing;
  const headers = "failure" in door ? {} : door.headers;
  const hasApprover = connection.approvers === "caller" || (await someKeyApproves(world, context));
  const diagnosis = diagnose(connection, { headers, seen, hasApprover });
  const durationMs = world.clock.now() - begun;
  await world.audit.record(
    auditEntry(world, context, "connection_validated", {
      connection: name,
      outcome: diagnosis.ok ? "ok" : "failed",
      durationMs,
      detail: { cause: diagnosis.cause, tools: diagnosis.toolCount },
    }),
  );
  return { ...diagnosis, tools: known.map((tool) => judged(connection, tool)), durationMs };
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

async function someKeyApproves({ store, clock }: Desks["world"], context: Context): Promise<boolean> {
  const bootstrap = await store.keys.getBootstrap();
  const keys = [...(await store.keys.list(context.project.name)), ...(bootstrap ? [bootstrap] : [])];
  const isLive = (expiresAt: number | null) => expiresAt === null || expiresAt > clock.now();
  return keys.some((key) => key.roles.includes("approver") && isLive(key.expiresAt));
}

/** The connection asked for by nothing but its name. */
function toolFor(name: string): McpTool {
  return {
    kind: "mcp",
    label: name,
    connection: name,
    serverUrl: null,
    description: null,
    requireApproval: "never",
    allowedTools: null,
    authorization: null,
    headers: {},
  };
}
