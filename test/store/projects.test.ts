import { expect, test } from "vitest";
import type { UserId } from "../../src/core/ids.ts";
import { DEFAULT_SETTINGS } from "../../src/core/project.ts";
import { giveGrant } from "../helpers/grants.ts";
import { onEveryEngine } from "./engines.ts";
import {
  EVERYTHING,
  aConnection,
  aGrant,
  aHeldCall,
  aKey,
  aResponse,
  bigBox,
  entry,
  eventsOf,
  id,
  itemRows,
  newProject,
  stored,
  viewerOf,
} from "./things.ts";

onEveryEngine("projects", (replicas) => {
  test("a project comes back as it was", async () => {
    const { a, b } = replicas();
    const settings = {
      ...DEFAULT_SETTINGS,
      adhocServers: ["*.example"],
      users: { fromBody: false, assertedAs: null },
    };
    const project = { name: "Team-1", settings, version: 1, createdAt: 1_760_000_000_123 };
    expect(await a.projects.insert(project, [entry("Team-1", "project_created")])).toBe(true);
    expect(await b.projects.get("Team-1")).toEqual(project);
    expect(await b.projects.get("team-1")).toBeNull();
  });

  test("a project comes with whether a user is blocked there", async () => {
    const { a, b } = replicas();
    const [name, other] = [await newProject(a), await newProject(a)];
    await a.users.block({ project: name, id: "entra:t/bad", at: 1 }, []);
    await a.users.note({ project: name, id: "entra:t/good", status: "active", createdAt: 1 });
    const blocked = async (project: string, user: UserId | null) =>
      (await b.projects.admission({ project, user }))?.userBlocked;
    expect(await b.projects.admission({ project: name, user: "entra:t/bad" })).toEqual({
      project: await b.projects.get(name),
      userBlocked: true,
    });
    expect(await blocked(name, "entra:t/good")).toBe(false);
    expect(await blocked(name, "entra:t/unknown")).toBe(false);
    expect(await blocked(name, null)).toBe(false);
    expect(await blocked(other, "entra:t/bad")).toBe(false);
    expect(await b.projects.admission({ project: "nowhere", user: "entra:t/bad" })).toBeNull();
  });

  test("of twenty that want a name, one gets it, and one is in the audit", async () => {
    const { a, b } = replicas();
    const name = `wanted-${id("w")}`;
    const project = { name, settings: DEFAULT_SETTINGS, version: 1, createdAt: 1 };
    const won = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        (n % 2 ? a : b).projects.insert(project, [entry(name, "project_created")]),
      ),
    );
    expect(won.filter(Boolean)).toHaveLength(1);
    expect(await eventsOf(a, name)).toEqual(["project_created"]);
  });

  test("settings change at the version that was read, once", async () => {
    const { a, b } = replicas();
    const name = await newProject(a);
    const changes = await Promise.all(
      [10, 20, 30, 40].map((expireAfterMs, n) =>
        (n % 2 ? a : b).projects.updateSettings(
          { name, version: 1, settings: { ...DEFAULT_SETTINGS, approvals: { expireAfterMs } }, sealed: null },
          [entry(name, "settings_changed")],
        ),
      ),
    );
    const changed = changes.filter((project) => project !== null);
    expect(changed).toHaveLength(1);
    expect(changed[0]?.version).toBe(2);
    expect(await b.projects.get(name)).toEqual(changed[0]);
    expect(await eventsOf(a, name)).toEqual(["settings_changed"]);
  });

  test("the secrets of settings are read apart from the row, with the version that they are sealed for", async () => {
    const { a, b } = replicas();
    const name = await newProject(a);
    expect(await b.projects.secrets(name)).toEqual({ version: 1, sealed: null });
    expect(await b.projects.secrets("nobody")).toBeNull();
    const change = { name, settings: DEFAULT_SETTINGS, sealed: new Uint8Array([1, 2]) };
    const changed = await a.projects.updateSettings({ ...change, version: 1 }, []);
    expect(changed).toEqual({ name, settings: DEFAULT_SETTINGS, version: 2, createdAt: 1 });
    expect(await a.projects.updateSettings({ ...change, version: 1, sealed: null }, [])).toBeNull();
    expect(await b.projects.secrets(name)).toEqual({ version: 2, sealed: new Uint8Array([1, 2]) });
    await a.projects.updateSettings({ ...change, version: 2, sealed: null }, []);
    expect(await b.projects.secrets(name)).toEqual({ version: 3, sealed: null });
  });

  test("the list is in order of name, by bytes, and its pages neither repeat nor miss", async () => {
    const { a } = replicas();
    const names = ["0x", "B", "a", "a-1", "a_1", "aB", "b"].map((name) => `${name}zz`);
    for (const name of names) {
      await a.projects.insert({ name, settings: DEFAULT_SETTINGS, version: 1, createdAt: 1 }, []);
    }
    const seen: string[] = [];
    let after: string | null = null;
    for (;;) {
      const page: Awaited<ReturnType<typeof a.projects.list>> = await a.projects.list({ after, limit: 2 });
      expect(page.rows.length).toBeLessThanOrEqual(2);
      seen.push(...page.rows.map((project) => project.name));
      after = page.rows.at(-1)?.name ?? null;
      if (!page.more) break;
    }
    expect(seen).toEqual(seen.toSorted());
    expect(seen.filter((name) => name.endsWith("zz"))).toEqual(names.toSorted());
    expect(new Set(seen).size).toBe(seen.length);
  });

  test("deleting a project takes everything in it, but not its audit, and nothing of others", async () => {
    const { a, b } = replicas();
    const [name, other] = [await newProject(a), await newProject(a)];
    const made = await Promise.all(
      [name, other].map(async (project) => {
        const key = aKey(project);
        const connection = aConnection(project);
        const response = stored(aResponse(project));
        const call = aHeldCall(project, { sealed: bigBox(2_000_000) });
        const grant = aGrant(project, { sealed: bigBox(400_000) });
        const pins = { project, connectionId: connection.connection.id, place: "https://mcp.example/mcp" };
        await a.keys.insert(key, []);
        await a.users.note({ project, id: "app:ann", status: "active", createdAt: 1 });
        await a.connections.insert(connection, [entry(project, "connection_created")]);
        await a.toolPins.record(pins, [{ tool: "t", hash: "h" }], 1);
        await a.agents.addVersion(
          {
            project,
            agent: "x",
            description: null,
            metadata: {},
            definition: { kind: "prompt" },
            createdAt: 1,
          },
          0,
          [],
        );
        const items = itemRows(0, 2);
        await a.responses.append(response, items, []);
        await a.heldCalls.insert([call], []);
        await giveGrant(a, grant);
        const left = async () => [
          await b.projects.get(project),
          await b.keys.get(project, key.id),
          await b.users.get(project, "app:ann"),
          await b.connections.get(project, "github"),
          (await b.toolPins.list(pins))[0] ?? null,
          await b.agents.get(project, "x"),
          await b.agents.getVersion(project, "x", 1),
          await b.responses.get(project, response.response.id, viewerOf()),
          (await b.responses.items(project, response.threadId, 0, 9))[0] ?? null,
          await b.heldCalls.get(project, call.id),
          await b.grants.get(grant),
        ];
        return { left };
      }),
    );
    expect(await b.projects.delete(name, [entry(name, "project_deleted")])).toBe(true);
    expect(await made[0]?.left()).toEqual(Array(11).fill(null));
    expect(await made[1]?.left()).not.toContain(null);
    expect(await eventsOf(a, name)).toEqual(["connection_created", "project_deleted"]);
  });

  test("deleting what is not there leaves no trace", async () => {
    const { a } = replicas();
    expect(await a.projects.delete("nobody", [entry("nobody", "project_deleted")])).toBe(false);
    expect((await a.audit.list("nobody", {}, EVERYTHING)).rows).toEqual([]);
  });

  test("the database answers", async () => {
    await expect(replicas().a.ping()).resolves.toBeUndefined();
  });
});
