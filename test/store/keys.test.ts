import { expect, test } from "vitest";
import { onEveryEngine } from "./engines.ts";
import { aKey, entry, eventsOf, newProject } from "./things.ts";

onEveryEngine("keys", (replicas) => {
  test("a key is found by its hash, with the route's project and whether the user is blocked there", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const key = aKey(project, {
      expiresAt: 1_760_000_000_000,
      roles: ["admin", "approver"],
      rights: [],
      confirmUrl: "https://app.example/confirm",
      doneUrl: "https://app.example/done",
    });
    await a.keys.insert(key, []);
    await a.users.block({ project, id: "app:bad", at: 1 }, []);
    await a.users.note({ project, id: "app:good", status: "active", createdAt: 1 });
    const query = { hash: key.hash, project };
    expect(await b.keys.authenticate({ ...query, user: "app:bad" })).toEqual({
      key,
      project: await b.projects.get(project),
      userBlocked: true,
    });
    expect((await b.keys.authenticate({ ...query, user: "app:good" }))?.userBlocked).toBe(false);
    expect((await b.keys.authenticate({ ...query, user: "app:unknown" }))?.userBlocked).toBe(false);
    expect((await b.keys.authenticate({ ...query, user: null }))?.userBlocked).toBe(false);
    expect(await b.keys.authenticate({ hash: "0".repeat(64), project, user: null })).toBeNull();
  });

  test("a key is found whatever project the route names; one that is not there is null", async () => {
    const { a } = replicas();
    const [project, other] = [await newProject(a), await newProject(a)];
    const key = aKey(project);
    await a.keys.insert(key, []);
    await a.users.block({ project, id: "app:bad", at: 1 }, []);
    const found = (route: string | null) =>
      a.keys.authenticate({ hash: key.hash, project: route, user: "app:bad" });
    expect(await found(other)).toMatchObject({ key, project: { name: other }, userBlocked: false });
    expect(await found("nowhere")).toEqual({ key, project: null, userBlocked: false });
    expect(await found(null)).toEqual({ key, project: null, userBlocked: false });
  });

  test("of twenty keys of one name one is made, and one is in the audit", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const made = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        (n % 2 ? a : b).keys.insert(aKey(project), [entry(project, "key_created")]),
      ),
    );
    expect(made.filter(Boolean)).toHaveLength(1);
    expect(await a.keys.list(project)).toHaveLength(1);
    expect(await eventsOf(a, project)).toEqual(["key_created"]);
  });

  test("an expired key gives its name free, and other projects do not matter", async () => {
    const { a } = replicas();
    const [project, other] = [await newProject(a), await newProject(a)];
    expect(await a.keys.insert(aKey(project, { createdAt: 1_000, expiresAt: 2_000 }), [])).toBe(true);
    expect(await a.keys.insert(aKey(project, { createdAt: 1_999 }), [])).toBe(false);
    expect(await a.keys.insert(aKey(other, { createdAt: 1_999 }), [])).toBe(true);
    expect(await a.keys.insert(aKey(project, { createdAt: 2_000 }), [])).toBe(true);
  });

  test("rotation adds the successor and lets the old key end, with its audit", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const [old, successor] = [aKey(project), aKey(project, { createdAt: 2_000 })];
    await a.keys.insert(old, []);
    const change = { project, old: old.id, oldExpiresAt: 5_000, successor };
    expect(await b.keys.rotate(change, [entry(project, "key_rotated")])).toBe(true);
    expect(await a.keys.get(project, old.id)).toEqual({ ...old, expiresAt: 5_000 });
    expect(await a.keys.get(project, successor.id)).toEqual(successor);
    expect(await eventsOf(a, project)).toEqual(["key_rotated"]);
  });

  test("rotation never lets a key live longer than it would have", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const old = aKey(project, { expiresAt: 3_000 });
    await a.keys.insert(old, []);
    await a.keys.rotate({ project, old: old.id, oldExpiresAt: 9_000, successor: aKey(project) }, []);
    expect((await a.keys.get(project, old.id))?.expiresAt).toBe(3_000);
  });

  test("a key that is gone, or another project's, is not rotated and leaves no trace", async () => {
    const { a } = replicas();
    const [project, other] = [await newProject(a), await newProject(a)];
    const foreign = aKey(other);
    await a.keys.insert(foreign, []);
    const successor = aKey(project);
    const change = { project, old: foreign.id, oldExpiresAt: 5_000, successor };
    expect(await a.keys.rotate(change, [entry(project, "key_rotated")])).toBe(false);
    expect(await a.keys.get(project, successor.id)).toBeNull();
    expect(await a.keys.get(other, foreign.id)).toEqual(foreign);
    expect(await eventsOf(a, project)).toEqual([]);
  });

  test("a key is deleted once, in its own project only", async () => {
    const { a, b } = replicas();
    const [project, other] = [await newProject(a), await newProject(a)];
    const key = aKey(project);
    await a.keys.insert(key, []);
    expect(await a.keys.get(other, key.id)).toBeNull();
    expect(await a.keys.delete(other, key.id, [entry(other, "key_deleted")])).toBe(false);
    const deleted = await Promise.all(
      [a, b, a, b].map((store) => store.keys.delete(project, key.id, [entry(project, "key_deleted")])),
    );
    expect(deleted.filter(Boolean)).toHaveLength(1);
    expect(await a.keys.list(project)).toEqual([]);
    expect(await eventsOf(a, project)).toEqual(["key_deleted"]);
    expect(await eventsOf(a, other)).toEqual([]);
  });

  test("the bootstrap key is one, replaced in place, and in no project's list", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    expect(await a.keys.getBootstrap()).toBeNull();
    await a.keys.putBootstrap(aKey(null, { name: "first" }));
    const second = aKey(null, { name: "second", roles: ["admin"], rights: [] });
    await b.keys.putBootstrap(second);
    const found = await a.keys.getBootstrap();
    expect(found).toEqual({ ...second, id: found?.id });
    const authenticated = await a.keys.authenticate({ hash: second.hash, project, user: null });
    expect(authenticated).toMatchObject({
      key: { project: null, name: "second" },
      project: { name: project },
    });
    expect(await a.keys.list(project)).toEqual([]);
  });
});
