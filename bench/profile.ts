import { readdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";

/** What V8 writes (`--cpu-prof`), as far as it is read here. Microseconds. */
type Profile = {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  samples: number[];
  timeDeltas: number[];
};

const PER_SAMPLE_US = 200;

/** Node's flags that have a process write its profile when it ends. */
export const profilingInto = (folder: string) => [
  "--cpu-prof",
  `--cpu-prof-dir=${folder}`,
  `--cpu-prof-interval=${PER_SAMPLE_US}`,
];

/** The functions, and the packages, in which a call spends most of its own time, as a table in Markdown. */
export async function topOf(folder: string, calls: number): Promise<string> {
  const name = (await readdir(folder)).find((file) => file.endsWith(".cpuprofile"));
  if (name === undefined) throw new Error("the broker left no profile");
  const { nodes, samples, timeDeltas } = JSON.parse(await readFile(join(folder, name), "utf8")) as Profile;
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
