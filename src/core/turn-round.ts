import { asSent } from "./calls.ts";
import type { FunctionCall, Message, ToolCall } from "./items.ts";
import type { Json, JsonObject } from "./json.ts";
import type { ToolNames } from "./naming.ts";
import type { ModelEvent, ModelExchange, ModelTool, ModelToolChoice } from "./ports.ts";
import type { TurnEvent, Usage } from "./request.ts";
import { createReasoning } from "./turn-reasoning.ts";
import { maxCalls, type Turn } from "./turn-say.ts";

/** What one round offers a model. */
export type Offer = { tools: ModelTool[]; choice: ModelToolChoice };

/** What one round came to. */
export type Said = {
  /** MCP calls, in order. */
  calls: ToolCall[];
  functionCalls: number;
  /** MCP calls beyond `max_tool_calls`. */
  ignored: number;
  /** Calls of tools that there are not: the model is told, the caller is not bothered. */
  mistaken: ModelExchange[];
  incomplete: string | null;
};

/** Turns what a model says into items, as it comes: text and function calls stream, MCP calls wait to be whole. */
export function createRound(turn: Turn, names: ToolNames, offer: Offer) {
  const { newId } = turn.desks.world;
  const functions = new Map<number, { index: number; item: FunctionCall }>();
  const mcp = new Map<number, ToolCall>();
  const mistaken = new Map<number, ModelExchange>();
  const reasoning = createReasoning(turn);
  // Where a round can be cut off and asked anew, nobody must have seen half a call of a function that is theirs to run.
  const waits = turn.journal !== null;
  let phase: string | null = null;
  let message: { index: number; item: Message } | null = null;
  let incomplete: string | null = null;

  async function* text(
    of: "output_text" | "refusal",
    { delta, logprobs = [] }: { delta: string; logprobs?: Json[] },
  ): AsyncGenerator<TurnEvent> {
    yield* reasoning.end(null);
    if (!message) {
      const item: Message = {
        kind: "message",
        id: newId("msg"),
        role: "assistant",
        status: "in_progress",
        content: [],
        ...(phase !== null && { phase }),
      };
      message = { index: turn.output.length, item };
      turn.output.push(item);
      yield { kind: "item_added", index: message.index, item: { ...item, content: [] } };
    }
    const { index, item } = message;
    const last = item.content.at(-1);
    if (last?.kind !== of) {
      yield* endPart(index, item);
      item.content.push(
        of === "refusal" ? { kind: of, refusal: "" } : { kind: of, text: "", annotations: [], logprobs: [] },
      );
      yield { kind: "part_added", index, itemId: item.id, part: item.content.length - 1, of };
    }
    const part = item.content.at(-1);
    if (part?.kind === "output_text") {
      part.text += delta;
      for (const one of logprobs) part.logprobs.push(one);
    }
    if (part?.kind === "refusal") part.refusal += delta;
    const said = logprobs.length > 0 ? { delta, logprobs } : { delta };
    yield { kind: "text_delta", index, itemId: item.id, part: item.content.length - 1, of, ...said };
  }

  function* annotate(annotation: JsonObject): Generator<TurnEvent> {
    const part = message?.item.content.at(-1);
    if (!message || part?.kind !== "output_text") return;
    const { index, item } = message;
    const at = part.annotations.push(annotation) - 1;
    yield {
      kind: "annotation_added",
      index,
      itemId: item.id,
      part: item.content.length - 1,
      at,
      annotation,
    };
  }

  function* endPart(index: number, { id, content }: Message): Generator<TurnEvent> {
    const part = content.at(-1);
    const at = { index, itemId: id, part: content.length - 1 };
    if (part?.kind === "output_text") {
      const { kind: of, ...said } = part;
      yield { kind: "part_done", ...at, of, ...said };
    }
    if (part?.kind === "refusal") yield { kind: "part_done", ...at, of: part.kind, text: part.refusal };
  }

  function* endMessage(status: "completed" | "incomplete"): Generator<TurnEvent> {
    if (!message) return;
    const { index, item } = message;
    message = null;
    yield* endPart(index, item);
    item.status = status;
    yield { kind: "item_done", index, item };
  }

  function* startCall(event: ModelEvent & { kind: "call_started" }): Generator<TurnEvent> {
    yield* endMessage("completed");
    yield* reasoning.end(null);
    const meant = names.meantBy(event.name);
    const isOffered = offer.tools.some(({ name }) => name === event.name);
    if (!isOffered) {
      const output = `There is no tool ${event.name}.`;
      mistaken.set(event.call, {
        kind: "call",
        callId: event.callId,
        name: event.name,
        arguments: "",
        output,
      });
      return;
    }
    if (meant) {
      const shown = { id: newId("mcp"), label: meant.label, name: meant.tool, arguments: "" };
      mcp.set(event.call, {
        kind: "mcp_call",
        ...shown,
        status: "in_progress",
        output: null,
        error: null,
        approvalRequestId: null,
      });
      return;
    }
    const item: FunctionCall = {
      kind: "function_call",
      id: newId("fc"),
      callId: event.callId,
      name: event.name,
      arguments: "",
      status: "in_progress",
    };
    if (waits) return void functions.set(event.call, { index: NOWHERE, item });
    functions.set(event.call, { index: turn.output.length, item });
    yield* showFunctionCall(item);
  }

  function* showFunctionCall(item: FunctionCall): Generator<TurnEvent> {
    const index = turn.output.length;
    turn.output.push(item);
    yield { kind: "item_added", index, item: { ...item } };
  }

  function* endFunctionCalls(): Generator<TurnEvent> {
    for (const own of functions.values()) {
      const { item } = own;
      if (waits) {
        own.index = turn.output.length;
        yield* showFunctionCall(item);
        yield { kind: "function_arguments_delta", index: own.index, itemId: item.id, delta: item.arguments };
      }
      const { index } = own;
      item.status = incomplete === null ? "completed" : "incomplete";
      yield {
        kind: "function_arguments_done",
        index,
        itemId: item.id,
        name: item.name,
        arguments: item.arguments,
      };
      yield { kind: "item_done", index, item };
    }
  }

  return {
    take: async function* (event: ModelEvent): AsyncGenerator<TurnEvent> {
      switch (event.kind) {
        case "message_started":
          phase = event.phase;
          return yield* endMessage("completed");
        case "reasoning_started":
          yield* endMessage("completed");
          return yield* reasoning.start(event.id, functions.size + mcp.size);
        case "reasoning_delta":
          return yield* reasoning.delta(event);
        case "reasoning_ended":
          return yield* reasoning.end(event);
        case "text":
          return yield* text("output_text", event);
        case "annotation":
          return yield* annotate(event.annotation);
        case "refusal":
          return yield* text("refusal", event);
        case "call_started":
          return yield* startCall(event);
        case "call_arguments": {
          const own = functions.get(event.call);
          const item = own?.item ?? mcp.get(event.call) ?? mistaken.get(event.call);
          if (item) item.arguments += event.delta;
          if (own && !waits) {
            const { index } = own;
            yield { kind: "function_arguments_delta", index, itemId: own.item.id, delta: event.delta };
          }
          return;
        }
        case "finished":
          turn.usage = addUsage(turn.usage, event.usage);
          incomplete =
            event.reason === "stop"
              ? null
              : event.reason === "length"
                ? "max_output_tokens"
                : "content_filter";
          yield* reasoning.end(null);
          yield* endMessage(incomplete === null ? "completed" : "incomplete");
          yield* endFunctionCalls();
      }
    },
    said: (): Said => {
      // Cut off in the middle, a call's arguments are not what the model meant.
      const meant = incomplete === null ? [...mcp.values()] : [];
      const left = Math.max(0, maxCalls(turn) - turn.calls);
      const calls = meant.slice(0, left).map((call) => ({ ...call, arguments: asSent(call.arguments) }));
      const ignored = meant.length - calls.length;
      return { calls, functionCalls: functions.size, ignored, mistaken: [...mistaken.values()], incomplete };
    },
  };
}

/** A call of a function that was not shown yet. */
const NOWHERE = -1;

export function addUsage(a: Usage, b: Usage): Usage {
  return {
    inputTokens: a.inputTokens + b.inputTokens,
    cachedTokens: a.cachedTokens + b.cachedTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    reasoningTokens: a.reasoningTokens + b.reasoningTokens,
  };
}
