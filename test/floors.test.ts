// Versions below these have advisories of this software's class (see SECURITY.md); a lockfile may never go back there.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const floors: [string, string][] = [
  ["@modelcontextprotocol/client", "2.4.0"],
  ["@modelcontextprotocol/server", "2.4.0"],
  ["@modelcontextprotocol/sdk", "1.32.0"],
  ["hono", "4.11.4"],
];

// The lockfile is npm's; only the versions are read.
const lock = JSON.parse(readFileSync(join(import.meta.dirname, "../package-lock.json"), "utf8")) as {
  packages: Record<string, { version?: string }>;
};

test.each(floors)("every %s in the lockfile is at least %s", (name, floor) => {
  const found = Object.entries(lock.packages).filter(([path]) => path.endsWith(`node_modules/${name}`));
  expect(found.length).toBeGreaterThan(0);
  const isBelow = (version = "0") => version.localeCompare(floor, "en", { numeric: true }) < 0;
  expect(found.filter(([, { version }]) => isBelow(version))).toEqual([]);
});
