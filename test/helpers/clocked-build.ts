import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { TestProject } from "vitest/node";
import { configWith } from "./worker-config.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** A folder with the Worker whose clock is moved: `wrangler.toml`, and what wrangler made of it in `built`. */
    clockedWorker: string;
  }
}

const ROOT = join(import.meta.dirname, "../..");

/** Before the first test of `npm run test:workers`: once for all the Workers of the run. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), "consentry-worker-"));
  const config = await configWith(join(import.meta.dirname, "clocked-worker.ts"), folder);
  const wrangler = join(ROOT, "node_modules/wrangler/bin/wrangler.js");
  const args = ["deploy", "--dry-run", "--config", config, "--outdir", join(folder, "built")];
  const env = { ...process.env, WRANGLER_SEND_METRICS: "false" };
  await promisify(execFile)(process.execPath, [wrangler, ...args], { cwd: ROOT, env });
  project.provide("clockedWorker", folder);
  return () => rm(folder, { recursive: true });
}
