import { expect, test } from "vitest";
import { placeOf } from "../../src/core/connection.ts";
import type { Page } from "../../src/core/storage.ts";
import { onEveryEngine } from "./engines.ts";
import { EVERYTHING, aConnection, entry, eventsOf, incompressible, newProject } from "./things.ts";

onEveryEngine("connections", (replicas) => {
  test("a connection comes back as it was, in its own project only", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const record = aConnection(project, { isDefault: true, allowedTools: { toolNames: [] } });
    expect(await a.connections.insert(record, [entry(project, "connection_created")])).toBe(true);
    expect(await b.connections.get(project, "github")).toEqual(record);
    expect(await b.connections.get(project, "GitHub")).toBeNull();
    expect(await b.connections.get(await newProject(a), "github")).toBeNull();
    const { id } = record.connection;
    expect(await b.connections.find(project, id)).toEqual(record);
    expect(await b.connections.find(await newProject(a), id)).toBeNull();
  });

  test("what is null stays null", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const { connection } = aConnection(project, { requireApproval: null, auth: { kind: "none" } });
    await a.connections.insert({ connection, sealed: null }, []);
    expect(await a.connections.get(project, "github")).toEqual({ connection, sealed: null });
  });

  test("of ten that want a name, one gets it, and one is in the audit", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const made = await Promise.all(
      Array.from({ length: 10 }, (_, n) =>
        (n % 2 ? a : b).connections.insert(aConnection(project), [entry(project, "connection_created")]),
      ),
    );
    expect(made.filter(Boolean)).toHaveLength(1);
    expect(await eventsOf(a, project)).toEqual(["connection_created"]);
  });

  test("a connection is replaced at the version that was read, once", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const { connection } = aConnection(project);
    await a.connections.insert({ connection, sealed: null }, []);
    const next = (n: number) => ({
      connection: {
        ...connection,
        target: `https://${n}.example`,
        version: 2,
        generation: 2,
        trustAnnotations: true,
      },
      sealed: new Uint8Array([n]),
    });
    const replaced = await Promise.all(
      Array.from({ length: 8 }, (_, n) =>
        (n % 2 ? a : b).connections.replace(next(n), 1, [entry(project, "connection_changed")]),
      ),
    );
    expect(replaced.filter(Boolean)).toHaveLength(1);
    expect(await b.connections.get(project, "github")).toEqual(next(replaced.indexOf(true)));
    expect(await eventsOf(a, project)).toEqual(["connection_changed"]);
  });

  test("a connection that was deleted and made again is another one: the old record does not replace it", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const [old, fresh] = [aConnection(project), aConnection(project)];
    await a.connections.insert(old, []);
    await a.connections.delete(project, "github", 5_000, []);
    await a.connections.insert(fresh, []);
    expect(await a.connections.replace(old, 1, [entry(project, "connection_changed")])).toBe(false);
    expect(await a.connections.get(project, "github")).toEqual(fresh);
    expect(await eventsOf(a, project)).toEqual([]);
  });

  test("deleting takes the tool pins along and happens once", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const record = aConnection(project);
    const ofConnection = { project, connectionId: record.connection.id };
    const pins = { ...ofConnection, place: "https://mcp.example/mcp" };
    const olderPins = { ...ofConnection, place: "https://older.example/mcp" };
    await a.connections.insert(record, []);
    for (const key of [pins, olderPins]) await a.toolPins.record(key, [{ tool: "t", hash: "h" }], 1);
    const deleted = await Promise.all(
      [a, b, a].map((store) =>
        store.connections.delete(project, "github", 5_000, [entry(project, "connection_deleted")]),
      ),
    );
    expect(deleted.filter(Boolean)).toHaveLength(1);
    expect(await b.connections.get(project, "github")).toBeNull();
    for (const key of [pins, olderPins]) expect(await b.toolPins.list(key)).toEqual([]);
    expect(await eventsOf(a, project)).toEqual(["connection_deleted"]);
  });

  test("the list is in order of name, paged, and can be narrowed to a target", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    for (const name of ["ccc", "aaa", "bbb"]) {
      await a.connections.insert(aConnection(project, { name, target: `https://${name}.example/` }), []);
    }
    await a.connections.insert(aConnection(await newProject(a), { target: "https://aaa.example/" }), []);
    const names = (page: { rows: { connection: { name: string } }[] }) =>
      page.rows.map((row) => row.connection.name);
    const first = await a.connections.list(project, {}, { after: null, limit: 2 });
    expect([names(first), first.more]).toEqual([["aaa", "bbb"], true]);
    const second = await a.connections.list(project, {}, { after: "bbb", limit: 2 });
    expect([names(second), second.more]).toEqual([["ccc"], false]);
    const narrowed = await a.connections.list(project, { target: "https://aaa.example/" }, EVERYTHING);
    expect(names(narrowed)).toEqual(["aaa"]);
    expect((await a.connections.list(project, { target: "https://aaa.example" }, EVERYTHING)).rows).toEqual(
      [],
    );
  });

  test("the list by place finds every spelling of it, also after a move, and nothing beside it", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const targets = {
      aaa: "https://mcp.example/a/b",
      bbb: "HTTPS://MCP.example:443/a//./%62/?x=1",
      ccc: "https://mcp.example/a/b/c",
      ddd: "https://mcp.example:8443/a/b",
      eee: "http://mcp.example/a/b",
    };
    for (const [name, target] of Object.entries(targets)) {
      await a.connections.insert(aConnection(project, { name, target }), []);
    }
    await a.connections.insert(aConnection(await newProject(a), { target: targets.aaa }), []);
    const at = async (target: string, page: Page = EVERYTHING) => {
      const found = await b.connections.list(project, { place: placeOf(target) }, page);
      return [found.rows.map((row) => row.connection.name), found.more];
    };
    expect(await at(targets.aaa)).toEqual([["aaa", "bbb"], false]);
    expect(await at("https://mcp.example/a/b#x", { after: null, limit: 1 })).toEqual([["aaa"], true]);
    expect(await at(targets.aaa, { after: "aaa", limit: 1 })).toEqual([["bbb"], false]);
    const both = { place: placeOf(targets.aaa), target: targets.bbb };
    expect((await b.connections.list(project, both, EVERYTHING)).rows).toHaveLength(1);
    const moved = (await a.connections.get(project, "ccc"))?.connection;
    if (!moved) throw new Error("gone");
    const record = { connection: { ...moved, target: `${targets.aaa}?z`, version: 2 }, sealed: null };
    expect(await a.connections.replace(record, 1, [])).toBe(true);
    expect(await at(targets.aaa)).toEqual([["aaa", "bbb", "ccc"], false]);
    expect(await at(targets.ccc)).toEqual([[], false]);
  });

  test("a place of kilobytes is found", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const target = `https://mcp.example/${incompressible(8_000)}/`;
    await a.connections.insert(aConnection(project, { target }), []);
    const found = (place: string) => a.connections.list(project, { place }, EVERYTHING);
    expect((await found(placeOf(target))).rows).toHaveLength(1);
    expect((await found(`${placeOf(target)}/x`)).rows).toEqual([]);
  });
});
