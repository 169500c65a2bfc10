/** One sort of boxes: `table.column`. */
export type BoxPlace = string;

/** A row's key: the values of its primary key, in order. */
export type BoxKey = readonly (string | number)[];

/** All boxes that the store holds, whatever they are for, so that they can be sealed anew. Of all projects. */
export type SealedBoxes = {
  /** Every place that holds boxes, in the order in which they are looked through. */
  places: readonly BoxPlace[];
  /**
   * At most `limit` rows behind `after`, in order of their keys, each with the first bytes of its box, which name the box's key.
   * Null: the row has none. Fewer rows than `limit`: the place has no more.
   */
  window: (
    place: BoxPlace,
    after: BoxKey | null,
    limit: number,
  ) => Promise<{ key: BoxKey; start: Uint8Array | null }[]>;
  /** The whole box, with what it is bound to. Null: row or box is gone. */
  read: (place: BoxPlace, key: BoxKey) => Promise<{ box: Uint8Array; aad: string } | null>;
  /**
   * `next` in the place of `before`, for the same text and the same place; nothing else of the row changes. False: the box is
   * another one by now, and stays. Each box is unlike every other, so whatever was written meanwhile wins, also what has
   * moved the version that the box is bound to.
   */
  replace: (
    place: BoxPlace,
    key: BoxKey,
    boxes: { before: Uint8Array; next: Uint8Array },
  ) => Promise<boolean>;
};
