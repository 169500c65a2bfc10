import { noticeText } from "../../core/consent-notice.ts";
import type { CallError, Item, OtherItem, Part } from "../../core/items.ts";
import type { JsonObject } from "../../core/json.ts";

/** An item as the wire says it (responses-wire 4.1), for somebody who asked for no more than everybody sees. */
export function writeItem(item: Item): JsonObject {
  return writeItemWith(item, []);
}

/** The same for a caller who asked for more: `include` as the API has it. */
export function writeItemWith(item: Item, include: readonly string[]): JsonObject {
  switch (item.kind) {
    case "message": {
      const { id: own, role, status: state, content, phase } = item;
      const said = phase === undefined ? {} : { phase };
      return { type: "message", id: own, role, status: state, content: content.map(writePart), ...said };
    }
    case "function_call": {
      const { id: own, callId, name, arguments: args, status: state } = item;
      return { type: "function_call", id: own, call_id: callId, name, arguments: args, status: state };
    }
    case "function_call_output": {
      const { id: own, callId, status: state } = item;
      const output = typeof item.output === "string" ? item.output : item.output.map(writePart);
      return { type: "function_call_output", id: own, call_id: callId, output, status: state };
    }
    case "mcp_list_tools": {
      const tools = item.tools.map(({ inputSchema: input_schema, ...tool }) => ({ ...tool, input_schema }));
      const list = { type: "mcp_list_tools", id: item.id, server_label: item.label, tools };
      // Clients reject a null here.
      return item.error === null ? list : { ...list, error: item.error };
    }
    case "mcp_approval_request": {
      const { id: own, label, name, arguments: args } = item;
      return { type: "mcp_approval_request", id: own, server_label: label, name, arguments: args };
    }
    case "mcp_approval_response": {
      const { id: own, requestId, approve, reason } = item;
      return { type: "mcp_approval_response", id: own, approval_request_id: requestId, approve, reason };
    }
    case "mcp_call":
      return {
        type: "mcp_call",
        id: item.id,
        status: item.status,
        approval_request_id: item.approvalRequestId,
        server_label: item.label,
        name: item.name,
        arguments: item.arguments,
        output: item.output,
        error: item.error && writeCallError(item.error),
      };
    case "oauth_consent_request":
      return {
        type: "oauth_consent_request",
        id: item.id,
        created_by: {},
        consent_link: item.link,
        server_label: item.label,
      };
    case "consent_notice":
      return {
        type: "message",
        id: item.id,
        role: "assistant",
        status: "completed",
        content: [{ type: "output_text", text: noticeText(item), annotations: [], logprobs: [] }],
      };
    case "other":
      return writeOther(item, include);
  }
}

/** Reasoning is kept in its encrypted form as well, and shown in it on request. */
function writeOther({ id, body }: OtherItem, include: readonly string[]): JsonObject {
  if (body["type"] !== "reasoning" || include.includes("reasoning.encrypted_content")) return { ...body, id };
  const { encrypted_content: _, ...shown } = body;
  return { ...shown, id };
}

function writeCallError(error: CallError): JsonObject {
  switch (error.kind) {
    case "protocol":
      return { type: "mcp_protocol_error", code: error.code, message: error.message };
    case "execution":
      return { type: "mcp_tool_execution_error", content: error.content };
    case "http":
      return { type: "http_error", code: error.code, message: error.message };
  }
}

function writePart(part: Part): JsonObject {
  switch (part.kind) {
    case "input_text":
      return { type: "input_text", text: part.text };
    case "output_text":
      return { type: "output_text", text: part.text, annotations: part.annotations, logprobs: part.logprobs };
    case "refusal":
      return { type: "refusal", refusal: part.refusal };
    case "image":
      return {
        type: "input_image",
        image_url: part.url,
        file_id: part.fileId,
        detail: part.detail ?? "auto",
      };
    case "file":
      return {
        type: "input_file",
        ...(part.name !== null && { filename: part.name }),
        ...(part.data !== null && { file_data: part.data }),
        ...(part.url !== null && { file_url: part.url }),
        ...(part.fileId !== null && { file_id: part.fileId }),
      };
    case "audio":
      return { type: "input_audio", input_audio: { data: part.data, format: part.format } };
    case "other":
      return part.body;
  }
}
