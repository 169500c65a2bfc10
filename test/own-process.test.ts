// Which files of tests share a process with others. Node forgets nothing between them there.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { expect, test } from "vitest";
import { OWN_PROCESS } from "./own-process.ts";

const root = join(import.meta.dirname, "..");

/**
 * What a process has one of, and what the next file would meet: a changed environment, managed identities (whose source and
 * tokens MSAL keeps for good), faults and warnings of others, memory. Who takes back what it did before it ends may share:
 * `vi.stubEnv`, spies, and trust in certificates, which are of one file each.
 */
const ONE_OF_A_PROCESS = [
  /process\.env\[[^\]]+\] = /,
  /\(process\.env\)/,
  /IDENTITY_(ENDPOINT|HEADER)|AUTHORITY_HOST/,
  /process\.(on|once)\("(warning|unhandledRejection|uncaughtException)"/,
  /process\.(chdir|umask|memoryUsage)\(/,
  /vi\.(stubGlobal|useFakeTimers|mock)\(/,
];

const touches = (text: string) => ONE_OF_A_PROCESS.some((pattern) => pattern.test(text));

/** A file of tests and all that it imports of test and demo, as text. */
function textsOf(file: string, seen = new Map<string, string>()): Map<string, string> {
  if (seen.has(file) || !existsSync(file)) return seen;
  const text = readFileSync(file, "utf8");
  seen.set(file, text);
  for (const [, specifier] of text.matchAll(/from "(\.[^"]+)"/g)) {
    const target = join(file, "..", specifier ?? "");
    if (/^(test|demo)\b/.test(relative(root, target))) textsOf(target, seen);
  }
  return seen;
}

const files = readdirSync(join(root, "test"), { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".test.ts") && name !== "own-process.test.ts")
  .map((name) => `test/${name.split(sep).join("/")}`);

test("a file that changes or reads what a process has one of has a process of its own, and no other file does", () => {
  const found = files.filter((file) => [...textsOf(join(root, file)).values()].some(touches));
  expect(OWN_PROCESS).toEqual(found.toSorted());
});

test("the rule would notice a breach", () => {
  const breaches = [
    'process.env["X"] = "1";',
    "endpoint.asImds(process.env);",
    'vi.stubEnv("IDENTITY_ENDPOINT", url);',
    'process.on("warning", note);',
    "process.memoryUsage().rss",
  ];
  expect(breaches.filter((line) => !touches(line))).toEqual([]);
  expect(touches('vi.stubEnv("X", "1"); authority.trust();')).toBe(false);
  expect(touches('spawn(file, { env: { PATH: process.env["PATH"] } })')).toBe(false);
});
