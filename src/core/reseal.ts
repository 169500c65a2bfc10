import { isRefusal } from "./errors.ts";
import { alone, type Held } from "./leases.ts";
import type { World } from "./ports.ts";
import { type ResealNote, type ResealPoint, readResealNote, writeResealNote } from "./reseal-note.ts";
import type { BoxKey, BoxPlace } from "./sealed-boxes.ts";

/** What the keyring says of boxes. */
export type BoxKeys = {
  /** The ids of its keys, the newest first. Throws `unavailable`. */
  ids: () => Promise<readonly [string, ...string[]]>;
  /** The id of the key that a box names, of its first bytes. Null: it is no box of ours. */
  named: (start: Uint8Array) => string | null;
};

/** What a pass has done by now. `missing`: how many boxes name a key that the keyring lacks, by its id. */
export type ResealCounts = {
  resealed: number;
  /** Somebody else wrote in between, and seals under the newest key. */
  changed: number;
  /** Damaged, or not in their own place. */
  unopened: number;
  missing: Record<string, number>;
};

/** `ended`: everything was looked through. `stopped`: asked to, or the keyring is another one by now. `elsewhere`: another replica is at it. */
export type ResealOutcome = { how: "ended" | "stopped"; counts: ResealCounts } | { how: "elsewhere" };

export type Resealer = {
  /**
   * Seals anew what names an older key than the newest, if the note does not say that it is done by this keyring; a day later it looks
   * again. Where another keyring has been at it since this process saw it done, it looks again after a few minutes.
   */
  tend: (signal: AbortSignal) => Promise<void>;
  /** From the beginning, whatever is known. `tell` hears how far it is, every now and then. */
  all: (signal: AbortSignal, tell?: Tell) => Promise<ResealOutcome>;
};

type Tell = (place: BoxPlace, counts: ResealCounts) => void;
type Row = { place: BoxPlace; key: BoxKey };
type Way = { keyIds: string; from: ResealPoint | null; signal: AbortSignal; tell: Tell };

/**
 * The pass that lets an old key go: every box that names one is opened and sealed under the newest, a few at a time, by one replica. A
 * box is replaced only as long as it is the same, so that a refresh or an edit of the same moment wins, and also a pass of another
 * replica does no harm. Nothing but the box changes: its text, its place and the version that it is bound to stay.
 *
 * Whoever dies in the middle has lost nothing; the next goes on where the note says.
 */
