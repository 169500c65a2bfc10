// `npm run conformance -- client`: the official suite against the broker as a client of MCP servers. See docs/conformance.md.
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundleClient } from "./bundle.ts";
import { type Counted, faultOf, type Floor, judge, readAlone, readRequired, readSummary } from "./judge.ts";
import { ALSO, isExtension, SDK_ONLY, TIMED } from "./scenarios.ts";

// `broker` is what was reached when the suite's version was pinned, one scenario at a time: together, the machine is slower
// and some are asked a little more. A new version may move them, with a look at its release notes.
const FLOORS: Record<string, Floor> = {
  "2025-11-25": { scenarios: 18, broker: 301, passed: 336 },
  "2026-07-28": { scenarios: 32, broker: 463, passed: 498 },
};
/** How many runs of one scenario each go on at a time. */
const LANES = 2;
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
  const name = `${revision} client`;
  const listed = await suite(["list", "--requirements", revision], `list-${revision}`);
  const required = readRequired(listed.output);
  const started = Date.now();
  const run = await suite(["client", ...command(), "--requirements", revision], `all-${revision}`);
  const together = seconds(started);
  const strict = Date.now();
  const alone = await eachAlone(revision, [...required, ...ALSO, ...SDK_ONLY]);
  const good = alone.filter(({ fault }) => fault === null).length;

  const counted = readSummary(run.output).map((each) => {
    if (!TIMED.includes(each.scenario) || faultOf(each.scenario, each) === null) return each;
    return alone.find(({ scenario }) => scenario === each.scenario)?.counted ?? each;
  });
  const verdict = judge({ name, required, also: ALSO, sdkOnly: SDK_ONLY, counted, floor });
  console.log(verdict.lines.join("\n"));
  console.log(
    `${name}, one by one: ${good}/${alone.length} (${together} together, ${seconds(strict)} one by one)`,
  );
  const faults = alone.map(({ fault }) => fault).filter((fault) => fault !== null);
  return [...verdict.faults, ...faults].map((fault) => `${revision} ${fault}`);
}

type Alone = { scenario: string; counted: Counted | null; fault: string | null };

/** A run of all ignores how its clients ended and how long they took; in a run of its own, a scenario counts that, too. */
async function eachAlone(revision: string, scenarios: string[]): Promise<Alone[]> {
  const waiting = scenarios.filter((scenario) => !TIMED.includes(scenario));
  const done: Alone[] = [];
  const lane = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      done.push(await runAlone(revision, next));
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  for (const scenario of scenarios.filter((each) => TIMED.includes(each))) {
    done.push(await runAlone(revision, scenario));
  }
  return done;
}

async function runAlone(revision: string, scenario: string): Promise<Alone> {
  const name = `${scenario.replaceAll("/", "_")}-${revision}`;
  const { code, output } = await suite(aloneArguments(revision, scenario), name);
  const counted = readAlone(scenario, output);
  const fault = faultOf(scenario, counted) ?? (code === 0 ? null : `${scenario}: exit code ${code}`);
  return { scenario, counted, fault: fault && `${fault}; alone, see ${name}.log` };
}

/** One scenario alone, with all that the suite has to say. Nothing where the revision does not know it. */
async function show(revision: string, scenario: string): Promise<string[]> {
  const listed = await suite(["list", "--requirements", revision], `list-${revision}`);
  if (![...readRequired(listed.output), ...ALSO, ...SDK_ONLY].includes(scenario)) return [];
  const args = [...aloneArguments(revision, scenario), "--verbose"];
  const { code, output } = await suite(args, `alone-${revision}`);
  console.log(output);
  return code === 0 ? [] : [`${revision} ${scenario}: exit code ${code}`];
}

function aloneArguments(revision: string, scenario: string): string[] {
  const args = ["client", ...command(), "--scenario", scenario, "--spec-version", revision];
  // Without this the suite skips them, with exit code 0.
  return isExtension(scenario) ? [...args, "--force"] : args;
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
