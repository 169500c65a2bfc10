import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** The broker as its own process, by the command that users run. */
export type BrokerProcess = {
  url: string;
  pid: number;
  /** Everything that it has written. */
  output: () => string;
  /** Ends it as a power cut would. */
  kill9: () => Promise<void>;
  /** Asks it to stop, and gives its exit code. */
  stop: () => Promise<number | null>;
  exited: Promise<number | null>;
};

/** What every process is given that a test starts: where programs are, and what Node has compiled of them before. */
export function childEnv(): Record<string, string> {
  return {
    PATH: process.env["PATH"] ?? "",
    NODE_COMPILE_CACHE: process.env["NODE_COMPILE_CACHE"] ?? "",
  };
}

export async function startBroker(env: Record<string, string>): Promise<BrokerProcess> {
  const door = join(import.meta.dirname, "../../bin/consentry.mjs");
  const child = spawn(process.execPath, [door], {
    env: { ...childEnv(), CONSENTRY_PORT: "0", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const lines: string[] = [];
  child.stderr.setEncoding("utf8").on("data", (text: string) => lines.push(text));
  const exited = once(child, "exit").then(([code]) => code as number | null);
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      lines.push(line);
      const found = /"event":"started","url":"([^"]+)"/.exec(line)?.[1];
      if (found !== undefined) resolve(found);
    });
    void exited.then((code) => reject(new Error(`the broker ended with ${code}:\n${lines.join("\n")}`)));
  });
  return {
    url,
    pid: pidOf(child),
    output: () => lines.join("\n"),
    kill9: async () => {
      child.kill("SIGKILL");
      await exited;
    },
    stop: async () => {
      child.kill("SIGTERM");
      return exited;
    },
    exited,
  };
}

function pidOf({ pid }: ChildProcess): number {
  if (pid === undefined) throw new Error("the broker did not start");
  return pid;
}
