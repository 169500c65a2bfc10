import { cpSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** The program's migrations as they were when there were `count` of them, in a folder of its own under `within`. */
export function firstMigrations(folder: string, count: number, within: string): string {
  const { copy, path, journal } = copied(folder, within);
  writeFileSync(path, JSON.stringify({ ...journal, entries: journal.entries.slice(0, count) }));
  return copy;
}

/** The program's migrations and one more, as a later version would bring it. */
export function laterMigrations(folder: string, statement: string, within: string): string {
  const { copy, path, journal } = copied(folder, within);
  const later = { idx: journal.entries.length, version: "7", when: Date.UTC(2099, 0, 2), tag: "later" };
  journal.entries.push({ ...later, breakpoints: true });
  writeFileSync(path, JSON.stringify(journal));
  writeFileSync(join(copy, "later.sql"), statement);
  return copy;
}

function copied(folder: string, within: string) {
  const copy = mkdtempSync(join(within, "consentry-migrations-"));
  cpSync(folder, copy, { recursive: true });
  const path = join(copy, "meta", "_journal.json");
  // Seam: what drizzle-kit writes.
  const journal = JSON.parse(readFileSync(path, "utf8")) as { entries: object[] };
  return { copy, path, journal };
}
