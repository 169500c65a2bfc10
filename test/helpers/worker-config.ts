import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "../..");

/** Writes wrangler.toml into a folder, in which the door alone is another one: a file of TypeScript. Gives its path. */
export async function configWith(door: string, folder: string): Promise<string> {
  const written = await readFile(join(ROOT, "wrangler.toml"), "utf8");
  const differing = [
    ["src/worker.ts", door],
    ["drizzle/sqlite", join(ROOT, "drizzle/sqlite")],
  ] as const;
  const text = differing.reduce((so, [from, to]) => {
    if (!so.includes(`"${from}"`)) throw new Error(`wrangler.toml does not say ${from}`);
    return so.replace(`"${from}"`, JSON.stringify(to));
  }, written);
  const path = join(folder, "wrangler.toml");
  await writeFile(path, text);
  return path;
}
