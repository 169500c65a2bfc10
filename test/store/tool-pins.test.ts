import { expect, test } from "vitest";
import { onEveryEngine } from "./engines.ts";
import { entry, eventsOf, id, newProject } from "./things.ts";

onEveryEngine("tool pins", (replicas) => {
  const newKey = async () => ({
    project: await newProject(replicas().a),
    connectionId: id("conn"),
    generation: 1,
  });

  test("a tool is pinned as it was first seen and keeps its pin when it changes", async () => {
    const { a, b } = replicas();
    const key = await newKey();
    const first = await a.toolPins.record(key, [{ tool: "t", hash: "h1" }], 1_000);
    expect(first).toEqual([{ tool: "t", pinned: "h1", seen: "h1", seenAt: 1_000 }]);
    const second = await b.toolPins.record(
      key,
      [
        { tool: "t", hash: "h2" },
        { tool: "u", hash: "x" },
      ],
      2_000,
    );
    expect(second).toEqual([
      { tool: "t", pinned: "h1", seen: "h2", seenAt: 2_000 },
      { tool: "u", pinned: "x", seen: "x", seenAt: 2_000 },
    ]);
    expect(await a.toolPins.list(key)).toEqual(second);
  });

  test("another generation starts anew", async () => {
    const { a } = replicas();
    const key = await newKey();
    await a.toolPins.record(key, [{ tool: "t", hash: "h1" }], 1_000);
    const next = await a.toolPins.record({ ...key, generation: 2 }, [{ tool: "t", hash: "h2" }], 1_000);
    expect(next[0]?.pinned).toBe("h2");
    expect((await a.toolPins.list(key))[0]?.pinned).toBe("h1");
  });

  test("two listings at once pin each of 1,000 tools once", async () => {
    const { a, b } = replicas();
    const key = await newKey();
    const tools = (hash: string) =>
      Array.from({ length: 1_000 }, (_, n) => ({ tool: `tool_${n}`, hash: `${hash}${n}` }));
    await Promise.all([
      a.toolPins.record(key, tools("a"), 1_000),
      b.toolPins.record(key, tools("b").toReversed(), 1_000),
      a.toolPins.record(key, tools("a"), 1_000),
      b.toolPins.record(key, tools("b"), 1_000),
    ]);
    const pins = await a.toolPins.list(key);
    expect(pins).toHaveLength(1_000);
    expect(new Set(pins.map((pin) => pin.pinned.charAt(0))).size).toBe(1);
  });

  test("the first of two tools of one name counts, and an empty listing changes nothing", async () => {
    const { a } = replicas();
    const key = await newKey();
    const twice = [
      { tool: "t", hash: "h1" },
      { tool: "t", hash: "h2" },
    ];
    const pins = await a.toolPins.record(key, twice, 1_000);
    expect(pins).toEqual([{ tool: "t", pinned: "h1", seen: "h1", seenAt: 1_000 }]);
    expect(await a.toolPins.record(key, [], 2_000)).toEqual(pins);
  });

  test("a pin moves only to what was seen last", async () => {
    const { a, b } = replicas();
    const key = await newKey();
    await a.toolPins.record(key, [{ tool: "t", hash: "h1" }], 1_000);
    await a.toolPins.record(key, [{ tool: "t", hash: "h2" }], 2_000);
    const accept = (tool: string, hash: string) =>
      b.toolPins.accept(key, tool, hash, [entry(key.project, "tool_accepted")]);
    expect(await accept("t", "h3")).toBe(false);
    expect(await accept("unknown", "h2")).toBe(false);
    expect(await eventsOf(a, key.project)).toEqual([]);
    expect(await accept("t", "h2")).toBe(true);
    expect((await a.toolPins.list(key))[0]).toEqual({ tool: "t", pinned: "h2", seen: "h2", seenAt: 2_000 });
    expect(await eventsOf(a, key.project)).toEqual(["tool_accepted"]);
  });

  test("a server may name its tools as it likes", async () => {
    const { a } = replicas();
    const key = await newKey();
    const names = [
      "nul\u0000nul",
      "sub\u001a0",
      `${"long".repeat(5_000)}1`,
      `${"long".repeat(5_000)}2`,
      "",
      "'; drop",
    ];
    const pins = await a.toolPins.record(
      key,
      names.map((tool) => ({ tool, hash: "h1" })),
      1_000,
    );
    expect(pins.map((pin) => pin.tool).toSorted()).toEqual(names.toSorted());
    await a.toolPins.record(
      key,
      names.map((tool) => ({ tool, hash: "h2" })),
      2_000,
    );
    for (const name of names) expect(await a.toolPins.accept(key, name, "h2", [])).toBe(true);
  });
});
