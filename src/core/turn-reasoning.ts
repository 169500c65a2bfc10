import type { OtherItem } from "./items.ts";
import type { JsonObject } from "./json.ts";
import type { ModelEvent } from "./ports.ts";
import type { ReasoningEvent, TurnEvent } from "./request.ts";
import type { Turn } from "./turn-say.ts";

type Kind = ReasoningEvent["of"];
/** `given`: its number at the upstream; `part`: the one that we give it. */
type Part = { of: Kind; given: number; part: number; text: string };
type Open = { index: number; item: OtherItem; parts: Part[]; counts: Record<Kind, number> };

/** Ids of reasoning as upstreams make them. The encrypted form is bound to its id, so it is kept where it does no harm. */
const UPSTREAM_ID = /^rs_[\w-]{1,128}$/;

/**
 * A model's reasoning as items, as the upstream says them: shown as they come, stored with the response, and sent back to the
 * model that made them.
 */
export function createReasoning(turn: Turn) {
  const { chain, input } = turn.plan;
  const ids = new Set([...(chain?.items ?? []), ...input, ...turn.output].map(({ id }) => id));
  let open: Open | null = null;

  function* endPart({ index, item, parts }: Open): Generator<TurnEvent> {
    const last = parts.at(-1);
    if (!last) return;
    const { of, part, text } = last;
    yield { kind: "reasoning_part_done", index, itemId: item.id, part, of, text };
  }

  function* end(said: Pick<OtherItem, "body" | "origin"> | null): Generator<TurnEvent> {
    if (!open) return;
    const { index, item, parts } = open;
    yield* endPart(open);
    open = null;
    item.body = said ? whole(said.body) : reasoningBody(parts);
    if (said?.origin !== undefined) item.origin = said.origin;
    yield { kind: "item_done", index, item };
  }

  return {
    /** `after`: how many calls of this round came before. */
    start: function* (id: string, after: number): Generator<TurnEvent> {
      yield* end(null);
      const own = UPSTREAM_ID.test(id) && !ids.has(id) ? id : turn.desks.world.newId("rs");
      ids.add(own);
      const index = turn.output.length;
      const item: OtherItem = { kind: "other", id: own, body: whole({}), after };
      open = { index, item, parts: [], counts: { summary: 0, text: 0 } };
      turn.output.push(item);
      yield { kind: "item_added", index, item: { ...item } };
    },
    delta: function* ({
      of,
      part: given,
      delta,
    }: ModelEvent & { kind: "reasoning_delta" }): Generator<TurnEvent> {
      if (!open) return;
      const { index, item, parts, counts } = open;
      let last = parts.at(-1);
      if (last?.of !== of || last.given !== given) {
        yield* endPart(open);
        last = { of, given, part: counts[of]++, text: "" };
        parts.push(last);
        yield { kind: "reasoning_part_added", index, itemId: item.id, part: last.part, of, text: "" };
      }
      last.text += delta;
      yield { kind: "reasoning_delta", index, itemId: item.id, part: last.part, of, text: delta };
    },
    /** What the upstream says of it at its end; null: nothing, and then it is what was heard. */
    end,
  };
}

function whole(body: JsonObject): JsonObject {
  const { summary } = body;
  return { ...body, type: "reasoning", summary: Array.isArray(summary) ? summary : [] };
}

/** What was heard of reasoning that its model did not say the end of. */
export function reasoningBody(parts: readonly Pick<Part, "of" | "text">[]): JsonObject {
  const of = (kind: Kind, type: string) =>
    parts.filter((part) => part.of === kind).map(({ text }) => ({ type, text }));
  const content = of("text", "reasoning_text");
  return whole({ summary: of("summary", "summary_text"), ...(content.length > 0 && { content }) });
}
