import { noticeText } from "./consent-notice.ts";
import type { Item, Message } from "./items.ts";
import { isJsonObject } from "./json.ts";
import { NO_USAGE, type Response, type TurnEvent } from "./request.ts";

/** An answer that was given before, as the turn that it once was: the same items, each in one piece. */
export async function* replay(response: Response, output: Item[]): AsyncGenerator<TurnEvent> {
  const begun = { completedAt: null, usage: NO_USAGE, error: null, incompleteReason: null } as const;
  yield { kind: "started", response: { ...response, ...begun, status: "in_progress" } };
  for (const [index, item] of output.entries()) yield* replayItem(index, item);
  const { error } = response;
  if (error) yield { kind: "failed", error, refusal: null };
  yield { kind: "ended", response, output };
}

/** The events of one item that is whole. */
export function* replayItem(index: number, item: Item): Generator<TurnEvent> {
  const { id: itemId } = item;
  switch (item.kind) {
    case "mcp_list_tools":
      yield { kind: "item_added", index, item: { ...item, tools: [], error: null } };
      yield { kind: "list_progress", index, itemId, state: "in_progress" };
      yield { kind: "list_progress", index, itemId, state: item.error === null ? "completed" : "failed" };
      break;
    case "mcp_call": {
      const begun = { arguments: "", status: "in_progress", output: null, error: null } as const;
      yield { kind: "item_added", index, item: { ...item, ...begun } };
      yield { kind: "call_progress", index, itemId, state: "in_progress" };
      yield { kind: "call_arguments", index, itemId, arguments: item.arguments };
      yield { kind: "call_progress", index, itemId, state: item.error ? "failed" : "completed" };
      break;
    }
    case "function_call": {
      const { name, arguments: text } = item;
      yield { kind: "item_added", index, item: { ...item, arguments: "", status: "in_progress" } };
      yield { kind: "function_arguments_delta", index, itemId, delta: text };
      yield { kind: "function_arguments_done", index, itemId, name, arguments: text };
      break;
    }
    case "message":
      yield* replayMessage(index, item);
      break;
    case "consent_notice":
      yield* replayMessage(index, {
        kind: "message",
        id: itemId,
        role: "assistant",
        status: "completed",
        content: [{ kind: "output_text", text: noticeText(item), annotations: [], logprobs: [] }],
      });
      break;
    case "function_call_output":
    case "mcp_approval_request":
    case "mcp_approval_response":
    case "oauth_consent_request":
    case "other":
      yield { kind: "item_added", index, item };
      break;
  }
  yield { kind: "item_done", index, item };
}

function* replayMessage(index: number, item: Message): Generator<TurnEvent> {
  const { id: itemId } = item;
  yield { kind: "item_added", index, item: { ...item, status: "in_progress", content: [] } };
  for (const [part, written] of item.content.entries()) {
    if (written.kind !== "output_text" && written.kind !== "refusal") continue;
    const { kind: of } = written;
    const text = written.kind === "refusal" ? written.refusal : written.text;
    yield { kind: "part_added", index, itemId, part, of };
    const { annotations = [], logprobs = [] } = written.kind === "output_text" ? written : {};
    const place = { index, itemId, part };
    yield { kind: "text_delta", ...place, of, delta: text, logprobs };
    for (const [at, annotation] of annotations.entries())
      if (isJsonObject(annotation)) yield { kind: "annotation_added", ...place, at, annotation };
    yield { kind: "part_done", ...place, of, text, annotations, logprobs };
  }
}
