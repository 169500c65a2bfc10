import { describe, expect, test } from "vitest";
import { isRefusal } from "../../src/core/errors.ts";
import {
  approvalRule,
  readApprovalRule,
  readToolFilter,
  toolFilter,
  writeApprovalRule,
  writeToolFilter,
} from "../../src/http/wire/policy.ts";
import { read, schemaOf } from "../../src/http/wire/shape.ts";

function faultsOf(run: () => unknown): { param: string; message: string }[] {
  try {
    run();
  } catch (error) {
    if (isRefusal(error, "invalid")) return error.details.faults;
    throw error;
  }
  return [];
}

describe("require_approval", () => {
  test.each([
    ["always", "always"],
    ["never", "never"],
    [null, null],
    [undefined, null],
    [{}, {}],
    [{ never: ["a", "b"] }, { never: { toolNames: ["a", "b"] } }],
    [{ never: { tool_names: ["a"] } }, { never: { toolNames: ["a"] } }],
    [{ never: { toolNames: ["a"], readOnly: true } }, { never: { toolNames: ["a"], readOnly: true } }],
    [{ always: { read_only: false }, never: null }, { always: { readOnly: false } }],
    [{ never: {} }, { never: {} }],
    [
      { always: [], never: { tool_names: [] } },
      { always: { toolNames: [] }, never: { toolNames: [] } },
    ],
  ])("%j is read", (given, rule) => {
    expect(readApprovalRule(given, "require_approval")).toEqual(rule);
  });

  test.each([
    ["sometimes", ["r"]],
    [7, ["r"]],
    [[], ["r"]],
    [{ never: "a" }, ["r.never"]],
    [
      { always: [1, "a", ""], never: { read_only: "yes" } },
      ["r.always[0]", "r.always[2]", "r.never.read_only"],
    ],
    [{ never: { tool_names: "a", read_only: 1 } }, ["r.never.tool_names", "r.never.read_only"]],
  ])("%j is refused, each fault under its own path", (given, params) => {
    expect(faultsOf(() => readApprovalRule(given, "r")).map((fault) => fault.param)).toEqual(params);
  });

  test("what is written reads back as the same rule", () => {
    for (const rule of [
      "always",
      "never",
      { always: { toolNames: ["a"] }, never: { readOnly: true } },
      { never: { toolNames: [] } },
    ] as const) {
      const copy = rule as Parameters<typeof writeApprovalRule>[0];
      expect(readApprovalRule(writeApprovalRule(copy), "r")).toEqual(rule);
    }
  });
});

describe("allowed_tools", () => {
  test.each([
    [null, null],
    [["a"], { toolNames: ["a"] }],
    [[], { toolNames: [] }],
    [{ read_only: true }, { readOnly: true }],
    [
      { tool_names: ["a"], read_only: false },
      { toolNames: ["a"], readOnly: false },
    ],
  ])("%j is read", (given, filter) => {
    expect(readToolFilter(given, "allowed_tools")).toEqual(filter);
  });

  test("an object that says neither is refused, for it would allow everything", () => {
    expect(faultsOf(() => readToolFilter({ toolnames: ["a"] }, "f"))).toEqual([
      { param: "f", message: "must give tool_names or read_only" },
    ]);
  });

  test("what is written reads back as the same filter", () => {
    const filter = { toolNames: ["a", "b"], readOnly: true };
    expect(readToolFilter(writeToolFilter(filter), "f")).toEqual(filter);
  });
});

test("inside a shape the same faults come out, and OpenAPI knows the forms", () => {
  expect(faultsOf(() => read(approvalRule, { never: [1] }))).toEqual([
    { param: "never[0]", message: "must be a tool name" },
  ]);
  expect(schemaOf(toolFilter)).toMatchObject({ anyOf: expect.any(Array) });
});
