import { describe, expect, test } from "vitest";
import { judge, readRequired, readSummary } from "../conformance/judge.ts";

const listing = `Required for 2026-07-28 (69 scenarios, frozen; run at the 2026-07-28 wire):

Server scenarios (test against a server):
  - server-stateless

Client scenarios (test against a client):
  - tools_call
  - auth/basic-cimd

Run and reported, but never scored:
  extension (1):
    - auth/dpop [client]
`;

const output = `starting
✓ auth/basic-cimd: 99 passed, 0 failed
=== SUITE SUMMARY ===

✓ tools_call: 2 passed, 0 failed
✓ auth/basic-cimd: 14 passed, 0 failed
✗ auth/dpop: 1 passed, 3 failed, 2 warnings

Total: 17 passed, 3 failed, 2 warnings
`;

describe("the gate of a conformance run", () => {
  const required = readRequired(listing);
  const verdict = (text: string, floor = { scenarios: 2, passed: 16 }) =>
    judge({ name: "2026-07-28 client", required, also: [], counted: readSummary(text), floor });

  test("knows what is required of clients, and nothing else", () => {
    expect(required).toEqual(["tools_call", "auth/basic-cimd"]);
  });

  test("is open when everything required has passed, whatever is only reported", () => {
    expect(verdict(output)).toEqual({
      line: "2026-07-28 client 2/2 scenarios, 16 passed, 0 failed",
      faults: [],
    });
  });

  test.each([
    ["a check fails", ["14 passed, 0 failed", "13 passed, 1 failed"]],
    ["a check warns", ["14 passed, 0 failed", "14 passed, 0 failed, 1 warnings"]],
    ["a scenario has no checks at all", ["tools_call: 2 passed", "tools_call: 0 passed"]],
    ["a scenario is missing", ["✓ tools_call: 2 passed, 0 failed\n", ""]],
    ["the run broke off before its summary", ["=== SUITE SUMMARY ===", ""]],
  ] as const)("is shut when %s", (_, [was, is]) => {
    expect(output).toContain(was);
    expect(verdict(output.replace(was, is)).faults).not.toEqual([]);
  });

  test("is shut when fewer checks ran than before, or fewer scenarios", () => {
    expect(verdict(output, { scenarios: 2, passed: 17 }).faults).toHaveLength(1);
    expect(verdict(output, { scenarios: 3, passed: 16 }).faults).toHaveLength(1);
  });
});
