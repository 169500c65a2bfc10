import { execFile } from "node:child_process";
import { symlink } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { SOURCES } from "./broker.ts";

const root = join(import.meta.dirname, "..");
const run = promisify(execFile);

/** What is measured, and what it is started with. */
export type Entry = { name: string; path: string; env: Record<string, string> };

/** The broker as the image holds it: a bundle, made now, with what V8 makes of it. `folder`: where it is put together. */
export async function bundled(folder: string): Promise<Entry> {
  const dist = join(folder, "dist");
  const path = join(dist, "lib/consentry.mjs");
  const env = { NODE_COMPILE_CACHE: join(folder, "warm") };
  await run(process.execPath, [join(root, "bin/build.mjs"), dist]);
  await symlink(join(root, "node_modules"), join(dist, "node_modules"));
  await run(process.execPath, [join(root, "bin/warm.mjs"), path], { env: { ...process.env, ...env } });
  return { name: "bundle", path, env };
}

/** The broker as it is run in development, its types stripped when it starts. */
export const sources: Entry = { name: "sources", path: SOURCES, env: {} };
