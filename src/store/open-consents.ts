import { type SQL, and, inArray } from "drizzle-orm";
import { type Marked, type Statement, given, ifMarked } from "./engine.ts";
import type { Tables } from "./tables.ts";

/** What an ended consent holds no more: its slot, its state, and what its authorization was made with. */
export const OVER = { slot: null, stateHash: null, sealedFlow: null };

export const isOpen = ({ consents }: Tables) => inArray(consents.status, ["open", "authorizing"]);

/** A later statement of a list: the open consents that `which` names fail, if the marked row is there. */
export function failIfMarked(tables: Tables, row: Marked, which: SQL | undefined): Statement<unknown> {
  return failOpen(tables, and(which, ifMarked(row)));
}

/** The open consents that `which` names fail. Values: `outcome`, `at`, and `consentMark`, which is fresh or the list's. */
export function failOpen(tables: Tables, which: SQL | undefined): Statement<unknown> {
  const { consents } = tables;
  return (db) =>
    db
      .update(consents)
      .set({
        slot: null,
        // The state stays: whoever comes back with it is told what has happened meanwhile.
        sealedFlow: null,
        status: "failed",
        outcome: given(consents.outcome, "outcome"),
        endedAt: given(consents.endedAt, "at"),
        writeId: given(consents.writeId, "consentMark"),
      })
      .where(and(which, isOpen(tables)));
}
