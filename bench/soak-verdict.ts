import type { Reading } from "./soak-readings.ts";

/** What a soak may leave behind from its middle to its end. */
export type Allowed = {
  /** Of the heap and of buffers, after a collection. */
  memoryMiB: number;
  rssMiB: number;
  /** Sockets and what keeps the process running: connections that are kept alive come and go. */
  handles: number;
};

export const ALLOWED: Allowed = { memoryMiB: 4, rssMiB: 16, handles: 8 };

/** What is remembered of each call by design: until it is swept, deleted, or for good. */
const REMEMBERED = new Set(["audit", "responses", "threads", "items", "held_calls", "idempotency"]);

/** A consent that nobody gives lasts ten minutes; the next call asks by a new one. */
const ROWS_MORE: Record<string, number> = { consents: 15 };

/** What grew from the middle of a soak to its end and should not have, each as a sentence. */
export function leaksOf(middle: Reading, end: Reading, allowed = ALLOWED): string[] {
  const grew = (what: string, [before, after]: [number, number], most: number) =>
    after - before > most ? [`${what}: ${round(before)}, then ${round(after)}`] : [];
  const counts = (what: string, before: Record<string, number>, after: Record<string, number>) =>
    Object.entries(after).flatMap(([name, count]) =>
      grew(`${what} ${name}`, [before[name] ?? 0, count], allowed.handles),
    );
  return [
    ...grew("heap, MiB", [middle.heapMiB, end.heapMiB], allowed.memoryMiB),
    ...grew("external memory, MiB", [middle.externalMiB, end.externalMiB], allowed.memoryMiB),
    ...grew("resident memory, MiB", [middle.rssMiB, end.rssMiB], allowed.rssMiB),
    ...counts("handles", middle.handles, end.handles),
    ...counts("open files", middle.files, end.files),
    ...Object.entries(end.rows)
      .filter(([table]) => !REMEMBERED.has(table))
      .flatMap(([table, rows]) =>
        grew(`rows of ${table}`, [middle.rows[table] ?? 0, rows], ROWS_MORE[table] ?? 0),
      ),
  ];
}

/** The readings as a table in Markdown, a column each. */
export function soakTable(readings: readonly Reading[]): string {
  const row = (name: string, of: (reading: Reading) => number) =>
    `| ${name} | ${readings.map((reading) => round(of(reading))).join(" | ")} |`;
  const names = (of: (reading: Reading) => Record<string, number>) =>
    [...new Set(readings.flatMap((reading) => Object.keys(of(reading))))].toSorted();
  return [
    `| after calls | ${readings.map(({ calls }) => calls).join(" | ")} |`,
    `|${"---|".repeat(readings.length + 1)}`,
    row("resident, MiB", ({ rssMiB }) => rssMiB),
    row("heap in use, MiB", ({ heapMiB }) => heapMiB),
    row("external, MiB", ({ externalMiB }) => externalMiB),
    ...names(({ handles }) => handles).map((name) => row(name, ({ handles }) => handles[name] ?? 0)),
    ...names(({ files }) => files).map((name) => row(`open: ${name}`, ({ files }) => files[name] ?? 0)),
    ...names(({ rows }) => rows).map((name) => row(`rows: ${name}`, ({ rows }) => rows[name] ?? 0)),
  ].join("\n");
}

const round = (value: number) => Math.round(value * 10) / 10;
