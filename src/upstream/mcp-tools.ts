import { isJsonObject, type Json, type JsonObject } from "../core/json.ts";
import type { ToolDefinition, ToolResult, UpstreamFailure } from "../core/ports.ts";
import { MISSING_CAPABILITY } from "./mcp-declined.ts";
import { scanMirrored } from "./mcp-headers.ts";
import type { Line } from "./mcp-line.ts";
import { MAX_LIST_TTL_MS, MAX_LISTED_TOOLS } from "./mcp-limits.ts";

export type ToolPage = {
  /** How many it held, usable or not. */
  listed: number;
  tools: ToolDefinition[];
  dropped: { name: string; why: string }[];
  next: string | null;
  ttlMs: number | null;
};

/**
 * One page of `tools/list`. Null: it is none. A tool that cannot be used is dropped alone, with the reason. Of more tools
 * than a whole listing may have none is read.
 */
export function readPage(result: JsonObject, { era }: Line): ToolPage | null {
  const { tools, nextCursor, ttlMs } = result;
  if (!Array.isArray(tools)) return null;
  const page: ToolPage = {
    listed: tools.length,
    tools: [],
    dropped: [],
    // Some servers end their list with null or an empty cursor.
    next: typeof nextCursor === "string" && nextCursor !== "" ? nextCursor : null,
    ttlMs: typeof ttlMs === "number" && ttlMs >= 0 ? Math.min(ttlMs, MAX_LIST_TTL_MS) : null,
  };
  if (tools.length > MAX_LISTED_TOOLS) return page;
  for (const tool of tools) {
    const read = readTool(tool, era);
    if (typeof read === "string") page.dropped.push({ name: printableNameOf(tool), why: read });
    else page.tools.push(read);
  }
  return page;
}

/** What came of a call; or why the answer is not a tool's result. Content is passed on as it came. */
export function readResult(result: JsonObject, { era }: Pick<Line, "era">): ToolResult | UpstreamFailure {
  if (era === "modern" && result.resultType === "input_required") return asksForInput(result);
  if (!isKnownResult(result, { era })) return UNKNOWN_RESULT;
  const { content = [], structuredContent = null, isError } = result;
  if (!Array.isArray(content) || !content.every(isJsonObject)) {
    return { kind: "not_mcp", message: "The server answered the call with content that is not MCP's." };
  }
  return { content, structuredContent, isError: isError === true };
}

/** Whether a result is of a kind that 2026-07-28 knows ("Result Type"); the older revisions have one. */
export function isKnownResult({ resultType }: JsonObject, { era }: Pick<Line, "era">): boolean {
  return era === "legacy" || resultType === undefined || KNOWN_RESULTS.includes(resultType);
}

/** The server wants something of the user or their client in the middle of the call (2026-07-28, multi-round-trip). */
function asksForInput({ inputRequests }: JsonObject): UpstreamFailure {
  const methods = isJsonObject(inputRequests)
    ? Object.values(inputRequests).map((asked) => (isJsonObject(asked) ? asked.method : null))
    : [];
  const known = INPUTS.filter((method) => methods.includes(method));
  const what = known.length > 0 ? ` (${known.join(", ")})` : "";
  const message = `The tool asks for more input before it can finish${what}; calls through this broker cannot give it.`;
  return { kind: "protocol", code: MISSING_CAPABILITY, message };
}

function readTool(tool: Json, era: Line["era"]): ToolDefinition | string {
  if (!isJsonObject(tool)) return "it is not an object";
  const { name, title, description, inputSchema, outputSchema, annotations } = tool;
  if (typeof name !== "string" || !PRINTABLE_NAME.test(name)) {
    return "its name is not 1 to 128 printable characters";
  }
  if (!isJsonObject(inputSchema)) return "it has no input schema";
  const mirrored = era === "modern" ? scanMirrored(inputSchema) : null;
  if (mirrored?.ok === false) return mirrored.why;
  return {
    name,
    title: typeof title === "string" ? title : null,
    description: typeof description === "string" ? description : null,
    inputSchema,
    outputSchema: isJsonObject(outputSchema) ? outputSchema : null,
    annotations: isJsonObject(annotations) ? annotations : {},
  };
}

function printableNameOf(tool: Json): string {
  const name = isJsonObject(tool) ? tool.name : null;
  return typeof name === "string" && PRINTABLE_NAME.test(name) ? name : "?";
}

const KNOWN_RESULTS: Json[] = ["complete", "input_required"];
export const UNKNOWN_RESULT: UpstreamFailure = {
  kind: "not_mcp",
  message: "The server answered with a kind of result that is not known.",
};
const INPUTS = ["elicitation/create", "sampling/createMessage", "roots/list"];
// Letters, marks, digits, punctuation, symbols and inner spaces of any script: nothing that does not show.
const PRINTABLE_NAME = /^(?! )[\p{L}\p{M}\p{N}\p{P}\p{S} ]{1,128}(?<! )$/u;
