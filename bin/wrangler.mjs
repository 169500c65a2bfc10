import { spawn } from "node:child_process";
import { join } from "node:path";

/**
 * Runs wrangler of this checkout, which reads wrangler.toml and tells nobody. Resolves when it has ended well, and ends this process as it
 * ended otherwise. `env` is beside ours.
 */
export async function wrangler(args, { stdio = "inherit", env = {} } = {}) {
  const root = join(import.meta.dirname, "..");
  const command = join(root, "node_modules/wrangler/bin/wrangler.js");
  const child = spawn(process.execPath, [command, ...args], {
    cwd: root,
    stdio,
    env: { ...process.env, WRANGLER_SEND_METRICS: "false", CLOUDFLARE_CF_FETCH_ENABLED: "false", ...env },
  });
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));
  const code = await new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (ended) => resolve(ended ?? 1));
  });
  if (code !== 0) process.exit(code);
}
