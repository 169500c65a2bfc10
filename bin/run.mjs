// Runs a command with the Node from node_modules first on PATH, whatever Node and npm started us.
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";

const modules = join(import.meta.dirname, "../node_modules");
if (!existsSync(modules)) {
  console.error("Dependencies are not installed. Run: npm ci");
  process.exit(1);
}
const found = readdirSync(modules).find((name) => /^node-(bin-)?(linux|darwin|win)-/.test(name));
const path = [found && join(modules, found, "bin"), join(modules, ".bin"), process.env.PATH];
const [command, ...args] = process.argv.slice(2);
const child = spawn(command, args, {
  stdio: "inherit",
  env: { ...process.env, PATH: path.filter(Boolean).join(delimiter) },
  shell: process.platform === "win32",
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));
child.on("exit", (code) => process.exit(code ?? 1));
