import { describe, expect, test } from "vitest";
import { createDepthGauge } from "../../src/upstream/egress-depth.ts";

/** Whether a body is found too deep, cut into chunks of every size: the verdict must not depend on the cuts. */
function isTooDeep(contentType: string | null, body: string, limit: number): boolean | "ungauged" {
  const bytes = new TextEncoder().encode(body);
  const verdicts = [1, 2, 3, 7, bytes.length || 1].map((size) => {
    const gauge = createDepthGauge(contentType, limit);
    if (!gauge) return "ungauged";
    let found = false;
    for (let at = 0; at < bytes.length; at += size)
      found = gauge.feed(bytes.subarray(at, at + size)) || found;
    return found;
  });
  expect(new Set(verdicts).size).toBe(1);
  return verdicts[0] ?? "ungauged";
}

const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);

describe("JSON", () => {
  test("is too deep one level beyond the limit", () => {
    expect(isTooDeep("application/json", nested(5), 5)).toBe(false);
    expect(isTooDeep("application/json", nested(6), 5)).toBe(true);
    expect(isTooDeep("application/json", '{"a":{"b":[{"c":[1]}]}}', 5)).toBe(false);
    expect(isTooDeep("application/json", '{"a":{"b":[{"c":[[1]]}]}}', 5)).toBe(true);
  });

  test("counts siblings once", () => {
    expect(isTooDeep("application/json", `[${"[1],".repeat(100)}{}]`, 2)).toBe(false);
  });

  test("does not count brackets in strings, however they are escaped", () => {
    expect(isTooDeep("application/json", JSON.stringify(['"[[[[\\', "{{{{", 'é"[[[[']), 1)).toBe(false);
    expect(isTooDeep("application/json", String.raw`["\\",[[1]]]`, 2)).toBe(true);
    expect(isTooDeep("application/json", String.raw`["\"[[[[",[1]]`, 2)).toBe(false);
  });

  test("cannot hide behind closing brackets", () => {
    expect(isTooDeep("application/json", "]".repeat(50) + nested(6), 5)).toBe(true);
  });

  test("is read as such with a charset, as a +json type, and without any type", () => {
    for (const type of ["Application/JSON; charset=utf-8", "application/problem+json", null]) {
      expect(isTooDeep(type, nested(6), 5)).toBe(true);
    }
    expect(isTooDeep("text/html", nested(6), 5)).toBe("ungauged");
  });
});

describe("SSE", () => {
  const sse = (body: string, limit = 5) => isTooDeep("text/event-stream", body, limit);

  test("is measured in the data of each event", () => {
    expect(sse(`event: message\ndata: ${nested(5)}\n\ndata: ${nested(5)}\n\n`)).toBe(false);
    expect(sse(`data: 1\n\nevent: message\nid: 7\ndata:${nested(6)}\n\n`)).toBe(true);
  });

  test("begins anew with each event, so that broken ones do not add up", () => {
    expect(sse("data: [[[[\n\n".repeat(10))).toBe(false);
    expect(sse("data: [[[[\r\n\r\n".repeat(10))).toBe(false);
    expect(sse("data: [[[[\r\r".repeat(10))).toBe(false);
  });

  test("adds up within an event, whatever its line ends", () => {
    for (const end of ["\n", "\r", "\r\n"]) expect(sse(`data: [[[${end}data: [[[${end}${end}`)).toBe(true);
  });

  test("is not fooled by quotation marks outside of the data", () => {
    expect(sse(`event: "\ndata: ${nested(6)}\n\n`)).toBe(true);
    expect(sse(`: "comment\nda"ta: "\ndata: ${nested(6)}\n\n`)).toBe(true);
    expect(sse(`data: "\n\ndata: ${nested(6)}\n\n`)).toBe(true);
    expect(sse(`\uFEFFdata: ${nested(6)}\n\n`)).toBe(true);
  });

  test("does not count what no reader takes for data", () => {
    expect(sse(`: ${nested(9)}\nid: ${nested(9)}\nxdata: ${nested(9)}\n\n`)).toBe(false);
  });
});
