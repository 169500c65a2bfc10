import { expect, test } from "vitest";
import { onEveryEngine } from "./engines.ts";
import { aHeldCall, entry, eventsOf, newProject } from "./things.ts";

onEveryEngine("users", (replicas) => {
  test("a user is noted once and stays as first seen", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const user = { project, id: "app:ann", status: "active", createdAt: 1_000 } as const;
    await Promise.all([a, b, a, b].map((store) => store.users.note(user)));
    await b.users.note({ ...user, createdAt: 2_000 });
    expect(await a.users.get(project, "app:ann")).toEqual(user);
    expect(await a.users.get(await newProject(a), "app:ann")).toBeNull();
  });

  test("blocking makes the user when missing and cancels their pending held calls, nobody else's", async () => {
    const { a, b } = replicas();
    const [project, other] = [await newProject(a), await newProject(a)];
    const bad = { owner: { user: "app:bad", principal: "k" } } as const;
    const pending = aHeldCall(project, bad);
    const denied = aHeldCall(project, { ...bad, status: "denied" });
    const anns = aHeldCall(project);
    const elsewhere = aHeldCall(other, bad);
    await a.heldCalls.insert([pending, denied, anns, elsewhere], []);
    await b.users.block({ project, id: "app:bad", at: 7_000 }, [entry(project, "user_blocked")]);
    expect(await a.users.get(project, "app:bad")).toEqual({
      project,
      id: "app:bad",
      status: "blocked",
      createdAt: 7_000,
    });
    expect((await a.heldCalls.get(project, pending.id))?.status).toBe("cancelled");
    expect((await a.heldCalls.get(project, denied.id))?.status).toBe("denied");
    expect((await a.heldCalls.get(project, anns.id))?.status).toBe("pending");
    expect((await a.heldCalls.get(other, elsewhere.id))?.status).toBe("pending");
    expect(await eventsOf(a, project)).toEqual(["user_blocked"]);
  });

  test("a note does not restore a blocked user; restoring does, once", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    await a.users.note({ project, id: "app:ann", status: "active", createdAt: 1_000 });
    await a.users.block({ project, id: "app:ann", at: 2_000 }, []);
    await a.users.note({ project, id: "app:ann", status: "active", createdAt: 3_000 });
    expect(await a.users.get(project, "app:ann")).toMatchObject({ status: "blocked", createdAt: 1_000 });
    const restored = await Promise.all(
      [a, b, a, b].map((store) => store.users.restore(project, "app:ann", [entry(project, "user_restored")])),
    );
    expect(restored.filter(Boolean)).toHaveLength(1);
    expect((await b.users.get(project, "app:ann"))?.status).toBe("active");
    expect(await a.users.restore(project, "app:unknown", [entry(project, "user_restored")])).toBe(false);
    expect(await eventsOf(a, project)).toEqual(["user_restored"]);
  });

  test("the list is in order of id and paged", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    for (const id of ["entra:t/o", "app:b", "app:a", "app:É", "dev:x"] as const) {
      await a.users.note({ project, id, status: "active", createdAt: 1 });
    }
    const first = await a.users.list(project, { after: null, limit: 3 });
    expect(first.rows.map((user) => user.id)).toEqual(["app:a", "app:b", "app:É"]);
    expect(first.more).toBe(true);
    const second = await a.users.list(project, { after: "app:É", limit: 3 });
    expect(second.rows.map((user) => user.id)).toEqual(["dev:x", "entra:t/o"]);
    expect(second.more).toBe(false);
  });
});
