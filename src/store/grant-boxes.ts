import { and, asc, eq } from "drizzle-orm";
import type { Grant, GrantKey } from "../core/grants.ts";
import { HEAD_BYTES, type Piece, createMarkedRest, headOnce, joinedPieces } from "./boxes.ts";
import {
  type Engine,
  type Marked,
  type Statement,
  type Step,
  type Values,
  given,
  ifMarked,
  step,
} from "./engine.ts";

/** A piece of a grant's box, with the version at which the row was when it was read. */
export type Chunk = Piece & { version: number };

/**
 * The boxes of grants. Other boxes hold the same text for ever; these are replaced, so their chunks are kept by version, and
 * read together with the row: whoever holds an older row learns of it.
 */
export type GrantBoxes = {
  /** With its whole box. Null: the row has moved on, and the chunks of its version may be gone. */
  whole: (found: Grant) => Promise<Grant | null>;
  /** As a statement of a list that has locked the row: always those of the row's version (`withChunks`). */
  chunks: (key: GrantKey) => Step<Chunk[]>;
  /** What must be written besides the head, in the place of what is there; only if the row is marked. */
  replaced: (next: GrantKey & Pick<Grant, "version" | "sealed">, markedValues: Values) => Step<unknown>[];
  removed: (key: GrantKey, markedValues: Values) => Step<unknown>;
};

export function createGrantBoxes(engine: Engine, row: Marked): GrantBoxes {
  const { grants, boxChunks } = engine.tables;
  const rest = createMarkedRest(engine.tables, row);

  const read: Statement<Chunk[]> = (db) =>
    db
      .select({
        version: grants.version,
        head: headOnce(grants.sealed, boxChunks.seq),
        bytes: boxChunks.bytes,
      })
      .from(grants)
      .leftJoin(
        boxChunks,
        and(
          eq(boxChunks.project, grants.project),
          eq(boxChunks.owner, given(boxChunks.owner, "owner")),
          eq(boxChunks.part, grants.version),
        ),
      )
      .where(
        and(
          eq(grants.project, given(grants.project, "project")),
          eq(grants.connectionId, given(grants.connectionId, "connectionId")),
          eq(grants.user, given(grants.user, "user")),
        ),
      )
      .orderBy(asc(boxChunks.seq));
  const remove: Statement<unknown> = (db) =>
    db
      .delete(boxChunks)
      .where(
        and(
          eq(boxChunks.project, given(boxChunks.project, "project")),
          eq(boxChunks.owner, given(boxChunks.owner, "owner")),
          ifMarked(row),
        ),
      );

  const ofKey = (key: GrantKey) => ({ ...keyOf(key), owner: ownerOf(key) });
  const removed: GrantBoxes["removed"] = (key, markedValues) =>
    step(remove, { project: key.project, owner: ownerOf(key), ...markedValues });

  return {
    whole: async (found) => {
      if (found.sealed.length < HEAD_BYTES) return found;
      const chunks = await engine.run(read, ofKey(found));
      return chunks[0]?.version === found.version ? withChunks(found, chunks) : null;
    },
    chunks: (key) => step(read, ofKey(key)),
    replaced: (next, markedValues) => {
      const place = { project: next.project, owner: ownerOf(next), part: next.version };
      return [removed(next, markedValues), ...rest(place, next.sealed, markedValues)];
    },
    removed,
  };
}

/** A row with the chunks that were read at its version. */
export function withChunks(grant: Grant, chunks: Chunk[]): Grant {
  return chunks.length === 0 ? grant : { ...grant, sealed: joinedPieces(chunks) };
}

/** Nothing but the key of what may hold more. */
export const keyOf = ({ project, connectionId, user }: GrantKey) => ({ project, connectionId, user });

/** By the key, not the id, so that it is known before the row was read. */
export const ownerOf = ({ connectionId, user }: Omit<GrantKey, "project">) => `grant:${connectionId}:${user}`;
