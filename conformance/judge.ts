/** What the suite counted in one scenario. */
export type Counted = { scenario: string; passed: number; failed: number; warnings: number };

/** What a run has to reach at least. `passed`: checks of the required scenarios, all together. */
export type Floor = { scenarios: number; passed: number };

export type Verdict = { line: string; faults: string[] };

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

/**
 * Whether a run is good enough. Every required scenario must be there with checks that passed (a scenario without any
 * would look green), and nothing may fail or warn. Scenarios that the revision only reports count for nothing, except those
 * that `also` names: they have to hold, too.
 */
export function judge({
  name,
  required,
  also,
  counted,
  floor,
}: {
  name: string;
  required: string[];
  also: readonly string[];
  counted: Counted[];
  floor: Floor;
}): Verdict {
  const faults: string[] = [];
  const by = new Map(counted.map((each) => [each.scenario, each]));
  const total = { good: 0, passed: 0, failed: 0 };
  for (const scenario of [...required, ...also]) {
    const { passed, failed, warnings } = by.get(scenario) ?? { passed: 0, failed: 0, warnings: 0 };
    total.passed += passed;
    total.failed += failed;
    if (passed === 0) faults.push(`${scenario}: no check has passed`);
    else if (failed + warnings > 0) faults.push(`${scenario}: ${failed} failed, ${warnings} warnings`);
    else if (required.includes(scenario)) total.good++;
  }
  if (required.length < floor.scenarios) {
    faults.push(`${required.length} scenarios are required, and there were ${floor.scenarios} before`);
  }
  if (total.passed < floor.passed) {
    faults.push(`${total.passed} checks have passed, and there were ${floor.passed} before`);
  }
  const scenarios = `${total.good}/${required.length} scenarios`;
  return { line: `${name} ${scenarios}, ${total.passed} passed, ${total.failed} failed`, faults };
}
