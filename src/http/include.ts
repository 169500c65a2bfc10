import type { Item } from "../core/items.ts";
import type { TurnEvent } from "../core/request.ts";

/** The `include` of a query, in every form in which clients repeat a name. */
export function includesOf(request: Request): string[] {
  const { searchParams } = new URL(request.url);
  return [...searchParams].flatMap(([name, value]) => (/^include(?:\[\d*\])?$/.test(name) ? [value] : []));
}

/** An item as somebody sees it who asked for no more than `include`: reasoning is kept encrypted, and shown on request. */
export function shownItem(item: Item, include: readonly string[]): Item {
  if (item.kind !== "other" || item.body["type"] !== "reasoning") return item;
  if (include.includes("reasoning.encrypted_content")) return item;
  const { encrypted_content: _, ...body } = item.body;
  return { ...item, body };
}

/** The same for the items of a turn. */
export async function* shownTurn(
  turn: AsyncGenerator<TurnEvent>,
  include: readonly string[],
): AsyncGenerator<TurnEvent> {
  for await (const event of turn) {
    if (event.kind === "item_added" || event.kind === "item_done")
      yield { ...event, item: shownItem(event.item, include) };
    else if (event.kind === "ended")
      yield { ...event, output: event.output.map((item) => shownItem(item, include)) };
    else yield event;
  }
}
