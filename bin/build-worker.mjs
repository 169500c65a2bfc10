// Makes of src/worker.ts what `wrangler deploy` would upload: `node bin/build-worker.mjs [folder]`, by default dist/worker. Prints its
// size and fails where it is larger than we allow ourselves (Cloudflare allows 3 MB gzipped on the free plan).
import { readFile, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { gzipSync } from "node:zlib";
import { wrangler } from "./wrangler.mjs";

const MAX_GZIPPED_KIB = 1024;

const root = join(import.meta.dirname, "..");
const out = resolve(process.argv[2] ?? join(root, "dist/worker"));

await rm(out, { recursive: true, force: true });
await wrangler(["deploy", "--dry-run", "--minify", "--outdir", out], {
  stdio: ["ignore", "ignore", "inherit"],
});

const bundle = await readFile(join(out, "worker.js"));
const kib = (bytes) => Math.ceil(bytes / 1024);
const gzipped = kib(gzipSync(bundle, { level: 9 }).length);
console.log(`worker.js: ${kib(bundle.length)} KiB, ${gzipped} KiB gzipped (at most ${MAX_GZIPPED_KIB})`);
if (gzipped > MAX_GZIPPED_KIB) process.exit(1);
