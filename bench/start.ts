import { mkdtemp, rm } from "node:fs/promises";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { startBroker } from "./broker.ts";
import { cpuMsOf, usageOf } from "./processes.ts";

/** From spawn to the first 200 of /readyz. Milliseconds, MiB. */
type Start = { wallMs: number; cpuMs: number; rssMiB: number };

const STARTS = 10;
/** What the image gives Node. */
const AS_THE_IMAGE = ["--min-semi-space-size=16"];

/**
 * What a start takes, by several of them on the same database, and what the process holds when nobody has asked it
 * anything for `restMs`. Gives sentences.
 */
export async function measureStarts(
  entry: string,
  { restMs, env = {} }: { restMs: number; env?: Record<string, string> },
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "consentry-start-"));
  const starts: Start[] = [];
  let restMiB = 0;
  try {
    for (let at = 0; at <= STARTS; at++) {
      const begun = performance.now();
      const broker = await startBroker(entry, { folder, env, flags: AS_THE_IMAGE });
      const { status } = await fetch(`${broker.url}/readyz`);
      const wallMs = performance.now() - begun;
      const [cpuMs, { rssMiB }] = await Promise.all([cpuMsOf(broker.pid), usageOf(broker.pid)]);
      if (status !== 200) throw new Error(`/readyz says ${status}`);
      // The first one makes the database.
      if (at > 0) starts.push({ wallMs, cpuMs, rssMiB });
      if (at === STARTS) {
        await delay(restMs);
        restMiB = (await usageOf(broker.pid)).rssMiB;
      }
      await broker.stop();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const of = (pick: (start: Start) => number) => {
    const sorted = starts.map(pick).toSorted((a, b) => a - b);
    return { least: Math.round(sorted[0] ?? NaN), median: Math.round(sorted[STARTS / 2] ?? NaN) };
  };
  const wall = of(({ wallMs }) => wallMs);
  const cpu = of(({ cpuMs }) => cpuMs);
  const rss = of(({ rssMiB }) => rssMiB);
  return (
    `a start until /readyz: ${wall.median} ms (least ${wall.least}), of CPU ${cpu.median} ms (least ${cpu.least}); resident memory ` +
    `${rss.median} MiB when ready, ${Math.round(restMiB)} MiB after ${restMs / 1000} s in which nobody asked; ` +
    `medians of ${STARTS}, load ${loadavg()[0]?.toFixed(1)}`
  );
}
