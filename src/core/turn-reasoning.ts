import type { OtherItem } from "./items.ts";
import type { Json, JsonObject } from "./json.ts";
import type { ModelEvent } from "./ports.ts";
import type { TurnEvent } from "./request.ts";
import type { Turn } from "./turn-say.ts";

type Kind = "summary" | "text";
type Part = { of: Kind; given: number; text: string };
type Open = { index: number; item: OtherItem; parts: Part[] };

/** Ids of reasoning as upstreams make them. The encrypted form is bound to its id, so it is kept where it does no harm. */
const UPSTREAM_ID = /^rs_[\w-]{1,128}$/;

/**
 * A model's reasoning as items, as the upstream says them: shown as they come, stored with the response, and sent back to the
 * model that made them.
 */
export function createReasoning(turn: Turn) {
  let open: Open | null = null;

  function* endPart({ index, item, parts }: Open): Generator<TurnEvent> {
    const last = parts.at(-1);
    if (last)
      yield { kind: "reasoning_part_done", ...placeOf({ index, item, parts }, last), text: last.text };
  }

  function* end(): Generator<TurnEvent> {
    if (!open) return;
    const { index, item } = open;
    yield* endPart(open);
    open = null;
    yield { kind: "item_done", index, item };
  }

  return {
    start: function* (id: string): Generator<TurnEvent> {
      yield* end();
      const isFree = UPSTREAM_ID.test(id) && !turn.output.some((item) => item.id === id);
      const own = isFree ? id : turn.desks.world.newId("rs");
      const item: OtherItem = { kind: "other", id: own, body: { type: "reasoning", summary: [] } };
      open = { index: turn.output.length, item, parts: [] };
      turn.output.push(item);
      yield { kind: "item_added", index: open.index, item: { ...item, body: { ...item.body } } };
    },
    delta: function* (event: ModelEvent & { kind: "reasoning_delta" }): Generator<TurnEvent> {
      if (!open) return;
      const { of, delta } = event;
      let part = open.parts.at(-1);
      if (part?.of !== of || part.given !== event.part) {
        yield* endPart(open);
        part = { of, given: event.part, text: "" };
        open.parts.push(part);
        yield { kind: "reasoning_part_added", ...placeOf(open, part), text: "" };
      }
      part.text += delta;
      open.item.body = bodyOf(open.parts);
      yield { kind: "reasoning_delta", ...placeOf(open, part), text: delta };
    },
    ended: function* ({ body, origin }: ModelEvent & { kind: "reasoning_ended" }): Generator<TurnEvent> {
      if (!open) return;
      const { summary } = body;
      open.item.body = { ...body, type: "reasoning", summary: Array.isArray(summary) ? summary : [] };
      open.item.origin = origin;
      yield* end();
    },
    /** Ends what the upstream left open. */
    end,
  };
}

function placeOf({ index, item, parts }: Open, part: Part) {
  const own = parts.filter(({ of }) => of === part.of);
  return { index, itemId: item.id, part: own.indexOf(part), of: part.of };
}

/** What was heard so far, for one that is never ended. */
function bodyOf(parts: Part[]): JsonObject {
  const of = (kind: Kind, type: string): Json[] =>
    parts.filter((part) => part.of === kind).map(({ text }) => ({ type, text }));
  const content = of("text", "reasoning_text");
  return {
    type: "reasoning",
    summary: of("summary", "summary_text"),
    ...(content.length > 0 && { content }),
  };
}
