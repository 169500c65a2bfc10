import type { Json, JsonObject } from "./json.ts";

/** How far an item has come. */
export type ItemStatus = "in_progress" | "completed" | "incomplete" | "failed";

/** A part of a message. What the broker does not read itself travels as `other`, untouched. */
export type Part =
  | { kind: "input_text"; text: string }
  | { kind: "output_text"; text: string; annotations: Json[]; logprobs: Json[] }
  | { kind: "refusal"; refusal: string }
  | { kind: "image"; url: string | null; fileId: string | null; detail: string | null }
  | { kind: "file"; name: string | null; data: string | null; url: string | null; fileId: string | null }
  | { kind: "audio"; data: string; format: string }
  | { kind: "other"; body: JsonObject };

export type Message = {
  kind: "message";
  id: string;
  role: "user" | "assistant" | "system" | "developer";
  status: ItemStatus;
  content: Part[];
  /** Whether a model said it on the way or as its answer, in its own word: some want it back. */
  phase?: string;
};

/** A call of one of the client's own functions, made by the model and answered by the client. */
export type FunctionCall = {
  kind: "function_call";
  id: string;
  callId: string;
  name: string;
  arguments: string;
  status: ItemStatus;
};

export type FunctionCallOutput = {
  kind: "function_call_output";
  id: string;
  callId: string;
  output: string | Part[];
  status: ItemStatus;
};

/** One tool as the caller sees it. `annotations.read_only` is computed by us; the server's hints stand beside it. */
export type ListedTool = {
  name: string;
  description: string;
  inputSchema: JsonObject;
  annotations: JsonObject;
};

export type ToolList = {
  kind: "mcp_list_tools";
  id: string;
  label: string;
  tools: ListedTool[];
  /** Why the listing failed. Null: it did not. */
  error: string | null;
};

export type ApprovalRequest = {
  kind: "mcp_approval_request";
  id: string;
  label: string;
  name: string;
  arguments: string;
};

export type ApprovalResponse = {
  kind: "mcp_approval_response";
  id: string;
  requestId: string;
  approve: boolean;
  reason: string | null;
};

/** Why a tool call failed, in the three shapes of the Responses API (`mcp_call.error`). */
export type CallError =
  | { kind: "protocol"; code: number; message: string }
  | { kind: "execution"; content: Json[] }
  | { kind: "http"; code: number; message: string };

export type ToolCall = {
  kind: "mcp_call";
  id: string;
  label: string;
  name: string;
  /** The exact JSON text that was sent. */
  arguments: string;
  /** `calling` occurs on input only: an explicit call that the caller wants made. */
  status: ItemStatus | "calling";
  output: string | null;
  error: CallError | null;
  approvalRequestId: string | null;
  /** Not run, because this consent is missing: with the consent the same id may be asked for again. Never on the wire. */
  awaits?: string;
};

/** Asks the person to connect an account: the consent's own id, and the link to its page. */
export type ConsentRequest = {
  kind: "oauth_consent_request";
  id: string;
  label: string;
  /** Made when it is read and never stored (DESIGN 6); empty in a stored item. */
  link: string;
};

/** The same in words, for clients that show messages only: an assistant's message on the wire. */
export type ConsentNotice = {
  kind: "consent_notice";
  id: string;
  requests: { id: string; label: string; link: string }[];
};

/** An item that the broker carries for the model and does not read (reasoning, compaction, future kinds). */
export type OtherItem = {
  kind: "other";
  id: string;
  body: JsonObject;
  /** The model that made it, where one did: nobody else can read its reasoning. Never on the wire. */
  origin?: string;
  /** How many calls the model had made in the same breath when it came: reasoning has its place among them. Never on the wire. */
  after?: number;
};

/** A pointer to an item that we hold; resolved before a turn begins. */
export type Reference = { kind: "reference"; id: string };

export type Item =
  | Message
  | FunctionCall
  | FunctionCallOutput
  | ToolList
  | ApprovalRequest
  | ApprovalResponse
  | ToolCall
  | ConsentRequest
  | ConsentNotice
  | OtherItem;

export type InputItem = Item | Reference;
