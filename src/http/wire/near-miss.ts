/**
 * The name that a writer meant: equal to `given` but for case, `_` and `-`, or at most two letters away. Null: none,
 * or `given` is one of them.
 */
export function nearMiss(given: string, names: readonly string[]): string | null {
  if (names.includes(given)) return null;
  const folded = fold(given);
  return names.find((name) => isClose(folded, fold(name))) ?? null;
}

const MAX_DISTANCE = 2;

function fold(name: string): string {
  return name.toLowerCase().replaceAll(/[_-]/g, "");
}

function isClose(a: string, b: string): boolean {
  // Names come from strangers, and may be long.
  return Math.abs(a.length - b.length) <= MAX_DISTANCE && distance(a, b) <= MAX_DISTANCE;
}

/** Levenshtein's: how many letters to insert, delete or replace. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 0; i < a.length; i++) {
    const above = row;
    row = [i + 1];
    for (let j = 0; j < b.length; j++) {
      const replaced = (above[j] ?? 0) + (a[i] === b[j] ? 0 : 1);
      row.push(Math.min(replaced, (above[j + 1] ?? 0) + 1, (row[j] ?? 0) + 1));
    }
  }
  return row.at(-1) ?? 0;
}
