import { BrokerError } from "./errors.ts";

/** Turns under way that have an `Idempotency-Key`, of one caller and of all callers of this process. */
export type KeyedBounds = { perCaller: number; perProcess: number };

const BOUNDS: KeyedBounds = { perCaller: 128, perProcess: 1_024 };

/** A turn's place among those under way. */
export type Place = {
  /** It is still under way, until then at least. */
  renew: (until: number) => void;
  /** Gives it back, once. */
  leave: () => void;
};

/**
 * Counts the turns that go on without their caller, or may: whoever has a key can hang up at once and still have the work
 * done, so that open connections bound nothing. All with a key count, because a crowd of them could hang up together.
 *
 * A place is kept until the time that it was taken or renewed for, when another wants it: a runtime may end a turn without a word.
 */
export function createKeyedWork(now: () => number, { perCaller, perProcess }: KeyedBounds = BOUNDS) {
  const underWay = new Map<string, Set<Held>>();
  let all = 0;

  function put(held: Held): void {
    const theirs = underWay.get(held.caller) ?? new Set();
    if (!theirs.has(held)) all++;
    underWay.set(held.caller, theirs.add(held));
  }

  function remove(held: Held): void {
    const theirs = underWay.get(held.caller);
    if (!theirs?.delete(held)) return;
    all--;
    if (theirs.size === 0) underWay.delete(held.caller);
  }

  function removeEnded(held: Iterable<Held>): void {
    for (const each of held) if (each.until <= now()) remove(each);
  }

  /** Takes a place until then. Throws `idempotency` when there is none; then nothing was begun. */
  return (caller: string, until: number): Place => {
    if (theirs(caller) >= perCaller) removeEnded(underWay.get(caller) ?? []);
    if (theirs(caller) >= perCaller) throw new BrokerError("idempotency", { reason: "caller_busy" });
    if (all >= perProcess) removeEnded([...underWay.values()].flatMap((held) => [...held]));
    if (all >= perProcess) throw new BrokerError("idempotency", { reason: "process_busy" });
    const held: Held = { caller, until };
    let isLeft = false;
    put(held);
    return {
      renew: (later) => {
        if (isLeft) return;
        held.until = later;
        // Perhaps it was so late that its place was taken for one that nobody needs.
        put(held);
      },
      leave: () => {
        isLeft = true;
        remove(held);
      },
    };
  };

  function theirs(caller: string): number {
    return underWay.get(caller)?.size ?? 0;
  }
}

type Held = { caller: string; until: number };
