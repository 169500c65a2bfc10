/** One way, measured. `cpuUs`: microseconds of the process in between, for each call; null for the direct way. */
export type Row = {
  name: string;
  perS: number;
  p50Ms: number;
  p99Ms: number;
  requests: number;
  cpuUs: number | null;
};

/** A table in Markdown, with everything also as a ratio to the direct way. */
export function table(upstream: string, connections: number, rows: Row[]): string {
  const [direct] = rows;
  const lines = rows.map(({ name, perS, p50Ms, p99Ms, cpuUs }) =>
    [
      name,
      Math.round(perS),
      direct ? (perS / direct.perS).toFixed(2) : "",
      p50Ms.toFixed(2),
      direct ? (p50Ms - direct.p50Ms).toFixed(2) : "",
      p99Ms.toFixed(2),
      cpuUs === null ? "" : Math.round(cpuUs),
    ].join(" | "),
  );
  return [
    `**${upstream} server, ${connections} ${connections === 1 ? "connection" : "connections"}**`,
    "",
    "| way | calls/s | ratio | p50 ms | added p50 | p99 ms | CPU µs a call |",
    "|---|---|---|---|---|---|---|",
    ...lines.map((line) => `| ${line} |`),
  ].join("\n");
}

/** A table in Markdown in which each group of rows is compared with its first one. */
export function comparison(title: string, groups: readonly (readonly Row[])[]): string {
  const lines = groups.flatMap((rows) => rows.map((row) => compared(row, rows[0] ?? row)));
  return [
    `**${title}**`,
    "",
    "| | calls/s | ratio | p50 ms | p99 ms | CPU µs a call |",
    "|---|---|---|---|---|---|",
    ...lines.map((line) => `| ${line} |`),
  ].join("\n");
}

function compared({ name, perS, p50Ms, p99Ms, cpuUs }: Row, first: Row): string {
  const cpu = cpuUs === null ? "" : Math.round(cpuUs);
  return [
    name,
    Math.round(perS),
    (perS / first.perS).toFixed(2),
    p50Ms.toFixed(2),
    p99Ms.toFixed(2),
    cpu,
  ].join(" | ");
}
