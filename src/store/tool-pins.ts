import { and, asc, eq, sql } from "drizzle-orm";
import type { PinKey, ToolPin, ToolPins } from "../core/storage.ts";
import { createMarkedAudit } from "./audit.ts";
import {
  type Engine,
  MAX_PARAMETERS,
  type Statement,
  byCount,
  given,
  marked,
  newMark,
  pieces,
  placeholderRows,
  rowValues,
  step,
} from "./engine.ts";
import { indexKey } from "./text.ts";

export function createToolPins(engine: Engine): ToolPins {
  const { toolPins } = engine.tables;
  const row = marked(toolPins, [toolPins.project, toolPins.connectionId, toolPins.place, toolPins.toolKey]);
  const audited = createMarkedAudit(engine.tables, row);
  const ofConnection = and(
    eq(toolPins.project, given(toolPins.project, "project")),
    eq(toolPins.connectionId, given(toolPins.connectionId, "connectionId")),
    eq(toolPins.place, given(toolPins.place, "place")),
  );

  const list: Statement<ToolPin[]> = (db) =>
    db
      .select({ tool: toolPins.tool, pinned: toolPins.pinned, seen: toolPins.seen, seenAt: toolPins.seenAt })
      .from(toolPins)
      .where(ofConnection)
      .orderBy(asc(toolPins.toolKey));
  const record = byCount<Statement<unknown>>(
    (count) => (db) =>
      db
        .insert(toolPins)
        .values(placeholderRows(toolPins, count))
        .onConflictDoUpdate({
          target: [toolPins.project, toolPins.connectionId, toolPins.place, toolPins.toolKey],
          set: { seen: sql`excluded.seen`, seenAt: sql`excluded.seen_at` },
        }),
  );
  const accept: Statement<{ tool: string }[]> = (db) =>
    db
      .update(toolPins)
      .set({ pinned: given(toolPins.pinned, "hash"), writeId: given(toolPins.writeId, "mark") })
      .where(
        and(
          ofConnection,
          eq(toolPins.toolKey, given(toolPins.toolKey, "toolKey")),
          eq(toolPins.seen, given(toolPins.seen, "hash")),
        ),
      )
      .returning({ tool: toolPins.tool });

  return {
    list: async (key) => engine.run(list, await stored(key)),

    record: async (pinKey, tools, at) => {
      const writeId = newMark();
      const key = await stored(pinKey);
      const rows = await Promise.all(
        tools.map(async ({ tool, hash }) => {
          const toolKey = await indexKey(tool);
          return { ...key, toolKey, tool, pinned: hash, seen: hash, seenAt: at, writeId };
        }),
      );
      const steps = pieces(inOneOrder(rows), ROWS_PER_STATEMENT).map((piece) =>
        step(record(piece.length), rowValues(piece)),
      );
      if (steps.length > 0) await engine.atomic(steps);
      return engine.run(list, key);
    },

    accept: async (pinKey, tool, hash, audit) => {
      const writeId = newMark();
      const key = await stored(pinKey);
      const toolKey = await indexKey(tool);
      const [accepted] = await engine.atomic([
        step(accept, { ...key, toolKey, hash, mark: writeId }),
        ...audited(audit, row.values([key.project, key.connectionId, key.place, toolKey], writeId)),
      ]);
      return accepted.length > 0;
    },
  };
}

const stored = async (key: PinKey): Promise<PinKey> => ({ ...key, place: await indexKey(key.place) });

const PIN_COLUMNS = 9;
const ROWS_PER_STATEMENT = Math.floor(MAX_PARAMETERS / PIN_COLUMNS);

/** Each tool once (the first of a name counts) and always in the same order, so that two listings cannot deadlock. */
function inOneOrder<T extends { toolKey: string }>(rows: T[]): T[] {
  return rows
    .toSorted((a, b) => (a.toolKey === b.toolKey ? 0 : a.toolKey < b.toolKey ? -1 : 1))
    .filter((row, at, sorted) => sorted[at - 1]?.toolKey !== row.toolKey);
}
