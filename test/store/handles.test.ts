import { expect, test } from "vitest";
import { onEveryEngine } from "./engines.ts";
import { aHandle, entry, eventsOf, isThere, newProject, race } from "./things.ts";

onEveryEngine("handles", (replicas) => {
  test("a handle comes back as it was, by its kind and hash, until the exact millisecond of its end", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const full = aHandle(project, { sealed: new Uint8Array([1, 2]) });
    const bare = aHandle(project, { kind: "me_link", browserHash: null });
    for (const handle of [full, bare]) {
      await a.handles.put(handle, [entry(project, "me_link_made")]);
      expect(await b.handles.get(handle.kind, handle.hash, 8_999)).toEqual(handle);
      expect(await b.handles.get(handle.kind, handle.hash, 9_000)).toBeNull();
      expect(await b.handles.get("continue", handle.hash, 8_999)).toBeNull();
    }
    expect(await eventsOf(b, project)).toEqual(["me_link_made", "me_link_made"]);
  });

  test("a handle whose audit cannot be written is not there", async () => {
    const { a } = replicas();
    const handle = aHandle(await newProject(a));
    await a.handles.put(handle, []);
    const twice = a.handles.put({ ...handle, subject: "app:bob" }, [entry(handle.project, "me_link_made")]);
    await expect(twice).rejects.toThrow();
    expect(await a.handles.get(handle.kind, handle.hash, 2_000)).toEqual(handle);
    expect(await eventsOf(a, handle.project)).toEqual([]);
  });

  test("of twenty that take it one receives it", async () => {
    const { a, b } = replicas();
    const handle = aHandle(await newProject(a));
    const { kind, hash, browserHash } = handle;
    await a.handles.put(handle, []);
    const taken = await race({ a, b }, (store) =>
      store.handles.take({ kind, hash, browserHash, now: 2_000 }),
    );
    expect(taken.filter(isThere)).toEqual([handle]);
    expect(await b.handles.get(kind, hash, 2_000)).toBeNull();
  });

  test("another browser, another kind and a late one take nothing", async () => {
    const { a, b } = replicas();
    const handle = aHandle(await newProject(a));
    const { kind, hash, browserHash } = handle;
    await a.handles.put(handle, []);
    const query = { kind, hash, browserHash, now: 2_000 };
    const wrong = [
      { browserHash: "other" },
      { browserHash: null },
      { kind: "continue" as const },
      { now: 9_000 },
    ];
    for (const each of wrong) expect(await b.handles.take({ ...query, ...each })).toBeNull();
    expect(await b.handles.take({ ...query, now: 8_999 })).toEqual(handle);
  });

  test("one of nobody's browser goes to the first that brings it", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    for (const browserHash of ["any", null]) {
      const handle = aHandle(project, { browserHash: null });
      await a.handles.put(handle, []);
      const query = { kind: handle.kind, hash: handle.hash, browserHash, now: 2_000 };
      expect(await b.handles.take(query)).toEqual(handle);
      expect(await a.handles.take(query)).toBeNull();
    }
  });

  test("all of a subject's end together, and nobody else's", async () => {
    const { a, b } = replicas();
    const [project, other] = [await newProject(a), await newProject(a)];
    const gone = [aHandle(project), aHandle(project)];
    const left = [
      aHandle(project, { subject: "app:bob" }),
      aHandle(project, { kind: "me_link" }),
      aHandle(other),
    ];
    for (const handle of [...gone, ...left]) await a.handles.put(handle, []);
    await b.handles.drop(project, "me_session", "app:ann");
    for (const { kind, hash } of gone) expect(await a.handles.get(kind, hash, 2_000)).toBeNull();
    for (const handle of left) expect(await a.handles.get(handle.kind, handle.hash, 2_000)).toEqual(handle);
  });

  test("a sweep removes what has expired", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const [old, live] = [aHandle(project, { expiresAt: 5_000 }), aHandle(project, { expiresAt: 5_001 })];
    for (const handle of [old, live]) await a.handles.put(handle, []);
    await b.upkeep.expiry.handles(5_000, 1_000);
    expect(await a.handles.get(old.kind, old.hash, 1)).toBeNull();
    expect(await a.handles.get(live.kind, live.hash, 1)).toEqual(live);
  });
});
