import type { Json } from "./json.ts";
import type { BoxKey, BoxPlace } from "./sealed-boxes.ts";

/** Behind which row everything is still to be done. `after` null: the whole place is. */
export type ResealPoint = { place: BoxPlace; after: BoxKey | null };

/**
 * How far the boxes are sealed anew by a keyring of these ids: a key that was put back opens what was passed by before. `endedAt`
 * null: they are not all yet, and `at` says how far.
 */
export type ResealNote = { keyIds: string; at: ResealPoint | null; endedAt: number | null };

export const writeResealNote = ({ keyIds, at, endedAt }: ResealNote): Json => ({
  keyIds,
  at: at && { place: at.place, after: at.after && [...at.after] },
  endedAt,
});

/** Null: there is none, or none that is known here; then everything is done anew. */
export function readResealNote(note: Json): ResealNote | null {
  if (note === null || typeof note !== "object" || Array.isArray(note)) return null;
  const { keyIds, at, endedAt } = note;
  if (typeof keyIds !== "string") return null;
  return { keyIds, at: pointOf(at), endedAt: typeof endedAt === "number" ? endedAt : null };
}

function pointOf(at: Json | undefined): ResealPoint | null {
  if (at === undefined || at === null || typeof at !== "object" || Array.isArray(at)) return null;
  const { place, after } = at;
  return typeof place === "string" ? { place, after: keyOf(after) } : null;
}

function keyOf(after: Json | undefined): BoxKey | null {
  if (!Array.isArray(after)) return null;
  const key = after.filter((value) => typeof value === "string" || typeof value === "number");
  return key.length === after.length ? key : null;
}
