import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { childEnv } from "./process.ts";

const root = join(import.meta.dirname, "../..");

/** A block of code as a document shows it. */
export type CodeBlock = { language: string; code: string };

/** A document, by its path in `docs`. */
export const textOf = (name: string) => readFile(join(root, "docs", name), "utf8");

/** Its fenced blocks, in order. */
export async function blocksOf(name: string): Promise<CodeBlock[]> {
  return [...(await textOf(name)).matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(
    ([, language = "", code = ""]) => ({
      language,
      code,
    }),
  );
}

/** The one block whose first line begins so. Throws: the document has none, or several. */
export function blockThatBegins(blocks: readonly CodeBlock[], beginning: string): string {
  const [found, ...others] = blocks.filter(({ code }) => code.startsWith(beginning));
  if (!found || others.length > 0) throw new Error(`not one block begins with "${beginning}"`);
  return found.code;
}

export type DocumentProcess = {
  port: number;
  /** Everything that it has written. */
  output: () => string;
  /** Asks it to stop, and gives its exit code. */
  stop: () => Promise<number | null>;
};

/**
 * Files in a folder of their own, outside of this repository and beside its packages; the first is run by Node as a process that says
 * `listening on …:port`.
 */
export async function runFiles(
  files: Record<string, string>,
  { args = [], env = {} }: { args?: string[]; env?: Record<string, string> } = {},
): Promise<DocumentProcess> {
  const folder = await mkdtemp(join(tmpdir(), "consentry-docs-"));
  await symlink(join(root, "node_modules"), join(folder, "node_modules"));
  for (const [name, code] of Object.entries(files)) await writeFile(join(folder, name), code);
  const child = spawn(process.execPath, [Object.keys(files)[0] ?? "", ...args], {
    cwd: folder,
    env: { ...childEnv(), PORT: "0", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const lines: string[] = [];
  const exited = once(child, "exit").then(async ([code]) => {
    await rm(folder, { recursive: true, force: true });
    return code as number | null; // Seam: what Node's typings of events leave open.
  });
  const port = await portOf(child, lines, exited);
  return {
    port,
    output: () => lines.join("\n"),
    stop: () => {
      child.kill("SIGTERM");
      return exited;
    },
  };
}

function portOf(child: ChildProcess, lines: string[], exited: Promise<number | null>): Promise<number> {
  const { stdout, stderr } = child;
  if (!stdout || !stderr) throw new Error("it has no output");
  stderr.setEncoding("utf8").on("data", (text: string) => lines.push(text));
  return new Promise((resolve, reject) => {
    createInterface({ input: stdout }).on("line", (line) => {
      lines.push(line);
      const found = /^listening on .*:(\d+)$/.exec(line)?.[1];
      if (found !== undefined) resolve(Number(found));
    });
    exited.then((code) => reject(new Error(`it ended with ${code}:\n${lines.join("\n")}`)), reject);
  });
}
