import type { BoxKeys } from "./reseal.ts";
import type { BoxPlace, SealedBoxes } from "./sealed-boxes.ts";

/** How many boxes of each place name which key, by its id. */
export type BoxCounts = Record<string, Record<BoxPlace, number>>;

/** Looks at every row of every place, window by window. */
export async function countBoxes(boxes: SealedBoxes, keys: Pick<BoxKeys, "named">): Promise<BoxCounts> {
  const counts: BoxCounts = {};
  for (const place of boxes.places) {
    for await (const start of startsOf(boxes, place)) {
      const id = keys.named(start);
      if (id === null) continue;
      const ofKey = (counts[id] ??= {});
      ofKey[place] = (ofKey[place] ?? 0) + 1;
    }
  }
  return counts;
}

export const totalOf = (counts: BoxCounts, id: string) =>
  Object.values(counts[id] ?? {}).reduce((sum, count) => sum + count, 0);

async function* startsOf(boxes: SealedBoxes, place: BoxPlace): AsyncGenerator<Uint8Array> {
  for (let rows = await boxes.window(place, null, WINDOW_ROWS); rows.length > 0;) {
    for (const { start } of rows) if (start) yield start;
    if (rows.length < WINDOW_ROWS) return;
    rows = await boxes.window(place, rows.at(-1)?.key ?? null, WINDOW_ROWS);
  }
}

const WINDOW_ROWS = 500;
