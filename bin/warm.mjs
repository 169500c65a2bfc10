// Leaves in NODE_COMPILE_CACHE what V8 made of a bundle, for starts that need not make it again:
// `NODE_COMPILE_CACHE=<folder> node bin/warm.mjs [lib/consentry.mjs]`. The broker runs once for it, on a database that goes away.
// What is kept serves this Node, kind of processor and user alone; others start as without it.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const [bundle = "lib/consentry.mjs"] = process.argv.slice(2);
const { PATH, NODE_COMPILE_CACHE } = process.env;
if (!NODE_COMPILE_CACHE) {
  console.error("Set NODE_COMPILE_CACHE to the folder to fill.");
  process.exit(1);
}
const folder = await mkdtemp(join(tmpdir(), "consentry-warm-"));
const key = randomBytes(32).toString("base64url");
const broker = spawn(process.execPath, [resolve(bundle)], {
  env: {
    PATH,
    NODE_COMPILE_CACHE: resolve(NODE_COMPILE_CACHE),
    NODE_ENV: "production",
    CONSENTRY_PORT: "0",
    CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
    CONSENTRY_ADMIN_KEY: key,
  },
  stdio: ["ignore", "pipe", "inherit"],
});
const exited = once(broker, "exit");
const started = new Promise((found) => {
  createInterface({ input: broker.stdout }).on("line", (line) => {
    const url = /"event":"started","url":"([^"]+)"/.exec(line)?.[1];
    if (url !== undefined) found(url);
  });
});
const url = await Promise.race([started, exited.then(() => null)]);
// What is asked first of a new broker; the answers themselves do not matter.
if (url !== null) {
  for (const path of ["readyz", "v1/responses/resp_none", "api/projects/default/connections"])
    await (await fetch(`${url}/${path}`, { headers: { authorization: `Bearer ${key}` } })).text();
  broker.kill("SIGTERM");
}
const [code] = await exited;
await rm(folder, { recursive: true, force: true });
process.exit(url === null ? 1 : code);
