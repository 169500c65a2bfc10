import { expect, test } from "vitest";
import type { Store } from "../../src/core/storage.ts";
import { createStore } from "../../src/store/store.ts";
import { openSqliteEngine } from "../../src/store/better-sqlite3.ts";
import { migrations, onEveryEngine } from "./engines.ts";
import { entry, eventsOf, newProject } from "./things.ts";

onEveryEngine("agents", (replicas) => {
  const version = (project: string, definition: { [key: string]: string | number } = { kind: "prompt" }) => ({
    project,
    agent: "helper",
    description: "Helps",
    metadata: { b: "1", a: "2" },
    definition,
    createdAt: 1_760_000_000_000,
  });

  test("the first version makes the agent; the next becomes the latest; older ones stay", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const first = await a.agents.addVersion(version(project, { z: 1, a: 2 }), 0, [
      entry(project, "agent_version_created"),
    ]);
    expect(first).toEqual({
      project,
      name: "helper",
      state: "enabled",
      identity: "shared",
      createdAt: 1_760_000_000_000,
      latest: { ...version(project, { z: 1, a: 2 }), version: 1 },
    });
    expect(await b.agents.get(project, "helper")).toEqual(first);
    // The definition is echoed as it was given, in the order of its keys.
    expect(Object.keys((await b.agents.get(project, "helper"))?.latest.definition ?? {})).toEqual(["z", "a"]);
    const second = await b.agents.addVersion({ ...version(project), createdAt: 1_760_000_001_000 }, 1, []);
    expect(second).toMatchObject({ createdAt: 1_760_000_000_000, latest: { version: 2 } });
    expect(await a.agents.get(project, "helper")).toEqual(second);
    expect(await a.agents.getVersion(project, "helper", 1)).toEqual(first?.latest);
    expect(await a.agents.getVersion(project, "helper", 3)).toBeNull();
    expect(await eventsOf(a, project)).toEqual(["agent_version_created"]);
  });

  test("of ten that add a version to the same one, one does", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    for (const after of [0, 1]) {
      const added = await Promise.all(
        Array.from({ length: 10 }, (_, n) =>
          (n % 2 ? a : b).agents.addVersion(version(project, { n }), after, [
            entry(project, "agent_version_created"),
          ]),
        ),
      );
      const won = added.filter((agent) => agent !== null);
      expect(won).toHaveLength(1);
      expect(await a.agents.get(project, "helper")).toEqual(won[0]);
    }
    expect(await eventsOf(a, project)).toHaveLength(2);
    expect(await a.agents.addVersion(version(await newProject(a)), 4, [])).toBeNull();
  });

  test("deleting versions: the newest remaining one is the latest, the last takes the agent", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    for (const after of [0, 1, 2]) await a.agents.addVersion(version(project, { n: after + 1 }), after, []);
    const remove = (n: number) =>
      a.agents.deleteVersion(project, "helper", n, [entry(project, "agent_version_deleted")]);
    expect(await remove(9)).toBe(false);
    expect(await eventsOf(a, project)).toEqual([]);
    expect(await remove(1)).toBe(true);
    expect((await a.agents.get(project, "helper"))?.latest.version).toBe(3);
    expect(await remove(3)).toBe(true);
    expect((await a.agents.get(project, "helper"))?.latest).toMatchObject({
      version: 2,
      definition: { n: 2 },
    });
    expect(await remove(2)).toBe(true);
    expect(await a.agents.get(project, "helper")).toBeNull();
    expect(await remove(2)).toBe(false);
    expect(await eventsOf(a, project)).toHaveLength(3);
  });

  test("a number is given once, also when the latest version was deleted", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    for (const after of [0, 1, 2]) await a.agents.addVersion(version(project, { n: after + 1 }), after, []);
    await a.agents.deleteVersion(project, "helper", 3, []);
    await a.agents.deleteVersion(project, "helper", 2, []);
    expect(await b.agents.addVersion(version(project), 3, [])).toBeNull();
    const added = await b.agents.addVersion(version(project, { n: 4 }), 1, []);
    expect(added?.latest).toEqual({ ...version(project, { n: 4 }), version: 4 });
    expect(await a.agents.get(project, "helper")).toEqual(added);
    expect(await a.agents.getVersion(project, "helper", 2)).toBeNull();
    expect((await a.agents.addVersion(version(project), 4, []))?.latest.version).toBe(5);
  });

  test("of racers that add and delete, no two get one number", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    await a.agents.addVersion(version(project), 0, []);
    const numbers: number[] = [];
    const race = async (store: Store) => {
      for (let won = 0; won < 10;) {
        const latest = (await store.agents.get(project, "helper"))?.latest.version ?? 0;
        const added = await store.agents.addVersion(version(project), latest, [
          entry(project, "agent_version_created"),
        ]);
        if (!added) continue;
        won++;
        numbers.push(added.latest.version);
        await store.agents.deleteVersion(project, "helper", added.latest.version, []);
      }
    };
    await Promise.all([a, b, a, b].map(race));
    expect(numbers.toSorted((x, y) => x - y)).toEqual(Array.from({ length: 40 }, (_, n) => n + 2));
    expect(await eventsOf(a, project)).toHaveLength(40);
    expect((await a.agents.get(project, "helper"))?.latest.version).toBe(1);
  });

  test("a long definition after a deleted one is its own", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const long = (word: string) => ({ instructions: word.repeat(200_000) });
    await a.agents.addVersion(version(project, long("first")), 0, []);
    await a.agents.addVersion(version(project, long("second")), 1, []);
    await a.agents.deleteVersion(project, "helper", 2, []);
    await a.agents.addVersion(version(project, long("third")), 1, []);
    expect((await b.agents.get(project, "helper"))?.latest).toMatchObject({
      version: 3,
      definition: long("third"),
    });
  });

  test("a version is deleted once", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    for (const after of [0, 1]) await a.agents.addVersion(version(project), after, []);
    const deleted = await Promise.all(
      Array.from({ length: 10 }, (_, n) =>
        (n % 2 ? a : b).agents.deleteVersion(project, "helper", 2, [entry(project, "agent_version_deleted")]),
      ),
    );
    expect(deleted.filter(Boolean)).toHaveLength(1);
    expect(await eventsOf(a, project)).toEqual(["agent_version_deleted"]);
  });

  test("a definition of megabytes is whole, and goes with its agent", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const definition = { instructions: "Straße \u0000 ".repeat(200_000) };
    await a.agents.addVersion(version(project, definition), 0, []);
    expect((await b.agents.get(project, "helper"))?.latest.definition).toEqual(definition);
    await a.agents.delete(project, "helper", []);
    // What is made again under the name must not find the chunks of the old one.
    await a.agents.addVersion(version(project, definition), 0, []);
    expect((await b.agents.getVersion(project, "helper", 1))?.definition).toEqual(definition);
    await a.agents.deleteVersion(project, "helper", 1, []);
    await a.agents.addVersion(version(project, { short: 1 }), 0, []);
    expect((await b.agents.get(project, "helper"))?.latest.definition).toEqual({ short: 1 });
  });

  test("state and deletion leave a trace where there is an agent, and none where there is not", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    await a.agents.addVersion(version(project), 0, []);
    const audit = () => [entry(project, "agent_changed")];
    expect(await a.agents.setState(project, "helper", "disabled", audit())).toBe(true);
    expect((await b.agents.get(project, "helper"))?.state).toBe("disabled");
    expect(await a.agents.setState(project, "nobody", "disabled", audit())).toBe(false);
    const deleted = await Promise.all(
      [a, b, a].map((store) => store.agents.delete(project, "helper", [entry(project, "agent_deleted")])),
    );
    expect(deleted.filter(Boolean)).toHaveLength(1);
    expect(await a.agents.getVersion(project, "helper", 1)).toBeNull();
    expect(await eventsOf(a, project)).toEqual(["agent_changed", "agent_deleted"]);
  });

  test("an agent's identity is one of its own from the beginning, or by a change, and no version's", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const audit = () => [entry(project, "agent_changed")];
    expect((await a.agents.addVersion(version(project), 0, [], "own"))?.identity).toBe("own");
    expect((await b.agents.get(project, "helper"))?.identity).toBe("own");
    expect((await b.agents.addVersion(version(project), 1, []))?.identity).toBe("own");
    expect((await b.agents.addVersion(version(project), 2, audit(), "shared"))?.identity).toBe("shared");
    expect(await a.agents.addVersion(version(project), 2, audit(), "own")).toBeNull();
    expect((await a.agents.get(project, "helper"))?.identity).toBe("shared");
    expect(await a.agents.setIdentity(project, "helper", "own", audit())).toBe(true);
    expect(await a.agents.setIdentity(project, "nobody", "own", audit())).toBe(false);
    expect((await b.agents.list(project, { after: null, limit: 9 })).rows).toMatchObject([
      { identity: "own", latest: { version: 3 } },
    ]);
    expect(await eventsOf(a, project)).toEqual(["agent_changed", "agent_changed"]);
    await a.agents.delete(project, "helper", []);
    expect((await a.agents.addVersion(version(project), 0, []))?.identity).toBe("shared");
  });

  test("lists: agents by name with their latest versions, versions newest first", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    for (const agent of ["c", "a", "b"]) await a.agents.addVersion({ ...version(project), agent }, 0, []);
    for (const after of [1, 2]) await a.agents.addVersion({ ...version(project), agent: "b" }, after, []);
    const first = await a.agents.list(project, { after: null, limit: 2 });
    expect(first.rows.map((agent) => [agent.name, agent.latest.version])).toEqual([
      ["a", 1],
      ["b", 3],
    ]);
    expect(first.more).toBe(true);
    const second = await a.agents.list(project, { after: "b", limit: 2 });
    expect([second.rows.map((agent) => agent.name), second.more]).toEqual([["c"], false]);
    const versions = (after: string | null) => a.agents.listVersions(project, "b", { after, limit: 2 });
    expect((await versions(null)).rows.map((each) => each.version)).toEqual([3, 2]);
    expect((await versions("2")).rows.map((each) => each.version)).toEqual([1]);
    expect((await versions("no number")).rows).toEqual([]);
  });
});

test("a number given between the read and the write of another is not given again", async () => {
  const engine = openSqliteEngine(":memory:", { migrations: migrations.sqlite });
  const store = createStore(engine);
  let between = async () => {};
  const slow = createStore({
    ...engine,
    run: async (statement, values) => {
      const read = await engine.run(statement, values);
      await between();
      return read;
    },
  });
  const project = await newProject(store);
  const version = { project, agent: "x", description: null, metadata: {}, definition: {}, createdAt: 1 };
  await store.agents.addVersion(version, 0, []);
  between = async () => {
    expect((await store.agents.addVersion(version, 1, []))?.latest.version).toBe(2);
    await store.agents.deleteVersion(project, "x", 2, []);
  };
  const late = () => slow.agents.addVersion(version, 1, [entry(project, "agent_version_created")]);
  expect(await late()).toBeNull();
  expect(await eventsOf(store, project)).toEqual([]);
  between = async () => {};
  expect((await late())?.latest.version).toBe(3);
  await store.close();
});
