// Makes of the sources what runs without them: `node bin/build.mjs [folder]`, by default dist/. It is whole in itself but for
// better-sqlite3, which brings a binary and is looked for in a node_modules beside or above it.
import { chmod, cp, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { build } from "esbuild";

const root = join(import.meta.dirname, "..");
const out = resolve(process.argv[2] ?? join(root, "dist"));

// Only what this script makes: the folder may be a mounted one, or hold somebody's node_modules.
for (const name of ["lib", "drizzle", "package.json"]) {
  await rm(join(out, name), { recursive: true, force: true });
}
await build({
  entryPoints: ["consentry.mjs", "healthcheck.mjs", "migrate-store.mjs"].map((name) =>
    join(root, "bin", name),
  ),
  outdir: join(out, "lib"),
  outExtension: { ".js": ".mjs" },
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node22.19",
  // Lazy imports stay lazy: Azure's packages and OpenTelemetry's are read by those alone who want them.
  splitting: true,
  external: ["better-sqlite3", "pg-native"],
  banner: { js: `import{createRequire}from"node:module";const require=createRequire(import.meta.url);` },
  logLevel: "warning",
});
await chmod(join(out, "lib/consentry.mjs"), 0o755);

// Next to lib, where the door looks for them from its own folder.
for (const engine of ["sqlite", "pg"]) {
  await cp(join(root, "drizzle", engine), join(out, "drizzle", engine), { recursive: true });
}
const { name, version, description, engines, dependencies } = JSON.parse(
  await readFile(join(root, "package.json"), "utf8"),
);
const described = {
  name,
  version,
  description,
  type: "module",
  engines,
  bin: { consentry: "lib/consentry.mjs" },
  dependencies: { "better-sqlite3": dependencies["better-sqlite3"] },
};
await writeFile(join(out, "package.json"), `${JSON.stringify(described, null, 2)}\n`);
