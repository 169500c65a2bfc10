import { isJsonObject, type JsonObject } from "../core/json.ts";
import { traceFields, type Trace } from "../core/trace.ts";
import { headerValue } from "./mcp-headers.ts";
import type { RpcRequest } from "./mcp-message.ts";

/** How a server is spoken to, once that is known: without state, or in the session that `initialize` began. */
export type Line = { era: "modern"; version: string } | LegacyLine;
/** Its identity counts: a line that was lost is not mistaken for its successor. */
export type LegacyLine = { era: "legacy"; version: string; session: string | null };

export type ClientInfo = { name: string; version: string };

export type Question = {
  method: string;
  /** `_meta` of the caller's own is kept; what the revision wants there is ours. */
  params: JsonObject;
  /** `Mcp-Param-*` of this call. */
  mirrored: Record<string, string>;
  /** Told twice: to whoever reads headers on the way, and to the server, which may read `_meta` alone. */
  trace?: Trace | null;
  /** What the server is to name when it tells how far it is. Null: it is not asked to tell. */
  progressToken?: number | null;
};

/** A request as the line's revision wants it, with the headers that repeat it. */
export function phrase(
  line: Line,
  question: Question & { id: number },
  client: { info: ClientInfo; capabilities: JsonObject },
): { message: RpcRequest; headers: Record<string, string> } {
  const { id, method, progressToken = null } = question;
  const trace = traceFields(question.trace);
  const told = { ...trace, ...(progressToken !== null && { progressToken }) };
  const params = question.trace || progressToken !== null ? withMeta(question.params, told) : question.params;
  if (line.era === "legacy") {
    return { message: { jsonrpc: "2.0", id, method, params }, headers: { ...trace, ...lineHeaders(line) } };
  }
  // 2026-07-28: every request says by itself what `initialize` said once.
  const _meta: JsonObject = {
    ...metaOf(params),
    "io.modelcontextprotocol/protocolVersion": line.version,
    "io.modelcontextprotocol/clientInfo": client.info,
    "io.modelcontextprotocol/clientCapabilities": client.capabilities,
  };
  const name = params[NAMED_BY.get(method) ?? ""];
  return {
    message: { jsonrpc: "2.0", id, method, params: { ...params, _meta } },
    headers: {
      ...question.mirrored,
      ...trace,
      ...lineHeaders(line),
      "mcp-method": headerValue(method),
      ...(typeof name === "string" && { "mcp-name": headerValue(name) }),
    },
  };
}

function withMeta(params: JsonObject, more: JsonObject): JsonObject {
  return { ...params, _meta: { ...metaOf(params), ...more } };
}

function metaOf({ _meta }: JsonObject): JsonObject {
  return isJsonObject(_meta) ? _meta : {};
}

/** What every request of the line carries. */
export function lineHeaders(line: Line): Record<string, string> {
  const version = { "mcp-protocol-version": line.version };
  if (line.era === "modern" || line.session === null) return version;
  return { ...version, "mcp-session-id": line.session };
}

// What `Mcp-Name` repeats (2026-07-28, "Standard Request Headers").
const NAMED_BY = new Map([
  ["tools/call", "name"],
  ["prompts/get", "name"],
  ["resources/read", "uri"],
]);
