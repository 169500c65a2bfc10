import type { Item, ListedTool, Part } from "./items.ts";
import type { ModelExchange } from "./ports.ts";
import type { Ahead } from "./read-ahead.ts";
import type { Tool } from "./request.ts";

/** A text's bytes in UTF-8 for each token: about right for English and code, and too many rather than too few for most else. */
const BYTES_PER_TOKEN = 4;
/** What a message or a call costs beside its text. */
const TOKENS_PER_ITEM = 4;
/** A picture, a file or a recording: what it holds is not looked at. */
const TOKENS_PER_ATTACHMENT = 800;

/**
 * An estimate of what a model would be given for a request: instructions, the past and the input, functions, and tools of MCP
 * servers as far as the past has listed them. Every model counts in its own way, and asking the servers would be a call.
 */
export function estimateInputTokens({ settled, items, history }: Ahead): number {
  const instructions = settled.instructions === null ? 0 : TOKENS_PER_ITEM + textTokens(settled.instructions);
  const said = history.map((item) => TOKENS_PER_ITEM + itemTokens(item));
  const offered = settled.tools.map((tool) => toolTokens(tool, items));
  return [instructions, ...said, ...offered].reduce((sum, tokens) => sum + tokens, 0);
}

function textTokens(...texts: (string | null)[]): number {
  const encoder = new TextEncoder();
  const bytes = texts.reduce((sum, text) => sum + encoder.encode(text ?? "").byteLength, 0);
  return Math.ceil(bytes / BYTES_PER_TOKEN);
}

function itemTokens(item: Item | ModelExchange): number {
  switch (item.kind) {
    case "message":
      return partsTokens(item.content);
    case "call":
      return textTokens(item.name, item.arguments, item.output);
    case "function_call":
      return textTokens(item.name, item.arguments);
    case "function_call_output":
      return typeof item.output === "string" ? textTokens(item.output) : partsTokens(item.output);
    case "other":
      return textTokens(JSON.stringify(item.body));
    case "mcp_list_tools":
    case "mcp_approval_request":
    case "mcp_approval_response":
    case "mcp_call":
    case "oauth_consent_request":
    case "consent_notice":
      // Not told to a model as they are.
      return 0;
  }
}

function partsTokens(parts: Part[]): number {
  return parts.reduce((sum, part) => sum + partTokens(part), 0);
}

function partTokens(part: Part): number {
  switch (part.kind) {
    case "input_text":
    case "output_text":
      return textTokens(part.text);
    case "refusal":
      return textTokens(part.refusal);
    case "image":
    case "file":
    case "audio":
      return TOKENS_PER_ATTACHMENT;
    case "other":
      return textTokens(JSON.stringify(part.body));
  }
}

function toolTokens(tool: Tool, items: Item[]): number {
  if (tool.kind === "function") {
    const { name, description, parameters } = tool;
    return TOKENS_PER_ITEM + textTokens(name, description, JSON.stringify(parameters ?? {}));
  }
  const listed = items.findLast((item) => item.kind === "mcp_list_tools" && item.label === tool.label);
  if (listed?.kind !== "mcp_list_tools") return 0;
  const tokens = ({ name, description, inputSchema }: ListedTool) =>
    TOKENS_PER_ITEM + textTokens(tool.label, name, description, JSON.stringify(inputSchema));
  return listed.tools.reduce((sum, one) => sum + tokens(one), 0);
}
