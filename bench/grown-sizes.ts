import { countsOf } from "./engines.ts";

/** People with grants that are called for, the one whom the others are like among them. */
export const PEOPLE = 1_000;
/** The box of a grant at a provider with long tokens. */
export const BOX_BYTES = 2_700;
/** Boxes of one database together: with the rows and indexes around them it stays below 3 GB. */
const ALL_BOXES_BYTES = 900e6;
/** How often people who are called for come between the others. */
const SLICES = 100;

/** Reads the sizes of a table of grants. Throws at what is none, or has no room for those who are called for. */
export function sizesOf(text: string): number[] {
  const sizes = countsOf("grants", text);
  if (sizes.some((size) => size < PEOPLE))
    throw new Error(`--grants is numbers from ${PEOPLE} on; not "${text}"`);
  return sizes;
}

/** Of those who are not called for: as in life, or as many bytes as the disk has room for. */
export function boxBytesAt(size: number): number {
  return Math.min(BOX_BYTES, Math.floor(ALL_BOXES_BYTES / size));
}

/** In which portions a table grows to `size`, of which one is there: some people who are called for, and others after them. */
export function slicesOf(size: number): { people: number; others: number }[] {
  const upTo = (all: number, slice: number) => Math.floor((all * slice) / SLICES);
  const portion = (all: number, slice: number) => upTo(all, slice + 1) - upTo(all, slice);
  return Array.from({ length: SLICES }, (_, slice) => ({
    people: portion(PEOPLE - 1, slice),
    others: portion(size - PEOPLE, slice),
  }));
}
