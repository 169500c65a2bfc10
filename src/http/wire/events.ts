import type { JsonObject } from "../../core/json.ts";
import type { ReasoningEvent, Response, TurnEvent } from "../../core/request.ts";
import { writeItemWith } from "./write-items.ts";
import { writeResponse } from "./response.ts";

/** An event of the stream, without its number. */
export type WireEvent = JsonObject & { type: string };

/** The events that one step of a turn is on the wire (responses-wire 4.2, 4.5); never a type outside the fixed set. */
export function writeEvents(event: TurnEvent, include: readonly string[] = []): WireEvent[] {
  switch (event.kind) {
    case "started": {
      const response = writeResponse(event.response, []);
      return [
        { type: "response.created", response },
        { type: "response.in_progress", response },
      ];
    }
    case "queued": {
      const response = writeResponse(event.response, []);
      return [
        { type: "response.created", response },
        { type: "response.queued", response },
      ];
    }
    case "begun":
      return [{ type: "response.in_progress", response: writeResponse(event.response, []) }];
    case "item_added":
    case "item_done": {
      const type = event.kind === "item_added" ? "response.output_item.added" : "response.output_item.done";
      return [{ type, output_index: event.index, item: writeItemWith(event.item, include) }];
    }
    case "consent_requested": {
      const { id, link, label } = event.item;
      const facts = { id, consent_link: link, server_label: label };
      return [{ type: "response.oauth_consent_requested", output_index: event.index, ...facts }];
    }
    case "list_progress":
      return [{ type: `response.mcp_list_tools.${event.state}`, ...placeOf(event) }];
    case "call_progress":
      return [{ type: `response.mcp_call.${event.state}`, ...placeOf(event) }];
    case "call_told":
      // The event may repeat (responses-wire 4.2), and clients read past members that they do not know.
      return [{ type: "response.mcp_call.in_progress", ...placeOf(event), progress: event.progress }];
    case "call_arguments":
      return [
        { type: "response.mcp_call_arguments.delta", ...placeOf(event), delta: event.arguments },
        { type: "response.mcp_call_arguments.done", ...placeOf(event), arguments: event.arguments },
      ];
    case "function_arguments_delta":
      return [{ type: "response.function_call_arguments.delta", ...placeOf(event), delta: event.delta }];
    case "function_arguments_done": {
      const { name, arguments: args } = event;
      return [{ type: "response.function_call_arguments.done", ...placeOf(event), name, arguments: args }];
    }
    case "part_added": {
      const part = writeTextPart({ ...event, text: "" });
      return [{ type: "response.content_part.added", ...placeOf(event), content_index: event.part, part }];
    }
    case "text_delta": {
      const place = { ...placeOf(event), content_index: event.part };
      return event.of === "refusal"
        ? [{ type: "response.refusal.delta", ...place, delta: event.delta }]
        : [
            {
              type: "response.output_text.delta",
              ...place,
              delta: event.delta,
              logprobs: event.logprobs ?? [],
            },
          ];
    }
    case "annotation_added": {
      const { part: content_index, at: annotation_index, annotation } = event;
      const place = { ...placeOf(event), content_index, annotation_index };
      return [{ type: "response.output_text.annotation.added", ...place, annotation }];
    }
    case "part_done": {
      const place = { ...placeOf(event), content_index: event.part };
      const said =
        event.of === "refusal"
          ? { type: "response.refusal.done", ...place, refusal: event.text }
          : {
              type: "response.output_text.done",
              ...place,
              text: event.text,
              logprobs: event.logprobs ?? [],
            };
      return [said, { type: "response.content_part.done", ...place, part: writeTextPart(event) }];
    }
    case "reasoning_part_added":
    case "reasoning_delta":
    case "reasoning_part_done":
      return writeReasoning(event);
    case "failed": {
      const { code, message } = event.error;
      return [{ type: "error", error: { type: "server_error", code, message, param: null } }];
    }
    case "ended":
      return [
        { type: endType(event.response), response: writeResponse(event.response, event.output, include) },
      ];
  }
}

/** A summary has events of its own; the text of reasoning is content, as a message's is. */
function writeReasoning(event: ReasoningEvent): WireEvent[] {
  const { text } = event;
  const isSummary = event.of === "summary";
  const place = { ...placeOf(event), [isSummary ? "summary_index" : "content_index"]: event.part };
  const words = isSummary ? "response.reasoning_summary_text" : "response.reasoning_text";
  const part = { type: isSummary ? "summary_text" : "reasoning_text", text };
  const box = isSummary ? "response.reasoning_summary_part" : "response.content_part";
  switch (event.kind) {
    case "reasoning_part_added":
      return [{ type: `${box}.added`, ...place, part }];
    case "reasoning_delta":
      return [{ type: `${words}.delta`, ...place, delta: text }];
    case "reasoning_part_done":
      return [
        { type: `${words}.done`, ...place, text },
        { type: `${box}.done`, ...place, part },
      ];
  }
}

function placeOf(event: { index: number; itemId: string }): JsonObject {
  return { item_id: event.itemId, output_index: event.index };
}

function writeTextPart({
  of,
  text,
  annotations = [],
  logprobs = [],
}: Pick<TurnEvent & { kind: "part_done" }, "of" | "text" | "annotations" | "logprobs">): JsonObject {
  return of === "refusal"
    ? { type: "refusal", refusal: text }
    : { type: "output_text", text, annotations, logprobs };
}

function endType({ status }: Response): string {
  if (status === "completed" || status === "incomplete") return `response.${status}`;
  return "response.failed";
}
