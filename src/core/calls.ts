import { type AccessDesk, type Failure, through } from "./access.ts";
import { progressWatch } from "./call-progress.ts";
import { auditEntry, type Context } from "./context.ts";
import type { CallError, ToolCall } from "./items.ts";
import {
  canonicalJson,
  isJsonObject,
  type Json,
  type JsonObject,
  nestsDeeperThan,
  withoutSpacing,
} from "./json.ts";
import type { CallProgress, ToolResult, World } from "./ports.ts";
import type { Server } from "./servers.ts";
import type { KnownTool } from "./tools.ts";

/** What came of a tool call: exactly one of the two is not null, unless the tool answered nothing. */
export type CallEnd = {
  output: string | null;
  error: CallError | null;
  /** The call was not made: the person must connect an account first. */
  consent?: (Failure & { kind: "consent" })["request"];
};

/** A call that may be made: judged, its arguments exactly as they will leave. */
export type ReadyCall = {
  server: Server;
  tool: KnownTool;
  arguments: string;
  /** Hears how far it is, where the turn is read as it goes. Null: nobody wants to. */
  report: ((progress: CallProgress) => void) | null;
};

/**
 * Makes one call, now, and records it. Never throws for what the server does: a failure is a `CallError`. Ends within
 * the connection's time limit, and at once when the caller leaves.
 */
export async function makeCall(
  world: World,
  access: AccessDesk,
  context: Context,
  call: ReadyCall,
  facts: { agent: string | null; responseId: string | null; approvalId: string | null },
): Promise<CallEnd> {
  const { server, tool, arguments: text } = call;
  const begun = world.clock.now();
  const name = tool.definition.name;
  const connection = server.record?.connection.name ?? null;
  const ongoing = world.observer.toolCallBegun(
    { project: context.project.name, connection },
    context.trace ?? null,
  );
  const traced = { ...context, trace: ongoing.trace };
  const end = await attempt(world, access, traced, call).catch((thrown: unknown) => {
    ongoing.ended("failed");
    throw thrown;
  });
  const error = end.error;
  ongoing.ended(end.consent ? "consent" : (error?.kind ?? "ok"));
  await world.audit.record(
    auditEntry(world, context, "tool_called", {
      ...facts,
      outcome: error ? "failed" : "ok",
      connection,
      tool: name,
      durationMs: world.clock.now() - begun,
      detail: {
        label: server.label,
        host: new URL(server.url).host,
        argumentsDigest: await world.crypto.sha256(text),
        error: error?.kind ?? null,
        code: error && error.kind !== "execution" ? error.code : null,
      },
    }),
  );
  return end;
}

async function attempt(
  world: World,
  access: AccessDesk,
  context: Context,
  call: ReadyCall,
): Promise<CallEnd> {
  const parsed = parseArguments(call.arguments);
  if (!parsed)
    return failed({ kind: "protocol", code: INVALID_PARAMS, message: "the arguments are not a JSON object" });
  const door = await access.open(context, call.server);
  if (!door.ok) return endOfFailure(door.failure);
  const { definition } = call.tool;
  const { timeoutMs } = call.server;
  const limits = {
    timeoutMs,
    signal: context.signal,
    trace: context.trace ?? null,
    progress: progressWatch(context, { timeoutMs, report: call.report }),
  };
  const outcome = await through(door, (to) =>
    world.upstream.callTool(to, { name: definition.name, arguments: parsed, definition }, limits),
  );
  if (!outcome.ok) return endOfFailure(outcome.failure);
  if (outcome.result.isError) return failed({ kind: "execution", content: outcome.result.content });
  return { output: outputText(outcome.result), error: null };
}

export const INVALID_PARAMS = -32602;
/** The person said no (DESIGN 6, resume). */
const DECLINED = -32001;
export const MAX_ARGUMENTS_DEPTH = 100;

export const unknownTool = (name: string): CallEnd =>
  failed({ kind: "protocol", code: INVALID_PARAMS, message: `Unknown tool: ${name}` });

export function failed(error: CallError): CallEnd {
  return { output: null, error };
}

/** How a call ends that did not get through to its server, or did not get well out of it. */
export function endOfFailure(failure: Failure): CallEnd {
  const end = failed(errorOf(failure));
  return failure.kind === "consent" ? { ...end, consent: failure.request } : end;
}

