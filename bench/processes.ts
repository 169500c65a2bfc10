import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { createInterface } from "node:readline";

/** A server of the benchmark, as a process of its own. */
export type Server = { url: string; pid: number; stop: () => Promise<void> };

/** What a process has used so far. Seconds of CPU, MiB of memory. */
export type Usage = { cpuS: number; rssMiB: number };

/** Starts Node with these arguments and waits for the line with the URL of what listens. */
export async function startNode(
  args: string[],
  { env = {}, ready = /^ready (\S+)$/ }: { env?: Record<string, string>; ready?: RegExp } = {},
): Promise<Server> {
  const child = spawn(process.execPath, args, {
    env: { PATH: process.env["PATH"] ?? "", NODE_ENV: "production", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  createInterface({ input: child.stderr }).on("line", (line) => {
    if (!OF_INSPECTOR.test(line)) console.error(line);
  });
  const exited = once(child, "exit");
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      const found = ready.exec(line)?.[1];
      if (found !== undefined) resolve(found);
    });
    void exited.then(([code]) => reject(new Error(`${args.join(" ")} ended with ${String(code)}`)));
  });
  const { pid } = child;
  if (pid === undefined) throw new Error(`${args.join(" ")} did not start`);
  const stop = async () => {
    child.kill("SIGTERM");
    await exited;
  };
  return { url, pid, stop };
}

/** What Node says whenever somebody looks into it. */
const OF_INSPECTOR = /^Debugger |^For help, see: https:\/\/nodejs\.org/;

/** Of a process and, with `children`, of those that it started (nginx works in another one). By Linux's /proc. */
export async function usageOf(pid: number, { children = [] as number[] } = {}): Promise<Usage> {
  const all = await Promise.all([pid, ...children].map(usageOfOne));
  return {
    cpuS: all.reduce((sum, { cpuS }) => sum + cpuS, 0),
    rssMiB: all.reduce((sum, { rssMiB }) => sum + rssMiB, 0),
  };
}

/** Of a process and its threads, milliseconds of CPU so far: finer than the ticks of its `stat`. */
export async function cpuMsOf(pid: number): Promise<number> {
  const tasks = await readdir(`/proc/${pid}/task`);
  const times = await Promise.all(
    tasks.map((task) => readFile(`/proc/${pid}/task/${task}/schedstat`, "utf8").catch(() => "0")),
  );
  return times.reduce((sum, text) => sum + Number(text.split(" ")[0]) / 1e6, 0);
}

/** The processes that it has started from its first thread. */
export async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
  return text.split(" ").filter(Boolean).map(Number);
}

async function usageOfOne(pid: number): Promise<Usage> {
  const [stat, status] = await Promise.all([
    readFile(`/proc/${pid}/stat`, "utf8"),
    readFile(`/proc/${pid}/status`, "utf8"),
  ]);
  // proc(5): the name may hold blanks and brackets; user and system time are the 14th and 15th field.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ticks = Number(fields[11]) + Number(fields[12]);
  const kib = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? Number.NaN);
  return { cpuS: ticks / TICKS_PER_S, rssMiB: kib / 1024 };
}

const TICKS_PER_S = 100;
