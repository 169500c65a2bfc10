import { type Call, load } from "./load.ts";
import { usageOf } from "./processes.ts";
import type { Row } from "./table.ts";

/** A way to an answer. `server`: the process in between, with those that share its work, whose cost it is; null for the direct way. */
export type Way = { name: string; call: Call; server: { pid: number; children?: number[] } | null };

/** `warmS`: for how long each way is called before the first round. Seconds. */
export type Rounds = { connections: number; rounds: number; seconds: number; warmS?: number; folder: string };

/** Each way has its turn in each round, so that what the machine does meanwhile happens to all of them. Gives medians. */
export async function rowsOf(
  ways: readonly Way[],
  { connections, rounds, seconds, warmS = 1, folder }: Rounds,
): Promise<Row[]> {
  const taken = new Map<string, Row[]>();
  if (warmS > 0) for (const { call } of ways) await load(call, { connections, seconds: warmS, folder });
  for (let round = 0; round < rounds; round++) {
    for (const { name, call, server } of ways) {
      const before = server && (await usageOf(server.pid, server));
      const measured = await load(call, { connections, seconds, folder });
      const after = server && (await usageOf(server.pid, server));
      const cpuUs = before && after ? ((after.cpuS - before.cpuS) / measured.requests) * 1e6 : null;
      taken.set(name, [...(taken.get(name) ?? []), { name, ...measured, cpuUs }]);
    }
    process.stderr.write(`\r${connections} connections, round ${round + 1} of ${rounds} `);
  }
  process.stderr.write("\r");
  return [...taken.values()].map(medianOf);
}

/** The middle of each figure by itself, and all requests together. */
export function medianOf(rows: readonly Row[]): Row {
  const middle = (of: (row: Row) => number) =>
    rows.map(of).toSorted((a, b) => a - b)[Math.floor(rows.length / 2)] ?? NaN;
  const isCounted = rows.every(({ cpuUs }) => cpuUs !== null);
  return {
    name: rows[0]?.name ?? "",
    perS: middle(({ perS }) => perS),
    p50Ms: middle(({ p50Ms }) => p50Ms),
    p99Ms: middle(({ p99Ms }) => p99Ms),
    requests: rows.reduce((sum, { requests }) => sum + requests, 0),
    cpuUs: isCounted ? middle(({ cpuUs }) => cpuUs ?? NaN) : null,
  };
}