/** The arguments as an object. Null: they are not one. An empty text means no arguments, as some models write it. */
export function parseArguments(text: string): JsonObject | null {
  if (text.trim() === "") return {};
  if (nestsDeeperThan(text, MAX_ARGUMENTS_DEPTH)) return null;
  try {
    const value: Json = JSON.parse(text);
    return isJsonObject(value) ? value : null;
  } catch {
    return null;
  }
}

/**
 * The arguments as they will be sent. The text stays as it was written if it means the same to every reader; a
 * repeated key, a number that does not survive or an empty text is replaced by what is really sent, so that what a
 * person approves, what is digested and what leaves are one.
 */
export function asSent(text: string): string {
  const parsed = parseArguments(text);
  if (parsed === null) return text;
  const sent = JSON.stringify(parsed);
  return withoutSpacing(text) === sent ? text : sent;
}

/**
 * Text blocks joined by newline; anything else as `{content, structuredContent}`. Servers repeat structured content as
 * a text block for clients that cannot read it: then the text says all there is.
 */
export function outputText({ content, structuredContent }: ToolResult): string {
  const texts = content.map(textOf).filter((text) => text !== null);
  const isAllText = texts.length === content.length;
  if (isAllText && (structuredContent === null || isRepeated(structuredContent, texts)))
    return texts.join("\n");
  return JSON.stringify(structuredContent === null ? { content } : { content, structuredContent });
}

/** Looks at the first few texts only, and at none that is far longer: both are the server's to choose. */
function isRepeated(value: Json, texts: string[]): boolean {
  const canonical = canonicalJson(value);
  const candidates = texts.slice(0, 4).filter((text) => text.length <= canonical.length * 8 + 64);
  return candidates.some((text) => says(text, canonical));
}

function textOf(block: Json): string | null {
  if (!isJsonObject(block) || block["type"] !== "text") return null;
  return typeof block["text"] === "string" ? block["text"] : null;
}

function says(text: string, canonical: string): boolean {
  if (nestsDeeperThan(text, MAX_ARGUMENTS_DEPTH)) return false;
  try {
    const parsed: Json = JSON.parse(text);
    return canonicalJson(parsed) === canonical;
  } catch {
    return false;
  }
}

/** A failure in the shapes of `mcp_call.error`: JSON-RPC errors are protocol, all that kept us from one is http. */
export function errorOf(failure: Failure): CallError {
  switch (failure.kind) {
    case "protocol":
      return { kind: "protocol", code: failure.code, message: failure.message };
    case "http":
      return { kind: "http", code: failure.status, message: failure.message };
    case "timeout":
      return { kind: "http", code: 504, message: failure.message };
    case "refused":
    case "not_mcp":
    case "unreachable":
    case "too_large":
      return { kind: "http", code: 502, message: failure.message };
    case "no_credential":
      return { kind: "http", code: 503, message: failure.message };
    case "authorization":
      return { kind: "http", code: failure.transient ? 503 : 502, message: failure.message };
    case "consent":
    case "claims":
      return { kind: "http", code: 401, message: failure.message };
    case "declined":
      return { kind: "protocol", code: DECLINED, message: failure.message };
    case "cancelled":
      return { kind: "http", code: 499, message: failure.message };
  }
}

/** One sentence for a listing that failed; never an empty list in its place. */
export function failureText(failure: Failure): string {
  if (failure.kind === "http") return `HTTP ${failure.status} from MCP server: ${failure.message}`;
  if (failure.kind === "protocol") return `MCP error ${failure.code}: ${failure.message}`;
  return failure.message;
}

/** What a model is told of a failed call. */
export function failureSentence(error: CallError): string {
  switch (error.kind) {
    case "protocol":
      return `The call failed: MCP error ${error.code}: ${error.message}`;
    case "http":
      return `The call failed: HTTP ${error.code}: ${error.message}`;
    case "execution":
      return `The tool reported an error: ${outputText({ content: error.content, structuredContent: null, isError: true })}`;
  }
}

/** The call as the item that the caller sees. */
export function callItem(
  call: { id: string; label: string; name: string; arguments: string; approvalRequestId: string | null },
  end: CallEnd,
): ToolCall {
  const { output, error, consent } = end;
  const item = {
    kind: "mcp_call" as const,
    ...call,
    status: error ? ("failed" as const) : ("completed" as const),
  };
  return { ...item, output, error, ...(consent && { awaits: consent.id }) };
}

/** The same call, before its end is known. */
export function callUnderWay(call: {
  id: string;
  label: string;
  name: string;
  approvalRequestId: string | null;
}): ToolCall {
  return { kind: "mcp_call", ...call, arguments: "", status: "in_progress", output: null, error: null };
}
