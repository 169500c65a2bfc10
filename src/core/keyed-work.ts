import { BrokerError } from "./errors.ts";

/** Turns under way that have an `Idempotency-Key`, of one caller and of all callers of this process. */
export type KeyedBounds = { perCaller: number; perProcess: number };

const BOUNDS: KeyedBounds = { perCaller: 128, perProcess: 1_024 };

/**
 * Counts the turns that go on without their caller, or may: whoever has a key can hang up at once and still have the work
 * done, so that open connections bound nothing. All with a key count, because a crowd of them could hang up together.
 */
export function createKeyedWork({ perCaller, perProcess }: KeyedBounds = BOUNDS) {
  const underWay = new Map<string, number>();
  let all = 0;

  /** Takes a place, and gives what gives it back, once. Throws `idempotency` when there is none; then nothing was begun. */
  return (caller: string): (() => void) => {
    const theirs = underWay.get(caller) ?? 0;
    if (theirs >= perCaller) throw new BrokerError("idempotency", { reason: "caller_busy" });
    if (all >= perProcess) throw new BrokerError("idempotency", { reason: "process_busy" });
    underWay.set(caller, theirs + 1);
    all++;
    let isTaken = true;
    return () => {
      if (!isTaken) return;
      isTaken = false;
      all--;
      const left = (underWay.get(caller) ?? 1) - 1;
      if (left > 0) underWay.set(caller, left);
      else underWay.delete(caller);
    };
  };
}
