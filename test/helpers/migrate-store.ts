import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

export type Migration = {
  /** Everything that it has said so far. */
  output: () => string;
  kill9: () => void;
  exited: Promise<number | null>;
};

/** The command that moves a store, as a process. `heapMb`: what it may have for its objects. */
export function migrateStore(from: string, to: string, { heapMb }: { heapMb?: number } = {}): Migration {
  const command = join(import.meta.dirname, "../../bin/migrate-store.mjs");
  const limits = heapMb === undefined ? [] : [`--max-old-space-size=${heapMb}`];
  const child = spawn(process.execPath, [...limits, command, from, to], {
    env: { PATH: process.env["PATH"] ?? "" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  return {
    output: () => output,
    kill9: () => child.kill("SIGKILL"),
    exited: once(child, "close").then(([code]) => code as number | null),
  };
}
