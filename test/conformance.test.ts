import { describe, expect, test } from "vitest";
import { faultOf, judge, readAlone, readRequired, readSummary } from "../conformance/judge.ts";

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
✓ schemas: 9 passed, 0 failed
✓ auth/dpop: 12 passed, 0 failed

Total: 37 passed, 0 failed
`;

describe("the gate of a conformance run", () => {
  const required = readRequired(listing);
  const verdict = (text: string, floor = { scenarios: 2, broker: 25, passed: 37 }) =>
    judge({
      name: "2026-07-28 client",
      required,
      also: ["schemas"],
      sdkOnly: ["auth/dpop"],
      counted: readSummary(text),
      floor,
    });

  test("knows what is required of clients, and nothing else", () => {
    expect(required).toEqual(["tools_call", "auth/basic-cimd"]);
  });

  test("is open when the whole run has passed, and says how much of it is not the broker's", () => {
    expect(verdict(output)).toEqual({
      lines: [
        "2026-07-28 client 2/2 scenarios, 37 passed, 0 failed",
        "  of these 12 in 1 scenarios that are not required (SDK only)",
      ],
      faults: [],
    });
  });

  test.each([
    ["a check fails", ["14 passed, 0 failed", "15 passed, 1 failed"]],
    ["a check warns", ["14 passed, 0 failed", "14 passed, 0 failed, 1 warnings"]],
    ["a check fails that is not required", ["12 passed, 0 failed", "13 passed, 1 failed"]],
    ["a scenario fails that nobody knows", ["Total:", "✗ sep-2640-client-new: 1 passed, 1 failed\n\nTotal:"]],
    ["a scenario is empty that nobody knows", ["Total:", "✓ new: 0 passed, 0 failed\n\nTotal:"]],
    ["a scenario has no checks at all", ["tools_call: 2 passed", "tools_call: 0 passed"]],
    ["one that is not required has none", ["auth/dpop: 12 passed", "auth/dpop: 0 passed"]],
    ["a scenario is missing", ["✓ tools_call: 2 passed, 0 failed\n", ""]],
    ["one that is not required is missing", ["✓ auth/dpop: 12 passed, 0 failed\n", ""]],
    ["the run broke off before its summary", ["=== SUITE SUMMARY ===", ""]],
  ] as const)("is shut when %s", (_, [was, is]) => {
    expect(output).toContain(was);
    const few = { scenarios: 2, broker: 0, passed: 0 };
    expect(verdict(output.replace(was, is), few).faults).not.toEqual([]);
  });

  test("leaves skills alone as long as nothing in them was checked", () => {
    const more = output.replace("Total:", "✓ sep-2640-client-read: 0 passed, 0 failed\n\nTotal:");
    expect(verdict(more).faults).toEqual([]);
  });

  test("counts failures of the whole run", () => {
    const [line] = verdict(output.replace("12 passed, 0 failed", "11 passed, 1 failed")).lines;
    expect(line).toBe("2026-07-28 client 2/2 scenarios, 36 passed, 1 failed");
  });

  test("is shut when fewer checks ran than before, or fewer scenarios", () => {
    expect(verdict(output, { scenarios: 2, broker: 25, passed: 38 }).faults).toHaveLength(1);
    expect(verdict(output, { scenarios: 3, broker: 25, passed: 37 }).faults).toHaveLength(1);
  });

  test("is shut when the broker's checks became fewer, whatever the SDK's make up for", () => {
    const traded = output.replace("14 passed", "13 passed").replace("12 passed", "13 passed");
    expect(verdict(traded).faults).toEqual(["24 checks of the broker have passed, and it has to be 25"]);
  });
});

describe("a scenario alone", () => {
  const alone = (text: string) => faultOf("auth/dpop", readAlone("auth/dpop", text));

  test("has passed when its checks have", () => {
    expect(alone("Test Results:\nPassed: 12/12, 0 failed, 0 warnings\n")).toBeNull();
  });

  test.each([
    ["a check failed", "Passed: 11/12, 1 failed, 0 warnings\n"],
    ["a check warned", "Passed: 12/12, 0 failed, 1 warnings\n"],
    ["nothing was checked", "Passed: 0/0, 0 failed, 0 warnings\n"],
    ["the suite skipped it, which it calls a success", "SKIPPED: scenario 'auth/dpop' is not applicable\n"],
  ])("has failed when %s", (_, text) => {
    expect(alone(text)).toContain("auth/dpop: ");
  });
});
