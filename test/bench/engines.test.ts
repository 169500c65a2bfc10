import { describe, expect, test } from "vitest";
import { countsOf, enginesOf, setupsOf, titleOf } from "../../bench/engines.ts";
import { medianOf } from "../../bench/rounds.ts";
import { comparison, type Row } from "../../bench/table.ts";

describe("what a benchmark is asked for", () => {
  test("engines come once each, in the order of the tables", () => {
    expect(enginesOf("all")).toEqual(["sqlite", "postgres", "d1"]);
    expect(enginesOf("d1, sqlite,d1")).toEqual(["sqlite", "d1"]);
  });

  test.each(["", "mysql", "sqlite,", "SQLite"])("no engine is called %j", (text) => {
    expect(() => enginesOf(text)).toThrow("--engines knows all, sqlite, postgres, d1");
  });

  test("numbers come once each, the least first", () => {
    expect(countsOf("replicas", "2,1,2")).toEqual([1, 2]);
    expect(countsOf("grants", "1000000, 1000")).toEqual([1_000, 1_000_000]);
  });

  test.each(["", "0", "-1", "1.5", "two", "1,,2"])("%j is no list of numbers", (text) => {
    expect(() => countsOf("replicas", text)).toThrow("--replicas is numbers from 1 on");
  });

  test("only PostgreSQL has more replicas than one", () => {
    expect(setupsOf(["sqlite", "postgres", "d1"], [1, 2]).map(titleOf)).toEqual([
      "SQLite, 1 replica",
      "PostgreSQL, 1 replica",
      "PostgreSQL, 2 replicas",
      "D1 in workerd, 1 replica",
    ]);
    expect(setupsOf(["sqlite"], [2]).map(titleOf)).toEqual(["SQLite, 1 replica"]);
  });
});

describe("what a benchmark says", () => {
  const row = (name: string, perS: number, cpuUs: number | null = 100): Row => ({
    name,
    perS,
    p50Ms: 1_000 / perS,
    p99Ms: 9,
    requests: 10,
    cpuUs,
  });

  test("each group is compared with its own first row", () => {
    const groups = [
      [row("a", 1_000), row("b", 250)],
      [row("c", 500), row("d", 1_000)],
    ];
    expect(comparison("a title", groups).split("\n")).toEqual([
      "**a title**",
      "",
      "| | calls/s | ratio | p50 ms | p99 ms | CPU µs a call |",
      "|---|---|---|---|---|---|",
      "| a | 1000 | 1.00 | 1.00 | 9.00 | 100 |",
      "| b | 250 | 0.25 | 4.00 | 9.00 | 100 |",
      "| c | 500 | 1.00 | 2.00 | 9.00 | 100 |",
      "| d | 1000 | 2.00 | 1.00 | 9.00 | 100 |",
    ]);
  });

  test("each figure is the middle of its own rounds, and computing is told only where all were counted", () => {
    const rounds = [row("a", 100, 3), row("a", 300, 1), row("a", 200, 9)];
    expect(medianOf(rounds)).toMatchObject({ name: "a", perS: 200, p50Ms: 5, requests: 30, cpuUs: 3 });
    expect(medianOf([row("a", 100), row("a", 200, null)]).cpuUs).toBeNull();
  });
});
