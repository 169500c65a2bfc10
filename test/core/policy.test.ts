import { describe, expect, test } from "vitest";
import { type ApprovalRule, isAllowed, needsApproval } from "../../src/core/policy.ts";

const reader = { name: "read_note", readOnly: true };
const writer = { name: "delete_note", readOnly: false };

describe("approval rules", () => {
  const cases: [ApprovalRule, typeof reader, boolean, string][] = [
    ["always", reader, true, "always asks"],
    ["never", writer, false, "never does not ask"],
    [{}, reader, true, "a tool in neither list needs approval"],
    [{ never: {} }, reader, true, "an empty never filter matches nothing"],
    [{ always: {}, never: { readOnly: true } }, reader, false, "an empty always filter matches nothing"],
    [{ never: { toolNames: ["read_note"] } }, reader, false, "never by name"],
    [{ never: { toolNames: ["read_note"] } }, writer, true, "not named, so asked"],
    [{ never: { readOnly: true } }, reader, false, "never for readers"],
    [{ never: { readOnly: true } }, writer, true, "but for writers"],
    [{ never: { toolNames: ["delete_note"], readOnly: true } }, writer, true, "inside never both must hold"],
    [
      { always: { toolNames: ["x"], readOnly: true }, never: { readOnly: true } },
      reader,
      true,
      "inside always either counts",
    ],
    [
      { always: { toolNames: ["read_note"] }, never: { toolNames: ["read_note"] } },
      reader,
      true,
      "always beats never",
    ],
    [{ always: { readOnly: false } }, writer, true, "read_only false is compared literally"],
    [{ always: { readOnly: false }, never: { readOnly: true } }, reader, false, "so readers are free"],
    [{ never: { toolNames: [] } }, reader, true, "an empty name list matches nothing"],
  ];
  test.each(cases)("%j on %j asks: %s (%s)", (rule, tool, asks) => {
    expect(needsApproval(rule, tool)).toBe(asks);
  });
});

describe("allowed tools", () => {
  test("null allows everything, an empty list nothing", () => {
    expect(isAllowed(null, writer)).toBe(true);
    expect(isAllowed({ toolNames: [] }, writer)).toBe(false);
    expect(isAllowed({}, writer)).toBe(false);
  });
  test("both keys must hold", () => {
    expect(isAllowed({ toolNames: ["delete_note"], readOnly: true }, writer)).toBe(false);
    expect(isAllowed({ toolNames: ["read_note"], readOnly: true }, reader)).toBe(true);
  });
});