export function createResealer(
  world: Pick<World, "clock" | "log" | "newId" | "observer" | "sealer" | "store">,
  keys: BoxKeys,
): Resealer {
  const { clock, log, observer, sealer, store } = world;
  const { boxes } = store.upkeep;
  /** Which keyring was seen to have done it, and when. */
  let done: { keyIds: string; endedAt: number } | null = null;
  /**
   * Whether what was seen done here was done by another keyring lately. In the middle of a rollout some replicas have one key in front and
   * some another, and some do not know the newest yet. What these have done, those undo; at once, and everything would be sealed back and
   * forth until the last replica knows.
   */
  const isContested = (keyIds: string, note: ResealNote | null) =>
    done?.keyIds === keyIds && clock.now() < (note?.endedAt ?? done.endedAt) + CONTESTED_MS;

  async function pass(mode: "go on" | "anew", signal: AbortSignal, tell: Tell): Promise<ResealOutcome> {
    const outcome = await alone(world, "reseal", async (held): Promise<ResealOutcome> => {
      const ids = await keys.ids();
      const keyIds = ids.join();
      const note = readResealNote(held.note);
      const isSame = mode === "go on" && note?.keyIds === keyIds;
      if (isSame && note.endedAt !== null && clock.now() < note.endedAt + AGAIN_MS) {
        done = { keyIds, endedAt: note.endedAt };
        return { how: "ended", counts: nothing() };
      }
      if (mode === "go on" && !isSame && isContested(keyIds, note))
        return { how: "ended", counts: nothing() };
      const from = isSame && note.endedAt === null ? note.at : null;
      const { how, counts } = await walk(held, { keyIds, from, signal, tell });
      report(ids[0], how, counts);
      if (how === "stopped") return { how, counts };
      const endedAt = clock.now();
      await held.keep(writeResealNote({ keyIds, at: null, endedAt }));
      done = { keyIds, endedAt };
      return { how, counts };
    });
    return outcome ?? { how: "elsewhere" };
  }

  async function walk(held: Held, { keyIds, from, signal, tell }: Way) {
    const counts = nothing();
    const ended = (how: "ended" | "stopped") => ({ how, counts });
    let keptAt = clock.now();
    const places = boxes.places.slice(from ? Math.max(boxes.places.indexOf(from.place), 0) : 0);
    for (const place of places) {
      let after = place === from?.place ? from.after : null;
      for (;;) {
        const ids = await keys.ids();
        // Another keyring: whoever begins next begins anew.
        if (ids.join() !== keyIds || signal.aborted) return ended("stopped");
        const rows = await boxes.window(place, after, WINDOW_ROWS);
        await resealAll(stale(place, rows, { ids, counts }), { counts, signal });
        if (signal.aborted) return ended("stopped");
        after = rows.at(-1)?.key ?? after;
        if (rows.length < WINDOW_ROWS) break;
        if (clock.now() - keptAt >= KEEP_EVERY_MS) {
          keptAt = clock.now();
          const note = writeResealNote({ keyIds, at: { place, after }, endedAt: null });
          if (!(await held.keep(note))) return ended("stopped");
          tell(place, counts);
        }
        await clock.sleep(PAUSE_MS, signal);
      }
    }
    return ended("ended");
  }

  /** Those rows of a window that name an older key. Of those that name an unknown one it is only said how many they are. */
  function stale(
    place: BoxPlace,
    rows: { key: BoxKey; start: Uint8Array | null }[],
    { ids, counts }: { ids: readonly string[]; counts: ResealCounts },
  ): Row[] {
    return rows.flatMap(({ key, start }) => {
      const named = start && keys.named(start);
      if (named === null || named === ids[0]) return [];
      if (ids.includes(named)) return [{ place, key }];
      counts.missing[named] = (counts.missing[named] ?? 0) + 1;
      return [];
    });
  }

  async function resealAll(rows: Row[], { counts, signal }: { counts: ResealCounts; signal: AbortSignal }) {
    for (let at = 0; at < rows.length && !signal.aborted; at += BATCH_BOXES) {
      const waiting = rows.slice(at, at + BATCH_BOXES).values();
      const lane = async () => {
        for (const row of waiting) {
          const outcome = await resealOne(row);
          counts[outcome]++;
          observer.boxResealed(outcome);
        }
      };
      await Promise.all(Array.from({ length: LANES }, lane));
      // Calls come first.
      await clock.sleep(PAUSE_MS, signal);
    }
  }

  async function resealOne({ place, key }: Row): Promise<"resealed" | "changed" | "unopened"> {
    const found = await boxes.read(place, key);
    if (!found) return "changed";
    const plain = await opened(found);
    if (plain === null) {
      const now = await boxes.read(place, key);
      const isSame =
        now !== null &&
        now.box.length === found.box.length &&
        now.box.every((byte, i) => byte === found.box[i]);
      return isSame ? "unopened" : "changed";
    }
    const next = await sealer.seal(plain, found.aad);
    return (await boxes.replace(place, key, { before: found.box, next })) ? "resealed" : "changed";
  }

  /** Null: it does not open, and will not by waiting. */
  async function opened({ box, aad }: { box: Uint8Array; aad: string }): Promise<string | null> {
    try {
      return await sealer.open(box, aad);
    } catch (error) {
      if (isRefusal(error, "unavailable") && error.details.passing !== true) return null;
      throw error;
    }
  }

  function report(newest: string, how: "ended" | "stopped", counts: ResealCounts): void {
    const { missing, unopened } = counts;
    const isNews = counts.resealed > 0 || unopened > 0;
    log(isNews ? "info" : "debug", "reseal_ended", { keyId: newest, how, ...counts });
    if (Object.keys(missing).length > 0) log("warn", "boxes_without_key", { missing });
  }

  return {
    tend: async (signal) => {
      await pass("go on", signal, (place, counts) => log("info", "reseal_progress", { place, ...counts }));
    },
    all: (signal, tell = () => {}) => pass("anew", signal, tell),
  };
}

const nothing = (): ResealCounts => ({ resealed: 0, changed: 0, unopened: 0, missing: {} });

/** How many rows are looked at together: a query of a few milliseconds. */
const WINDOW_ROWS = 200;
/** How many boxes are sealed anew between two pauses, and how many of them at once: calls need the database's clients, too. */
const BATCH_BOXES = 20;
const LANES = 4;
const PAUSE_MS = 5;
/** Far more often than a lease ends. */
const KEEP_EVERY_MS = 5_000;
/** What replicas have written that knew the new key later. */
const AGAIN_MS = 24 * 60 * 60_000;
/** Longer than replicas take to notice a keyring, and not so long that the last of them leaves boxes under an old key for the day. */
const CONTESTED_MS = 10 * 60_000;
