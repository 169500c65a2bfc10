// What a start reads: of packages only what every broker needs at once. The rest is read by those alone who want it.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";

const door = join(import.meta.dirname, "../src/node.ts");
const STATIC = /(?:^|\n)(?:import|export)\s+(?!type\b)(?:[\w*{}\s,$]+?\s+from\s+)?["']([^"']+)["']/g;

/** The packages that a file brings along by imports that are not lazy, its own and those of the files that it names. */
function packagesOf(file: string, seen = new Set<string>()): Set<string> {
  const found = new Set<string>();
  seen.add(file);
  for (const [, specifier = ""] of readFileSync(file, "utf8").matchAll(STATIC)) {
    const target = join(dirname(file), specifier);
    if (!specifier.startsWith(".")) found.add(specifier);
    else if (!seen.has(target)) for (const name of packagesOf(target, seen)) found.add(name);
  }
  return found;
}

describe("a start", () => {
  const read = packagesOf(door);

  test("reads what it serves with", () => {
    expect([...read]).toEqual(expect.arrayContaining(["hono", "zod", "undici", "pino"]));
  });

  test.each([
    ["openai", "a turn that asks a model"],
    ["@modelcontextprotocol/client", "a server that is new"],
    ["pg", "PostgreSQL"],
    ["drizzle-orm/pg-core", "PostgreSQL"],
    ["better-sqlite3", "SQLite"],
    ["@azure/identity", "an identity of Azure's"],
    ["@azure/msal-node", "an identity of Azure's"],
    ["@azure/keyvault-secrets", "a vault"],
    ["@opentelemetry/sdk-trace", "traces"],
    ["pkijs", "a development certificate"],
  ])("leaves %s to %s", (name) => {
    expect([...read]).not.toContain(name);
  });
});
