import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { childEnv } from "./process.ts";

const root = join(import.meta.dirname, "../..");

/**
 * Runs a document's script by Node to its end, in a folder of its own beside the packages, with no more of the environment than is given.
 * `output` is all that it wrote; `code` is null where it did not end in half a minute.
 */
export async function runScript(
  code: string,
  env: Record<string, string>,
): Promise<{ code: number | null; output: string }> {
  const folder = await mkdtemp(join(tmpdir(), "consentry-docs-"));
  try {
    await symlink(join(root, "node_modules"), join(folder, "node_modules"));
    await writeFile(join(folder, "script.mjs"), code);
    const child = spawn(process.execPath, ["script.mjs"], {
      cwd: folder,
      env: { ...childEnv(), ...env },
      stdio: ["ignore", "pipe", "pipe"],
      timeout: 30_000,
    });
    const written: Buffer[] = [];
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (bytes: Buffer) => written.push(bytes));
    }
    const [ended] = await once(child, "close");
    return {
      code: ended as number | null, // Seam: what Node's typings of events leave open.
      output: Buffer.concat(written).toString(),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
