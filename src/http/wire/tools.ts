import * as z from "zod";
import { invalid } from "../../core/errors.ts";
import { headerFaults } from "../../core/header-rules.ts";
import { isJsonObject, type JsonObject } from "../../core/json.ts";
import type { FunctionTool, McpTool, Tool, ToolChoice } from "../../core/request.ts";
import { label, name, strings } from "./common.ts";
import { refusal } from "./faults.ts";
import { approvalRule, readApprovalRule, readToolFilter, toolFilter } from "./policy.ts";
import { arrayOf, jsonObject, readAt, schemaOf, typed } from "./shape.ts";

const text = z.string();

const functionTool = z.object({
  name: text.regex(/^[a-zA-Z0-9_-]{1,64}$/, "must be 1 to 64 letters, digits, _ or -"),
  description: text.nullish(),
  parameters: jsonObject.nullish(),
  strict: z.boolean().nullish(),
});

const mcpTool = z.object({
  server_label: label,
  server_url: text.nullish(),
  server_description: text.nullish(),
  project_connection_id: text.min(1).max(1_024).nullish(),
  authorization: text.min(1).nullish(),
  headers: strings.nullish(),
});

/** Reads `tools`. Null: omitted. Throws `invalid` naming the tool and its field. */
export function readTools(value: unknown, param: string): Tool[] | null {
  if (value === null || value === undefined) return null;
  if (!Array.isArray(value)) throw invalid({ param, message: "must be an array of tools" });
  if (value.length > MAX_TOOLS) throw invalid({ param, message: `must have at most ${MAX_TOOLS} tools` });
  const tools = value.map((tool: unknown, at) => readTool(tool, `${param}[${at}]`));
  const seen = new Set<string>();
  for (const tool of tools) {
    if (tool.kind !== "function") continue;
    if (seen.has(tool.name)) throw invalid({ param, message: `has two functions named '${tool.name}'` });
    seen.add(tool.name);
  }
  return tools;
}

/** Of one request or agent: each server is asked what it has, and every answer names all of them. */
const MAX_TOOLS = 128;

/** `tools` as OpenAPI says it. */
export const toolsSchema: JsonObject = {
  type: "array",
  maxItems: MAX_TOOLS,
  items: {
    anyOf: [
      typed(
        "mcp",
        schemaOf(
          mcpTool.extend({ require_approval: approvalRule.optional(), allowed_tools: toolFilter.optional() }),
        ),
      ),
      typed("function", schemaOf(functionTool)),
    ],
  },
};

function readTool(value: unknown, param: string): Tool {
  if (!isJsonObject(value)) throw invalid({ param, message: "must be an object" });
  switch (value["type"]) {
    case "function":
      return readFunction(value, param);
    case "mcp":
      return readMcp(value, param);
    default:
      throw invalid({
        param: `${param}.type`,
        message: 'must be "mcp" or "function": other tools are not run here',
      });
  }
}

function readFunction(value: unknown, param: string): FunctionTool {
  const { name: own, description, parameters, strict } = readAt(functionTool, value, param);
  return {
    kind: "function",
    name: own,
    description: description ?? null,
    parameters: parameters ?? null,
    strict: strict ?? null,
  };
}

function readMcp(value: Record<string, unknown>, param: string): McpTool {
  const tool = readAt(mcpTool, value, param);
  const headers = tool.headers ?? {};
  const authorization = tool.authorization ?? null;
  const sent = authorization === null ? headers : { ...headers, authorization: `Bearer ${authorization}` };
  const both =
    authorization !== null && Object.keys(headers).some((header) => header.toLowerCase() === "authorization");
  const faults = [
    ...headerFaults(sent, `${param}.headers`),
    ...(both ? [{ param: `${param}.authorization`, message: "stands in headers, too" }] : []),
  ];
  if (faults.length > 0) throw refusal(faults);
  return {
    kind: "mcp",
    label: tool.server_label,
    connection: tool.project_connection_id ?? null,
    serverUrl: tool.server_url ?? null,
    description: tool.server_description ?? null,
    requireApproval: readApprovalRule(value["require_approval"], `${param}.require_approval`) ?? "always",
    allowedTools: readToolFilter(value["allowed_tools"], `${param}.allowed_tools`),
    authorization,
    headers,
  };
}

const named = z.object({ name });
const labelled = z.object({ server_label: label, name: name.nullish() });
const allowed = z.object({ mode: z.enum(["auto", "required"]), tools: arrayOf(jsonObject, MAX_TOOLS) });

/** Reads `tool_choice` in all its forms. Null: omitted. */
export function readToolChoice(value: unknown, param: string): ToolChoice | null {
  if (value === null || value === undefined) return null;
  if (value === "auto" || value === "none" || value === "required") return { kind: value };
  if (!isJsonObject(value)) {
    throw invalid({ param, message: 'must be "auto", "none", "required" or an object with a type' });
  }
  if (value["type"] !== "allowed_tools") return readOneTool(value, param);
  const { mode, tools } = readAt(allowed, value, param);
  return {
    kind: "allowed",
    mode,
    tools: tools.map((tool, at) => readOneTool(tool, `${param}.tools[${at}]`)),
  };
}

function readOneTool(value: unknown, param: string): ToolChoice & { kind: "function" | "mcp" } {
  const type = isJsonObject(value) ? value["type"] : undefined;
  if (type === "function") return { kind: "function", name: readAt(named, value, param).name };
  if (type === "mcp") {
    const chosen = readAt(labelled, value, param);
    return { kind: "mcp", label: chosen.server_label, name: chosen.name ?? null };
  }
  throw invalid({ param: `${param}.type`, message: 'must be "function", "mcp" or "allowed_tools"' });
}
