import { describe, expect, test } from "vitest";
import { readTrace, traceFields } from "../../src/core/trace.ts";
import { measureComputing } from "../helpers/computing.ts";

const IDS = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
const PARENT = `00-${IDS}-01`;

describe("a trace is read from its two headers", () => {
  test("as it stands", () => {
    expect(readTrace(PARENT, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")).toEqual({
      traceparent: PARENT,
      tracestate: "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
    });
  });

  test("without a state", () => {
    expect(readTrace(PARENT, null)).toEqual({ traceparent: PARENT, tracestate: null });
  });

  test("of a later version: what all versions have", () => {
    expect(readTrace(`cc-${IDS}-01-what-the-future-will-be`, null)?.traceparent).toBe(PARENT);
    expect(readTrace(`cc-${IDS}-01`, null)?.traceparent).toBe(PARENT);
  });
});

describe("what is malformed goes no further", () => {
  test.each([
    ["nothing", ""],
    ["words", "canary"],
    ["a version that is none", `ff-${IDS}-01`],
    ["capital letters", PARENT.toUpperCase()],
    ["a trace of zeros", `00-${"0".repeat(32)}-00f067aa0ba902b7-01`],
    ["a parent of zeros", `00-4bf92f3577b34da6a3ce929d0e0e4736-${"0".repeat(16)}-01`],
    ["too much in this version", `${PARENT}-canary`],
    ["too short", PARENT.slice(0, -1)],
    ["a later version that runs on", `cc-${IDS}-01canary`],
    ["two of them", `${PARENT}, ${PARENT}`],
    ["a line end", `${PARENT}\n`],
  ])("%s", (_, traceparent) => {
    expect(readTrace(traceparent, "a=b")).toBeNull();
  });

  test("a state without a parent", () => {
    expect(readTrace(null, "a=b")).toBeNull();
  });

  test.each([
    ["no members", " , "],
    ["no value", "a"],
    ["two values", "a=b=c"],
    ["a key with capitals", "Canary=1"],
    ["a key twice", "a=1,a=2"],
    ["what is not ASCII", "a=ü"],
    ["a control character", "a=\u0007"],
    ["too many members", Array.from({ length: 33 }, (__, at) => `k${at}=1`).join(",")],
    ["too long", `a=${"x".repeat(256)},b=${"x".repeat(256)}`],
  ])("a state with %s, but its parent does", (_, tracestate) => {
    expect(readTrace(PARENT, tracestate)).toEqual({ traceparent: PARENT, tracestate: null });
  });

  test("a hostile state is read in no time", () => {
    const computedMs = measureComputing();
    for (const text of ["a".repeat(512), `${"a=b,".repeat(128)}`, `${"a@".repeat(256)}`, " ".repeat(512)])
      readTrace(PARENT, text);
    expect(computedMs()).toBeLessThan(50);
  });
});

test("members are tidied, empty ones left out, tenants known", () => {
  expect(readTrace(PARENT, " a=1 ,, 2t@sys=x y ,b= z ")?.tracestate).toBe("a=1,2t@sys=x y,b= z");
});

test("no trace has no fields", () => {
  expect(traceFields(null)).toEqual({});
  expect(traceFields(undefined)).toEqual({});
  expect(traceFields({ traceparent: PARENT, tracestate: null })).toEqual({ traceparent: PARENT });
});
