import { symlink } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";

const root = join(import.meta.dirname, "..");

/**
 * Makes the client one JavaScript file in this folder: the suite starts dozens of them at once, and each must be up in
 * a moment. Packages stay where they are installed; files that the door reads are looked for from its own folder.
 */
export async function bundleClient(folder: string): Promise<string> {
  const outfile = join(folder, "client.mjs");
  await build({
    entryPoints: [join(import.meta.dirname, "client.ts")],
    outfile,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node26",
    external: ["better-sqlite3", "pg-native"],
    define: { "import.meta.dirname": JSON.stringify(join(root, "src")) },
    banner: {
      js: `import { createRequire } from "node:module"; const require = createRequire(import.meta.url);`,
    },
    logLevel: "warning",
  });
  await symlink(join(root, "node_modules"), join(folder, "node_modules"), "junction");
  return outfile;
}
