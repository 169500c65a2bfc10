import type { Item } from "./items.ts";
import type { Json } from "./json.ts";
import type { ModelExchange } from "./ports.ts";
import { NO_USAGE, type ReasoningEvent, type TurnEvent, type Usage } from "./request.ts";
import type { Entry, Mark } from "./turn-journal.ts";
import type { Said } from "./turn-round.ts";

/** A part of an item that was begun and has not ended. */
export type OpenPart = {
  part: number;
  of: "output_text" | "refusal" | ReasoningEvent["of"];
  text: string;
  annotations: Json[];
  logprobs: Json[];
};

/** What a turn had said and done when it was left. */
export type Folded = {
  output: Item[];
  /** The items that were begun and not ended, by their index. */
  open: Set<number>;
  /** Their parts that were begun and not ended. */
  parts: Map<number, OpenPart>;
  /** The parts of reasoning that were heard, by the item's index. */
  thoughts: Map<number, OpenPart[]>;
  /** Calls whose arguments were said. */
  argumentsTold: Set<number>;
  /** Calls that may have run; of approved ones the approvals. */
  begun: Set<string>;
  /** Rounds of a model that were heard whole. */
  rounds: number;
  /** The last of them, if none began after it. */
  heard: Said | null;
  /** What the model called in the others and is not there. */
  mistaken: ModelExchange[];
  /** Where the items of a round begin that was cut off. Null: none was. */
  cutFrom: number | null;
  usage: Usage;
};

/** Reads what was kept of a turn, in order. */
export function fold(entries: readonly Entry[]): Folded {
  const folded: Folded = {
    output: [],
    open: new Set(),
    parts: new Map(),
    thoughts: new Map(),
    argumentsTold: new Set(),
    begun: new Set(),
    rounds: 0,
    heard: null,
    mistaken: [],
    cutFrom: null,
    usage: NO_USAGE,
  };
  for (const entry of entries) {
    if ("mark" in entry) foldMark(folded, entry.mark);
    else if ("notice" in entry) end(folded, entry.notice.index, entry.notice.item);
    else foldEvent(folded, entry.event);
  }
  return folded;
}

function foldMark(folded: Folded, mark: Mark): void {
  switch (mark.kind) {
    case "taken":
    case "closing":
      return;
    case "call_begun":
      folded.begun.add(mark.id);
      return;
    case "round_begun":
      folded.mistaken.push(...(folded.heard?.mistaken ?? []));
      folded.heard = null;
      folded.cutFrom = mark.from;
      return;
    case "round_heard":
      folded.rounds++;
      folded.heard = mark.said;
      folded.cutFrom = null;
      folded.usage = mark.usage;
  }
}

function end(folded: Folded, index: number, item: Item): void {
  folded.output[index] = item;
  folded.open.delete(index);
  folded.parts.delete(index);
}

function foldEvent(folded: Folded, event: TurnEvent): void {
  switch (event.kind) {
    case "item_added":
      folded.output[event.index] = event.item;
      folded.open.add(event.index);
      return;
    case "item_done":
      return end(folded, event.index, event.item);
    case "call_arguments": {
      const item = folded.output[event.index];
      if (item?.kind === "mcp_call") folded.output[event.index] = { ...item, arguments: event.arguments };
      folded.argumentsTold.add(event.index);
      return;
    }
    case "part_added":
      folded.parts.set(event.index, openPart(event));
      return;
    case "text_delta": {
      const part = folded.parts.get(event.index);
      if (!part) return;
      part.text += event.delta;
      part.logprobs.push(...(event.logprobs ?? []));
      return;
    }
    case "annotation_added":
      folded.parts.get(event.index)?.annotations.push(event.annotation);
      return;
    case "part_done": {
      const item = folded.output[event.index];
      const { text, of, annotations = [], logprobs = [] } = event;
      folded.parts.delete(event.index);
      if (item?.kind !== "message") return;
      const said = of === "refusal" ? { kind: of, refusal: text } : { kind: of, text, annotations, logprobs };
      folded.output[event.index] = { ...item, content: [...item.content, said] };
      return;
    }
    case "reasoning_part_added": {
      const part = openPart(event);
      folded.parts.set(event.index, part);
      folded.thoughts.set(event.index, [...(folded.thoughts.get(event.index) ?? []), part]);
      return;
    }
    case "reasoning_delta": {
      const part = folded.parts.get(event.index);
      if (part) part.text += event.text;
      return;
    }
    case "reasoning_part_done":
      folded.parts.delete(event.index);
      return;
    case "started":
    case "queued":
    case "begun":
    case "list_progress":
    case "call_progress":
    case "call_told":
    case "function_arguments_delta":
    case "function_arguments_done":
    case "consent_requested":
    case "failed":
    case "ended":
  }
}

const openPart = ({ part, of }: Pick<OpenPart, "part" | "of">): OpenPart => ({
  part,
  of,
  text: "",
  annotations: [],
  logprobs: [],
});
