/** What the suite counted in one scenario. */
export type Counted = { scenario: string; passed: number; failed: number; warnings: number };

/** What a run has to reach at least. `broker`: the passed checks of what shows the broker; `passed`: all of them. */
export type Floor = { scenarios: number; broker: number; passed: number };

export type Verdict = { lines: string[]; faults: string[] };

/** The scenarios that a revision requires of clients, from what `conformance list --requirements` prints. */
export function readRequired(listing: string): string[] {
  const section = /^Client scenarios[^\n]*\n((?: {2}- .*\n)*)/m.exec(listing)?.[1] ?? "";
  return [...section.matchAll(/^ {2}- (\S+)/gm)].map(([, name = ""]) => name);
}

/** The summary at the end of a run, scenario by scenario. */
export function readSummary(output: string): Counted[] {
  const summary = output.slice(output.indexOf("=== SUITE SUMMARY ==="));
  const lines = summary.matchAll(/^[✓✗] (\S+): (\d+) passed, (\d+) failed(?:, (\d+) warnings)?/gm);
  return [...lines].map(([, scenario = "", passed, failed, warnings = "0"]) => ({
    scenario,
    passed: Number(passed),
    failed: Number(failed),
    warnings: Number(warnings),
  }));
}

/** What the suite counted where it ran one scenario. Null: it ran none, which it calls a success. */
export function readAlone(scenario: string, output: string): Counted | null {
  const found = /^Passed: (\d+)\/\d+, (\d+) failed, (\d+) warnings/m.exec(output);
  if (!found) return null;
  const [, passed, failed, warnings] = found.map(Number);
  return { scenario, passed: passed ?? 0, failed: failed ?? 0, warnings: warnings ?? 0 };
}

/** What is wrong with a scenario. One without checks that passed would look green. */
export function faultOf(scenario: string, counted: Counted | null): string | null {
  if (!counted || isEmpty(counted)) return `${scenario}: nothing was checked`;
  const { passed, failed, warnings } = counted;
  if (passed > 0 && failed + warnings === 0) return null;
  return `${scenario}: ${passed} passed, ${failed} failed, ${warnings} warnings`;
}

/**
 * Whether a run is good enough. Every scenario of `required`, `also` and `sdkOnly` must be there with checks that passed,
 * and nothing of the whole run may fail or warn. What the run has besides may only be empty where it is not of our
 * business (skills, SEP-2640).
 */
export function judge({
  name,
  required,
  also,
  sdkOnly,
  counted,
  floor,
}: {
  name: string;
  required: readonly string[];
  also: readonly string[];
  sdkOnly: readonly string[];
  counted: Counted[];
  floor: Floor;
}): Verdict {
  const expected = [...required, ...also, ...sdkOnly];
  const others = counted
    .filter((each) => !expected.includes(each.scenario) && !(isEmpty(each) && NOT_OURS.test(each.scenario)))
    .map(({ scenario }) => scenario);
  const faultIn = (scenario: string) =>
    faultOf(scenario, counted.find((each) => each.scenario === scenario) ?? null);
  const faults = [...expected, ...others].map(faultIn).filter((fault) => fault !== null);
  const good = required.filter((scenario) => faultIn(scenario) === null).length;
  const passed = sum(counted, "passed");
  const bySdk = sum(
    counted.filter(({ scenario }) => sdkOnly.includes(scenario)),
    "passed",
  );
  const atLeast = [
    ["scenarios are required", required.length, floor.scenarios],
    ["checks have passed", passed, floor.passed],
    ["checks of the broker have passed", passed - bySdk, floor.broker],
  ] as const;
  for (const [what, now, before] of atLeast) {
    if (now < before) faults.push(`${now} ${what}, and it has to be ${before}`);
  }
  const lines = [
    `${name} ${good}/${required.length} scenarios, ${passed} passed, ${sum(counted, "failed")} failed`,
    `  of these ${bySdk} in ${sdkOnly.length} scenarios that are not required (SDK only)`,
  ];
  return { lines, faults };
}

function isEmpty({ passed, failed, warnings }: Counted): boolean {
  return passed + failed + warnings === 0;
}

function sum(counted: Counted[], what: "passed" | "failed"): number {
  return counted.reduce((total, each) => total + each[what], 0);
}

const NOT_OURS = /^sep-2640-/;
