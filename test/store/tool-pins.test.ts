import { expect, test } from "vitest";
import { placeOf } from "../../src/core/connection.ts";
import { onEveryEngine } from "./engines.ts";
import { aConnection, entry, eventsOf, id, incompressible, newProject } from "./things.ts";

onEveryEngine("tool pins", (replicas) => {
  const newKey = async () => ({
    project: await newProject(replicas().a),
    connectionId: id("conn"),
    place: "https://mcp.example/mcp",
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

  test("another place starts anew; the pins of the first wait there", async () => {
    const { a, b } = replicas();
    const key = await newKey();
    const elsewhere = { ...key, place: "https://other.example/mcp" };
    await a.toolPins.record(key, [{ tool: "t", hash: "h1" }], 1_000);
    expect(await b.toolPins.list(elsewhere)).toEqual([]);
    const next = await a.toolPins.record(elsewhere, [{ tool: "t", hash: "h2" }], 2_000);
    expect(next).toEqual([{ tool: "t", pinned: "h2", seen: "h2", seenAt: 2_000 }]);
    const back = await b.toolPins.record(key, [{ tool: "t", hash: "h3" }], 3_000);
    expect(back).toEqual([{ tool: "t", pinned: "h1", seen: "h3", seenAt: 3_000 }]);
    expect(await a.toolPins.accept(elsewhere, "t", "h3", [entry(key.project, "tool_accepted")])).toBe(false);
    expect(await eventsOf(a, key.project)).toEqual([]);
  });

  test("pins outlive a change of the connection's generation and come back when it is pointed back", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const { connection } = aConnection(project);
    await a.connections.insert({ connection, sealed: null }, []);
    // As the core does it: by where the stored connection points now.
    const list = async (hash: string) => {
      const now = (await b.connections.get(project, "github"))?.connection ?? connection;
      const key = { project, connectionId: now.id, place: placeOf(now.target) };
      return (await b.toolPins.record(key, [{ tool: "t", hash }], 1_000))[0]?.pinned;
    };
    const change = (version: number, target: string) => {
      const moved = { ...connection, target, version, generation: version };
      return a.connections.replace({ connection: moved, sealed: null }, version - 1, []);
    };
    expect(await list("h1")).toBe("h1");
    expect(await change(2, connection.target)).toBe(true);
    expect(await list("h2")).toBe("h1");
    expect(await change(3, "https://other.example/mcp")).toBe(true);
    expect(await list("h3")).toBe("h3");
    expect(await change(4, "https://mcp.example:443/mcp/?y=2")).toBe(true);
    expect(await list("h4")).toBe("h1");
  });

  test("places of kilobytes and of any characters are told apart", async () => {
    const { a } = replicas();
    const key = await newKey();
    const long = incompressible(8_000);
    const places = [
      `https://mcp.example/${long}1`,
      `https://mcp.example/${long}2`,
      placeOf("https://mcp.example/nul%00nul"),
      placeOf("https://mcp.example/nul%1A0nul"),
      `https://mcp.example/${"Straße".repeat(35)}`,
    ];
    const hashOf = (place: string) => `h${places.indexOf(place)}`;
    for (const place of places) {
      await a.toolPins.record({ ...key, place }, [{ tool: "t".repeat(256), hash: hashOf(place) }], 1_000);
    }
    for (const place of places) {
      expect((await a.toolPins.list({ ...key, place })).map((pin) => pin.pinned)).toEqual([hashOf(place)]);
      expect(await a.toolPins.accept({ ...key, place }, "t".repeat(256), hashOf(place), [])).toBe(true);
    }
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
    const long = incompressible(8_000);
    const names = ["nul\u0000nul", "sub\u001a0", `${long}1`, `${long}2`, "", "'; drop"];
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
