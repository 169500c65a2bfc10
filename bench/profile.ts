import { join, relative } from "node:path";
import { connect } from "./inspector.ts";

/** What V8's profiler gives, as far as it is read here. Microseconds. */
type Profile = {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  samples: number[];
  timeDeltas: number[];
};

const PER_SAMPLE_US = 200;

/**
 * The places and the functions in which a call spends most of its own time, as tables in Markdown: of a process that has
 * started and is warm. `work` gives how many calls it made.
 */
export async function topOf(port: number, work: () => Promise<number>): Promise<string> {
  const profiler = await connect(port);
  await profiler.ask("Profiler.enable");
  await profiler.ask("Profiler.setSamplingInterval", { interval: PER_SAMPLE_US });
  await profiler.ask("Profiler.start");
  const calls = await work();
  const { profile } = (await profiler.ask("Profiler.stop")) as { profile: Profile };
  profiler.close();
  return tablesOf(profile, calls);
}

function tablesOf({ nodes, samples, timeDeltas }: Profile, calls: number): string {
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
  const functions = new Map<string, number>();
  const places = new Map<string, number>();
  for (const [at, id] of samples.entries()) {
    const frame = frames.get(id);
    if (!frame || frame.functionName === "(idle)" || frame.functionName === "(root)") continue;
    const place = placeOf(frame.url);
    const us = timeDeltas[at] ?? 0;
    add(functions, `${frame.functionName || "(anonymous)"} ${fileOf(frame.url)}:${frame.lineNumber + 1}`, us);
    add(places, place, us);
  }
  const rows = (of: Map<string, number>, most: number) =>
    [...of]
      .toSorted(([, a], [, b]) => b - a)
      .slice(0, most)
      .map(([what, us]) => `| ${what} | ${(us / calls).toFixed(1)} |`);
  return [
    "| in | µs a call |",
    "|---|---|",
    ...rows(places, 12),
    "",
    "| function | µs a call |",
    "|---|---|",
    ...rows(functions, 25),
  ].join("\n");
}

function add(sums: Map<string, number>, name: string, us: number): void {
  sums.set(name, (sums.get(name) ?? 0) + us);
}

/** A package, a room of ours, or Node itself. */
function placeOf(url: string): string {
  if (url === "") return "V8: garbage collection and compiled-in functions";
  if (url.startsWith("node:")) return "Node";
  const inPackage = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1];
  return inPackage ?? fileOf(url).split("/").slice(0, 2).join("/");
}

const root = join(import.meta.dirname, "..");
const fileOf = (url: string) => (url.startsWith("file:") ? relative(root, new URL(url).pathname) : url);
