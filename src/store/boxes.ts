import { type Column, type SQL, and, asc, eq, sql } from "drizzle-orm";
import type { SQLiteTable } from "drizzle-orm/sqlite-core";
import {
  type Engine,
  type Marked,
  type Statement,
  type Step,
  given,
  insertIfMarked,
  placeholderRows,
  step,
  type Values,
} from "./engine.ts";
import type { Tables } from "./tables.ts";

/**
 * Bytes of any size in rows of limited size (D1: 1 MB). A column holds the first `HEAD_BYTES`; only when it is full do
 * chunk rows follow, so that a small box costs nothing. Three full heads in a row stay below the limit.
 */
export const HEAD_BYTES = 300_000;
export const CHUNK_BYTES = 900_000;

/** Whose bytes: the row's unguessable id (or an agent's name, or a grant's key), and which of its boxes. */
export type BoxPlace = { project: string; owner: string; part: number };

export const headOf = (bytes: Uint8Array) => bytes.subarray(0, HEAD_BYTES);

export type Boxes = {
  /** The whole of what is written once, and whose head was read. */
  whole: (place: BoxPlace, head: Uint8Array) => Promise<Uint8Array>;
  /** What must be written besides the head. */
  rest: (place: BoxPlace, bytes: Uint8Array) => Step<unknown>[];
};

export function createBoxes(engine: Engine): Boxes {
  const { boxChunks } = engine.tables;
  const insert: Statement<unknown> = (db) => db.insert(boxChunks).values(placeholderRows(boxChunks, 1));
  const read: Statement<{ bytes: Uint8Array }[]> = (db) =>
    db
      .select({ bytes: boxChunks.bytes })
      .from(boxChunks)
      .where(
        and(
          eq(boxChunks.project, given(boxChunks.project, "project")),
          eq(boxChunks.owner, given(boxChunks.owner, "owner")),
          eq(boxChunks.part, given(boxChunks.part, "part")),
        ),
      )
      .orderBy(asc(boxChunks.seq));
  return {
    rest: (place, bytes) => chunksOf(place, bytes).map((values) => step(insert, values)),
    whole: async (place, head) => {
      if (head.length < HEAD_BYTES) return head;
      const chunks = await engine.run(read, place);
      return joined([head, ...chunks.map((row) => row.bytes)]);
    },
  };
}

/**
 * Reads the whole of a sealed box whose head was read: a large one's head once more, together with its chunks, for it may have
 * been sealed anew meanwhile. `where`: the row, by `owner` and `part` of the place, or by values of its own.
 */
export function createBoxReader(engine: Engine, of: { table: SQLiteTable; head: Column; where: SQL }) {
  const { boxChunks } = engine.tables;
  const isRest = and(
    eq(boxChunks.project, given(boxChunks.project, "project")),
    eq(boxChunks.owner, given(boxChunks.owner, "owner")),
    eq(boxChunks.part, given(boxChunks.part, "part")),
  );
  const read: Statement<Piece[]> = (db) =>
    db
      .select({ head: headOnce(of.head, boxChunks.seq), bytes: boxChunks.bytes })
      .from(of.table)
      .leftJoin(boxChunks, isRest)
      .where(of.where)
      .orderBy(asc(boxChunks.seq));
  return async (place: BoxPlace, head: Uint8Array, values: Values = {}): Promise<Uint8Array> => {
    if (head.length < HEAD_BYTES) return head;
    return joinedPieces(await engine.run(read, { ...values, ...place }));
  };
}

export type Piece = { head: Uint8Array | null; bytes: Uint8Array | null };

/** The head beside its first chunk alone. */
export const headOnce = (head: Column, seq: Column) =>
  asBytes(sql`case when coalesce(${seq}, 0) = 0 then ${head} end`, head);

/** What is made of a column of bytes, read as that column is. */
export function asBytes(made: SQL, column: Column): SQL<Uint8Array | null> {
  // The column's type is gone where the column may be any; it holds bytes (columns.ts).
  return made.mapWith((value: unknown) => column.mapFromDriverValue(value) as Uint8Array);
}

export const joinedPieces = (pieces: Piece[]) =>
  joined(pieces.flatMap(({ head, bytes }) => [head, bytes]).filter((bytes) => bytes !== null));

/** Like `rest`, as later statements of a list: only if the marked row is there. */
export function createMarkedRest(tables: Tables, row: Marked) {
  const insert = insertIfMarked(tables.boxChunks, row);
  return (place: BoxPlace, bytes: Uint8Array | null, markedValues: Values): Step<unknown>[] => {
    if (bytes === null) return [];
    return chunksOf(place, bytes).map((values) => step(insert, { ...values, ...markedValues }));
  };
}

/** JSON as bytes: a body may be of any size, and keeps the order of its keys. */
export const jsonBytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

/** Reads what `jsonBytes` wrote. The type is the writer's word: only this room writes these columns. */
export const parseJsonBytes = <T>(bytes: Uint8Array) => JSON.parse(new TextDecoder().decode(bytes)) as T;

function chunksOf(place: BoxPlace, bytes: Uint8Array): Values[] {
  const chunks: Values[] = [];
  for (let from = HEAD_BYTES; from < bytes.length; from += CHUNK_BYTES) {
    chunks.push({ ...place, seq: chunks.length, bytes: bytes.subarray(from, from + CHUNK_BYTES) });
  }
  return chunks;
}

/** The bytes of a head and its chunks, in order. */
export function joined(parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
