import type OpenAI from "openai";
import type { FunctionCallOutput, Item, Message } from "../core/items.ts";
import type { ModelExchange } from "../core/ports.ts";
import { createCallIds, NO_OUTPUT, orphan, outputsByCall } from "./model-history.ts";
import { outputText, textOf, userPart } from "./model-parts.ts";

type ChatMessage = OpenAI.ChatCompletionMessageParam;
type AssistantTurn = {
  message: OpenAI.ChatCompletionAssistantMessageParam;
  results: OpenAI.ChatCompletionToolMessageParam[];
};

/**
 * A history as messages of Chat Completions. Text and the calls after it are one assistant turn, calls that follow each
 * other are made in parallel, and every call is followed by its result, as upstreams demand. What Chat Completions has
 * no place for (reasoning, tool lists, approvals) is left out.
 *
 * Throws `invalid` for an output without its call, and `not_supported` for content that cannot be said in this API.
 */
export function chatMessages(instructions: string | null, history: (Item | ModelExchange)[]): ChatMessage[] {
  const messages: ChatMessage[] = [];
  const outputs = outputsByCall(history);
  const answered = new Set<FunctionCallOutput>();
  const ids = createCallIds({ maxChars: MAX_ID_CHARS });
  let turn: AssistantTurn | null = null;

  const endTurn = () => {
    if (turn) messages.push(turn.message, ...turn.results);
    turn = null;
  };
  const addCall = (call: { callId: string; name: string; arguments: string; output: string }) => {
    turn ??= { message: { role: "assistant", content: null }, results: [] };
    const id = ids.next(call.callId);
    const called = { name: call.name, arguments: call.arguments.trim() || "{}" };
    turn.message.tool_calls = [
      ...(turn.message.tool_calls ?? []),
      { id, type: "function", function: called },
    ];
    turn.results.push({ role: "tool", tool_call_id: id, content: call.output });
  };
  const addMessage = (message: Message) => {
    endTurn();
    const said = chatMessage(message);
    if (!said) return;
    if (said.role === "assistant") turn = { message: said, results: [] };
    else addUnlessJoined(messages, said);
  };

  if (instructions !== null) messages.push({ role: "system", content: instructions });
  for (const item of history) {
    switch (item.kind) {
      case "message":
        addMessage(item);
        break;
      case "call":
        addCall(item);
        break;
      case "function_call": {
        const output = outputs.get(item.callId)?.shift();
        if (output) answered.add(output);
        addCall({ ...item, output: output ? outputText(output) : NO_OUTPUT });
        break;
      }
      case "function_call_output":
        if (!answered.has(item)) throw orphan(item);
        // What comes after an answer was said knowing it, so it is a turn of its own.
        endTurn();
        break;
      case "mcp_list_tools":
      case "mcp_approval_request":
      case "mcp_approval_response":
      case "mcp_call":
      case "other":
        break;
    }
  }
  endTurn();
  return messages;
}

/** OpenAI takes no longer ones. */
const MAX_ID_CHARS = 40;

/** Null: it holds nothing. */
function chatMessage({ role, content }: Message): Exclude<ChatMessage, { role: "function" }> | null {
  switch (role) {
    case "system":
    case "developer": {
      // Many upstreams do not know `developer`; those that do read `system` as the same.
      const text = textOf(content, role);
      return text === "" ? null : { role: "system", content: text };
    }
    case "assistant": {
      // A refusal goes back as what was said: only some upstreams know a field for it.
      const text = textOf(content, role);
      return text === "" ? null : { role: "assistant", content: text };
    }
    case "user": {
      const parts = content.map(userPart);
      const [first] = parts;
      if (!first) return null;
      return { role: "user", content: parts.length === 1 && first.type === "text" ? first.text : parts };
    }
  }
}

/** Chat templates of many open models allow one system message, at the start: neighbours become one. */
function addUnlessJoined(messages: ChatMessage[], message: ChatMessage): void {
  const last = messages.at(-1);
  const joins = message.role === "system" && last?.role === "system";
  if (joins && typeof last.content === "string" && typeof message.content === "string") {
    last.content += `\n\n${message.content}`;
    return;
  }
  messages.push(message);
}
