import type { NewId } from "../core/ports.ts";

/**
 * Ids of the shape that `NewId` promises. `evt` ids begin with the time in 12 hex digits and then count, so that the
 * entries that one process makes within a millisecond sort in the order in which they were made.
 */
export function createNewId(source: {
  randomBytes: (count: number) => Uint8Array;
  /** Milliseconds since the epoch, for `evt` ids that are made without a time. */
  now: () => number;
}): NewId {
  let lastAt = -1;
  let count = 0;
  let pool = "";
  // Asking for randomness costs far more than the bytes themselves, and a call makes five ids. None is handed out twice.
  const randomHex = (digits: number) => {
    if (pool.length < digits) pool = hex(source.randomBytes(POOL_BYTES));
    const taken = pool.slice(0, digits);
    pool = pool.slice(digits);
    return taken;
  };
  const timed = (at: number) => {
    count = at === lastAt ? Math.min(count + 1, MAX_COUNT) : 0;
    lastAt = at;
    return hexNumber(at, TIME_DIGITS) + hexNumber(count, COUNT_DIGITS);
  };
  return (prefix, at) => {
    const head = prefix === "evt" ? timed(at ?? source.now()) : "";
    return `${prefix}_${head}${randomHex(ID_DIGITS - head.length)}`;
  };
}

/** A piece of a text keeps the whole in memory for as long as it is kept itself, so the whole is small. */
const POOL_BYTES = 512;
const ID_DIGITS = 50;
const TIME_DIGITS = 12;
const COUNT_DIGITS = 4;
const MAX_COUNT = 0xffff;

function hexNumber(value: number, digits: number): string {
  return Math.trunc(value).toString(16).padStart(digits, "0");
}

export function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += HEX_OF[byte] ?? "";
  return text;
}

const HEX_OF = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));
