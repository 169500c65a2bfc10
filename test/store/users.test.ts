import { expect, test } from "vitest";
import type { HeldCall } from "../../src/core/storage.ts";
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

  test("blocking makes the user when missing and cancels their held calls that have not left, nobody else's", async () => {
    const { a, b } = replicas();
    const [project, other] = [await newProject(a), await newProject(a)];
    const bad = { owner: { user: "app:bad", principal: "k" } } as const;
    const pending = aHeldCall(project, bad);
    const approved = aHeldCall(project, {
      ...bad,
      status: "approved",
      decidedAt: 5_000,
      decidedBy: "key:approver",
    });
    const dispatched = aHeldCall(project, { ...bad, status: "dispatched", leaseUntil: 9_000 });
    const denied = aHeldCall(project, { ...bad, status: "denied" });
    const anns = aHeldCall(project);
    const elsewhere = aHeldCall(other, bad);
    await a.heldCalls.insert([pending, approved, dispatched, denied, anns, elsewhere], []);
    await b.users.block({ project, id: "app:bad", at: 7_000 }, [entry(project, "user_blocked")]);
    expect(await a.users.get(project, "app:bad")).toEqual({
      project,
      id: "app:bad",
      status: "blocked",
      createdAt: 7_000,
    });
    const after = (call: HeldCall) => a.heldCalls.get(project, call.id);
    expect(await after(pending)).toEqual({ ...pending, status: "cancelled", decidedAt: 7_000 });
    // Who approved it, and when, stays true.
    expect(await after(approved)).toEqual({ ...approved, status: "cancelled" });
    expect(await after(dispatched)).toEqual(dispatched);
    expect((await a.heldCalls.get(project, denied.id))?.status).toBe("denied");
    expect((await a.heldCalls.get(project, anns.id))?.status).toBe("pending");
    expect((await a.heldCalls.get(other, elsewhere.id))?.status).toBe("pending");
    expect(await eventsOf(a, project)).toEqual(["user_blocked"]);
  });

  test("an approved call of a user who was blocked cannot be claimed, and leaves no trace", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const approved = aHeldCall(project, { status: "approved", decidedAt: 1, decidedBy: "key:approver" });
    await a.heldCalls.insert([approved], []);
    await a.users.block({ project, id: "app:ann", at: 7_000 }, []);
    const claim = { project, id: approved.id, leaseUntil: 9_000 };
    expect(await b.heldCalls.claim(claim, [entry(project, "approval_dispatched")])).toBeNull();
    await a.users.restore(project, "app:ann", []);
    expect(await b.heldCalls.claim(claim, [entry(project, "approval_dispatched")])).toBeNull();
    expect(await eventsOf(a, project)).toEqual([]);
  });

  test("of a block and claims that race for a user's approved calls, each call goes to one of them", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const calls = Array.from({ length: 40 }, () => aHeldCall(project, { status: "approved", decidedAt: 1 }));
    await a.heldCalls.insert(calls, []);
    const claim = (call: HeldCall) =>
      b.heldCalls.claim({ project, id: call.id, leaseUntil: 9_000 }, [entry(project, "approval_dispatched")]);
    const early = calls.slice(0, 20).map(claim);
    const block = a.users.block({ project, id: "app:ann", at: 7_000 }, []);
    const late = calls.slice(20, 30).map(claim);
    await block;
    const afterBlock = await Promise.all(calls.map(claim));
    expect(afterBlock).toEqual(calls.map(() => null));
    const won = new Set((await Promise.all([...early, ...late])).map((call) => call?.id));
    const statuses = await Promise.all(
      calls.map(async (call) => (await a.heldCalls.get(project, call.id))?.status),
    );
    expect(statuses).toEqual(calls.map((call) => (won.has(call.id) ? "dispatched" : "cancelled")));
    const dispatched = statuses.filter((status) => status === "dispatched");
    expect(await eventsOf(a, project)).toHaveLength(dispatched.length);
  });

  test("a decision that races with a block does not outlive it", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const calls = Array.from({ length: 40 }, () => aHeldCall(project));
    await a.heldCalls.insert(calls, []);
    const decided = calls.map(({ id }) =>
      b.heldCalls.decide(
        { project, id, approve: true, decidedBy: "key:x", sealedReason: null, now: 2_000 },
        [],
      ),
    );
    await a.users.block({ project, id: "app:ann", at: 7_000 }, []);
    await Promise.all(decided);
    const statuses = await Promise.all(
      calls.map(async (call) => (await a.heldCalls.get(project, call.id))?.status),
    );
    expect(statuses).toEqual(calls.map(() => "cancelled"));
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
