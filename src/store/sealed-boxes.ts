import { type Column, type SQL, and, asc, eq, getTableColumns, getTableName, sql } from "drizzle-orm";
import type { SQLiteTable } from "drizzle-orm/sqlite-core";
import type { BoxKey, SealedBoxes } from "../core/sealed-boxes.ts";
import { HEAD_BYTES, asBytes, createBoxReader, createMarkedRest, headOf } from "./boxes.ts";
import { type Engine, type Marked, type Statement, type Values, given, ifMarked, step } from "./engine.ts";
import { type SealedPlace, sealedPlaces } from "./sealed-places.ts";

export function createSealedBoxes(engine: Engine): SealedBoxes {
  const places = new Map(
    sealedPlaces(engine.tables, (place) => [nameOf(place), createPlace(engine, place)] as const),
  );
  const named = (name: string) => {
    const place = places.get(name);
    if (!place) throw new Error(`no boxes are kept in ${name}`);
    return place;
  };
  return {
    places: [...places.keys()],
    window: (name, after, limit) => named(name).window(after, limit),
    read: (name, key) => named(name).read(key),
    replace: (name, key, boxes) => named(name).replace(key, boxes),
  };
}

/** A key's columns and the beginning of its box. A key of one column has it twice. */
type Start = { first: KeyValue; second: KeyValue; start: Uint8Array | null };
type KeyValue = BoxKey[number];

function createPlace<T extends SQLiteTable>(engine: Engine, place: SealedPlace<T>) {
  const { box, key, aad, rest } = place;
  // As what all tables are: of a table that could be any, Drizzle's types say nothing.
  const table: SQLiteTable = place.table;
  const { boxChunks } = engine.tables;
  const field = fieldOf(table, box);
  const one = and(...key.map((column, at) => eq(column, given(column, `key${at}`))));
  const isBox = (name: string) => sql`${one} and ${box} = ${given(box, name)}`;
  const order = key.map((column) => asc(column));
  const start = asBytes(sql`substr(${box}, 1, ${sql.raw(String(START_BYTES))})`, box);
  const fields = { first: asKey(key[0]), second: asKey(key[1] ?? key[0]), start };
  const limit = sql.placeholder("limit");
  // A box is like no other, so the new one itself is the mark.
  const row: Marked = { table, where: isBox("next"), values: () => ({}) };
  const insertRest = createMarkedRest(engine.tables, row);
  const whole = createBoxReader(engine, { table, head: box, where: sql`${one}` });

  const first: Statement<Start[]> = (db) =>
    db
      .select(fields)
      .from(table)
      .orderBy(...order)
      .limit(limit);
  const further: Statement<Start[]> = (db) =>
    db
      .select(fields)
      .from(table)
      .where(isBehind(key))
      .orderBy(...order)
      .limit(limit);
  const read = ((db) => db.select().from(table).where(one)) as Statement<T["$inferSelect"][]>;
  const replace: Statement<unknown[]> = (db) =>
    db
      .update(table)
      .set({ [field]: given(box, "next") })
      .where(isBox("before"))
      .returning({ first: fields.first });
  const removeRest: Statement<unknown> = (db) =>
    db
      .delete(boxChunks)
      .where(
        and(
          eq(boxChunks.project, given(boxChunks.project, "project")),
          eq(boxChunks.owner, given(boxChunks.owner, "owner")),
          eq(boxChunks.part, given(boxChunks.part, "part")),
          ifMarked(row),
        ),
      );

  const valuesOf = (of: BoxKey): Values => Object.fromEntries(of.map((value, at) => [`key${at}`, value]));
  const rowOf = async (of: BoxKey) => (await engine.run(read, valuesOf(of)))[0] ?? null;
  // The columns of a table are not known here by their names; this one holds bytes.
  const headIn = (found: T["$inferSelect"]) => (found as Values)[field] as Uint8Array | null;

  return {
    window: async (after: BoxKey | null, most: number) => {
      const found =
        after === null
          ? await engine.run(first, { limit: most })
          : await engine.run(further, { ...valuesOf(after), limit: most });
      return found.map((each) => ({
        key: key.length === 1 ? [each.first] : [each.first, each.second],
        start: each.start,
      }));
    },

    read: async (of: BoxKey) => {
      const found = await rowOf(of);
      const head = found && headIn(found);
      if (!found || !head || head.length === 0) return null;
      const at = rest?.(found);
      return { box: at ? await whole(at, head, valuesOf(of)) : head, aad: aad(found) };
    },

    replace: async (of: BoxKey, { before, next }: { before: Uint8Array; next: Uint8Array }) => {
      const values = { ...valuesOf(of), before: headOf(before), next: headOf(next) };
      const isLarge = Math.max(before.length, next.length) >= HEAD_BYTES;
      if (!rest || !isLarge) {
        const whole = { ...valuesOf(of), before, next };
        return (await engine.run(replace, whole)).length > 0;
      }
      const found = await rowOf(of);
      if (!found) return false;
      const at = rest(found);
      const [replaced] = await engine.atomic([
        step(replace, values),
        step(removeRest, { ...values, ...at }),
        ...insertRest(at, next, values),
      ]);
      return replaced.length > 0;
    },
  };
}

/** As long as a box's own name of its key can be (secrets/seal). */
const START_BYTES = 34;

/** `table.column`, as the database has them. */
export const nameOf = ({ table, box }: Pick<SealedPlace<SQLiteTable>, "table" | "box">) =>
  `${getTableName(table)}.${box.name}`;

function fieldOf(table: SQLiteTable, box: Column): string {
  const found = Object.entries(getTableColumns(table)).find(([, column]) => column === box);
  if (!found) throw new Error(`${box.name} is no column of the table`);
  return found[0];
}

function asKey(column: Column): SQL<KeyValue> {
  return sql`${column}`.mapWith((value: unknown) => column.mapFromDriverValue(value) as KeyValue);
}

/** `(a, b) > (x, y)`, which all engines know. */
function isBehind(key: readonly Column[]): SQL {
  const columns = key.map((column) => sql`${column}`);
  const values = key.map((column, at) => given(column, `key${at}`));
  return sql`(${sql.join(columns, sql`, `)}) > (${sql.join(values, sql`, `)})`;
}
