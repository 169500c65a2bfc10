import type { ConversationId } from "./conversations.ts";
import type { ResponseId } from "./ids.ts";
import type { ConsentRequest, InputItem, Item } from "./items.ts";
import type { BrokerError } from "./errors.ts";
import type { HeaderValues } from "./connection.ts";
import type { Json, JsonObject } from "./json.ts";
import type { Owner } from "./identity.ts";
import type { ApprovalRule, ToolFilter } from "./policy.ts";
import type { ThreadId } from "./ids.ts";
import type { CallProgress } from "./ports.ts";

/** An MCP server that a request offers to the model, or calls explicitly. */
export type McpTool = {
  kind: "mcp";
  label: string;
  /** `project_connection_id`: a connection's name or its ARM id. Null: `label` may be a name. */
  connection: string | null;
  serverUrl: string | null;
  description: string | null;
  /** The request's own rule; omitted means `always`. */
  requireApproval: ApprovalRule;
  allowedTools: ToolFilter | null;
  /** A bare token and headers for a server without a connection. Secrets: never echoed, sealed when kept. */
  authorization: string | null;
  headers: HeaderValues;
};

export type FunctionTool = {
  kind: "function";
  name: string;
  description: string | null;
  parameters: JsonObject | null;
  strict: boolean | null;
};

export type Tool = McpTool | FunctionTool;

export type ToolChoice =
  | { kind: "auto" | "none" | "required" }
  | { kind: "function"; name: string }
  | { kind: "mcp"; label: string; name: string | null }
  | {
      kind: "allowed";
      mode: "auto" | "required";
      tools: ({ kind: "function"; name: string } | { kind: "mcp"; label: string; name: string | null })[];
    };

/** What steers the model and nothing else. Null: the caller did not say. */
export type Sampling = {
  temperature: number | null;
  topP: number | null;
  topLogprobs: number | null;
  maxOutputTokens: number | null;
  frequencyPenalty: number | null;
  presencePenalty: number | null;
  reasoning: { effort: string | null; summary: string | null } | null;
  /** `text.format` and `text.verbosity`. */
  textFormat: JsonObject | null;
  verbosity: string | null;
  promptCacheKey: string | null;
  serviceTier: string | null;
};

/** `POST …/responses`, parsed: what the caller asks for. Null: omitted (and then perhaps recovered from the chain). */
export type TurnRequest = {
  model: string | null;
  agent: { name: string; version: string | null } | null;
  input: InputItem[];
  instructions: string | null;
  tools: Tool[] | null;
  toolChoice: ToolChoice | null;
  parallelToolCalls: boolean | null;
  /** The most MCP calls that one response may make. */
  maxToolCalls: number | null;
  previousResponseId: string | null;
  /** Never beside `previousResponseId`. */
  conversation: string | null;
  store: boolean;
  sampling: Sampling;
  structuredInputs: Record<string, Json>;
  metadata: Record<string, string>;
  /** What the caller wants to see beside what everybody sees (`include`). */
  include: string[];
  /** Echoed only. */
  safetyIdentifier: string | null;
  user: string | null;
};

export type ResponseStatus = "queued" | "in_progress" | "completed" | "incomplete" | "failed" | "cancelled";

export type Usage = {
  inputTokens: number;
  cachedTokens: number;
  outputTokens: number;
  reasoningTokens: number;
};

export const NO_USAGE: Usage = { inputTokens: 0, cachedTokens: 0, outputTokens: 0, reasoningTokens: 0 };

export type ResponseError = { code: string; message: string };

/** One response without its items. What was asked for and recovered is echoed; secrets of its tools are not in here. */
export type Response = {
  id: ResponseId;
  project: string;
  owner: Owner;
  status: ResponseStatus;
  createdAt: number;
  completedAt: number | null;
  /** Null: a response without a model (`model:"none"` on the wire). */
  model: string | null;
  agent: { name: string; version: number } | null;
  previousResponseId: string | null;
  /** The conversation that it is part of. Left out: it was kept before there were any. */
  conversation?: ConversationId | null;
  instructions: string | null;
  /** With `authorization` null and `headers` empty. */
  tools: Tool[];
  toolChoice: ToolChoice;
  parallelToolCalls: boolean;
  maxToolCalls: number | null;
  store: boolean;
  /** It is made without its caller. Left out: it is not. */
  background?: boolean;
  sampling: Sampling;
  metadata: Record<string, string>;
  safetyIdentifier: string | null;
  user: string | null;
  usage: Usage;
  error: ResponseError | null;
  incompleteReason: string | null;
};

/** A stored response: a range of a thread. Positions count items from 0. */
export type StoredResponse = {
  response: Response;
  threadId: ThreadId;
  inputFrom: number;
  outputFrom: number;
  end: number;
  /** The inline `authorization` and `headers` of its tools, sealed; null where there are none. */
  sealedToolSecrets: Uint8Array | null;
};

/** A part of an item of reasoning. The parts of each kind are numbered by themselves. */
export type ReasoningEvent = {
  kind: "reasoning_part_added" | "reasoning_delta" | "reasoning_part_done";
  index: number;
  itemId: string;
  part: number;
  of: "summary" | "text";
  /** The piece, or the whole of the part. */
  text: string;
};

/** What a turn yields, in order; `http/sse` numbers and encodes it, `stream:false` drains it. */
export type TurnEvent =
  | { kind: "started"; response: Response }
  /** The two of a response in the background in its place: it waits, and somebody makes it. */
  | { kind: "queued" | "begun"; response: Response }
  | { kind: "item_added"; index: number; item: Item }
  | { kind: "list_progress"; index: number; itemId: string; state: "in_progress" | "completed" | "failed" }
  | { kind: "call_progress"; index: number; itemId: string; state: "in_progress" | "completed" | "failed" }
  /** A call under way tells how far it is, as often as it likes. */
  | { kind: "call_told"; index: number; itemId: string; progress: CallProgress }
  | { kind: "call_arguments"; index: number; itemId: string; arguments: string }
  | { kind: "function_arguments_delta"; index: number; itemId: string; delta: string }
  | { kind: "function_arguments_done"; index: number; itemId: string; name: string; arguments: string }
  | { kind: "part_added"; index: number; itemId: string; part: number; of: "output_text" | "refusal" }
  | {
      kind: "text_delta";
      index: number;
      itemId: string;
      part: number;
      of: "output_text" | "refusal";
      delta: string;
      logprobs?: Json[];
    }
  /** `at`: its number among the annotations of the part. */
  | {
      kind: "annotation_added";
      index: number;
      itemId: string;
      part: number;
      at: number;
      annotation: JsonObject;
    }
  | {
      kind: "part_done";
      index: number;
      itemId: string;
      part: number;
      of: "output_text" | "refusal";
      text: string;
      annotations?: Json[];
      logprobs?: Json[];
    }
  | ReasoningEvent
  | { kind: "item_done"; index: number; item: Item }
  /** Between the two of a consent item, for projects that want it (foundry-wire 9). */
  | { kind: "consent_requested"; index: number; item: ConsentRequest }
  /** `refusal`: what a part behind us threw, for a caller that has not been answered yet. */
  | { kind: "failed"; error: ResponseError; refusal: BrokerError | null }
  | { kind: "ended"; response: Response; output: Item[] };
