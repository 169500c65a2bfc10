// `npm run conformance -- client`: the official suite against the broker as a client of MCP servers. See docs/conformance.md.
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundleClient } from "./bundle.ts";
import { type Floor, judge, readRequired, readSummary } from "./judge.ts";

// What was reached when the suite's version was pinned, one scenario at a time: together, the machine is slower and some
// are asked a little more. A new version may move them, with a look at its release notes.
const FLOORS: Record<string, Floor> = {
  "2025-11-25": { scenarios: 18, passed: 262 },
  "2026-07-28": { scenarios: 32, passed: 413 },
};
/** Only reported by the suite, and of the broker's business: a tool's schema reaches the model as it came. */
const ALSO = ["json-schema-2020-12-preservation"];
const TIMEOUT_MS = 60_000;

const [side, only] = process.argv.slice(2);
if (side !== "client") {
  console.error("usage: npm run conformance -- client [scenario]");
  process.exit(2);
}
const folder = await mkdtemp(join(tmpdir(), "consentry-conformance-"));
const client = await bundleClient(folder);
const faults: string[] = [];
for (const [revision, floor] of Object.entries(FLOORS)) {
  faults.push(...(only === undefined ? await check(revision, floor) : await show(revision, only)));
}
if (faults.length === 0) await rm(folder, { recursive: true, force: true });
else console.error(`\n${faults.join("\n")}\n\nWhat the suite wrote is in ${folder}`);
process.exitCode = faults.length === 0 ? 0 : 1;

async function check(revision: string, floor: Floor): Promise<string[]> {
  const listed = await suite(["list", "--requirements", revision], "list");
  const required = readRequired(listed.output);
  const started = Date.now();
  const run = await suite(["client", ...command(), "--requirements", revision], `all-${revision}`);
  const name = `${revision} client`;
  const verdict = judge({ name, required, also: ALSO, counted: readSummary(run.output), floor });
  console.log(`${verdict.line} (${seconds(started)})`);
  // A run of all ignores how its clients ended; alone, a scenario counts that, too.
  const strict = Date.now();
  const failed: string[] = [];
  for (const scenario of [...required, ...ALSO]) {
    const at = `${scenario.replaceAll("/", "_")}-${revision}`;
    const alone = ["client", ...command(), "--scenario", scenario, "--spec-version", revision];
    const { code } = await suite(alone, at);
    if (code !== 0) failed.push(`${revision} ${scenario}, alone: exit code ${code}, see ${at}.log`);
  }
  const good = required.length + ALSO.length - failed.length;
  console.log(`${name}, one by one: ${good}/${required.length + ALSO.length} (${seconds(strict)})`);
  return [...verdict.faults.map((fault) => `${revision} ${fault}`), ...failed];
}

/** One scenario alone, with all that the suite has to say. Nothing where the revision does not know it. */
async function show(revision: string, scenario: string): Promise<string[]> {
  const listed = await suite(["list", "--requirements", revision], "list");
  if (![...readRequired(listed.output), ...ALSO].includes(scenario)) return [];
  const alone = ["client", ...command(), "--scenario", scenario, "--spec-version", revision, "--verbose"];
  const { code, output } = await suite(alone, `alone-${revision}`);
  console.log(output);
  return code === 0 ? [] : [`${revision} ${scenario}: exit code ${code}`];
}

function command(): string[] {
  return ["--command", `node ${client}`, "--timeout", String(TIMEOUT_MS)];
}

/** Runs the suite; what it says goes to a file, too. */
async function suite(args: string[], name: string): Promise<{ code: number | null; output: string }> {
  const child = spawn("conformance", args, {
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
    shell: process.platform === "win32",
  });
  const chunks: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (chunk: string) => chunks.push(chunk));
  }
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  const output = chunks.join("");
  await writeFile(join(folder, `${name}.log`), output);
  return { code, output };
}

function seconds(since: number): string {
  return `${Math.round((Date.now() - since) / 1000)} s`;
}
