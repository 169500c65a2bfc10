import type { ConsentNotice } from "./items.ts";
import type { TurnEvent, Usage } from "./request.ts";
import type { Said } from "./turn-round.ts";

/** What a turn notes besides what it says, for whoever has to go on with it. */
export type Mark =
  /** Somebody has taken it up. */
  | { kind: "taken" }
  /** A call may leave from here on; of an approved one `id` is the approval's. */
  | { kind: "call_begun"; id: string }
  /** A model is asked. What it says goes from item `from` on. */
  | { kind: "round_begun"; from: number }
  /** It has said all; `usage`: of all rounds so far. */
  | { kind: "round_heard"; said: Said; usage: Usage }
  /** All that was to be done is done. */
  | { kind: "closing" };

/** What is kept of a turn under way, in order. A notice of consents is kept as its item, since a link is never stored. */
export type Entry =
  | { event: TurnEvent }
  | { mark: Mark }
  | { notice: { index: number; item: ConsentNotice } };

/** Where a turn that must survive its process writes what it does. */
export type Journal = {
  /** Aborts when the turn is to be left as it is: somebody else has it, or shall have it. Then nothing more is begun. */
  leaving: AbortSignal;
  /** In order with the events; nobody waits for it. */
  note: (mark: Mark) => void;
  /** Resolves when it is kept with all before it. False: the turn is somebody else's by now. */
  keep: (mark: Mark) => Promise<boolean>;
  /** Throws `revoked` when whoever it is made for may not go on. */
  goOn: () => Promise<void>;
};

/** A turn that is to be made in the background. `entries`: what was kept of it by those who had it before. */
export type Onward = {
  journal: Journal;
  entries: Entry[];
  /** Why it cannot be made any more: then it only ends. */
  fault: unknown;
};

/** Notes that a call is about to leave. False: it must not. */
export async function mayLeave(journal: Journal | null, id: string): Promise<boolean> {
  if (!journal) return true;
  return !journal.leaving.aborted && (await journal.keep({ kind: "call_begun", id }));
}

/** Thrown where a turn is left in the middle; whoever left it knows why. */
export const left = () => new Error("the turn is left for another to go on with");
