import { expect, test } from "vitest";
import { HELD_CALL_STATUSES, type HeldCallStatus } from "../../src/core/storage.ts";
import { onEveryEngine } from "./engines.ts";
import { EVERYTHING, aHeldCall, bigBox, entry, eventsOf, id, newProject, viewerOf } from "./things.ts";

onEveryEngine("held calls", (replicas) => {
  test("a held call comes back as it was, to those who may see it", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const full = aHeldCall(project, { tool: "nul\u0000", responseId: id("resp"), sealed: bigBox(320_000) });
    const bare = aHeldCall(project, {
      owner: { user: null, principal: "key:runtime" },
      model: null,
      agent: null,
      connection: null,
    });
    await a.heldCalls.insert(
      [full, bare],
      [entry(project, "approval_requested"), entry(project, "approval_requested")],
    );
    expect(await b.heldCalls.get(project, full.id)).toEqual(full);
    expect(await b.heldCalls.get(project, bare.id)).toEqual(bare);
    expect(await b.heldCalls.get(await newProject(a), full.id)).toBeNull();
    expect(
      await b.heldCalls.getOwned(project, full.id, viewerOf({ user: "app:ann", principal: "x" })),
    ).toEqual(full);
    expect(await b.heldCalls.getOwned(project, full.id, viewerOf({ user: "app:bob" }))).toBeNull();
    expect(await b.heldCalls.getOwned(project, full.id, viewerOf())).toBeNull();
    expect(await b.heldCalls.getOwned(project, full.id, viewerOf({ inheritsUser: true }))).toEqual(full);
    expect(await b.heldCalls.getOwned(project, bare.id, viewerOf({ user: "app:bob" }))).toEqual(bare);
    expect(await eventsOf(a, project)).toHaveLength(2);
  });

  test("a call of megabytes is whole: arguments, reason and outcome", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const call = aHeldCall(project, { sealed: bigBox(4_000_000) });
    const change = { project, id: call.id };
    await a.heldCalls.insert([call], []);
    await a.heldCalls.decide(
      { ...change, approve: true, decidedBy: "x", sealedReason: bigBox(1_300_000), now: 1 },
      [],
    );
    await a.heldCalls.claim({ ...change, leaseUntil: 1 }, []);
    await a.heldCalls.finish({ ...change, sealedOutcome: bigBox(2_200_000) }, []);
    const found = await b.heldCalls.get(project, call.id);
    const same = (box: Uint8Array | null | undefined, length: number) =>
      Buffer.compare(box ?? new Uint8Array(), bigBox(length)) === 0;
    expect(same(found?.sealed, 4_000_000)).toBe(true);
    expect(same(found?.sealedReason, 1_300_000)).toBe(true);
    expect(same(found?.sealedOutcome, 2_200_000)).toBe(true);
  });

  test("all calls of a turn are held, with their audit, or none", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const [first, twice] = [aHeldCall(project), aHeldCall(project)];
    const audit = [entry(project, "approval_requested")];
    await expect(a.heldCalls.insert([first, twice, twice], audit)).rejects.toThrow();
    expect(await a.heldCalls.get(project, first.id)).toBeNull();
    expect(await eventsOf(a, project)).toEqual([]);
  });

  test("those of one response come in the order in which they were asked", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const responseId = id("resp");
    const calls = Array.from({ length: 12 }, () => aHeldCall(project, { responseId }));
    await a.heldCalls.insert([...calls, aHeldCall(project, { responseId: id("resp") })], []);
    expect((await b.heldCalls.ofResponse(project, responseId)).map((call) => call.id)).toEqual(
      calls.map((call) => call.id),
    );
    expect(await b.heldCalls.ofResponse(await newProject(a), responseId)).toEqual([]);
  });

  test("of twenty decisions one counts: one row, one audit entry", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const call = aHeldCall(project);
    await a.heldCalls.insert([call], []);
    const decided = await Promise.all(
      Array.from({ length: 20 }, (_, n) => {
        const approve = n % 3 === 0;
        return (n % 2 ? a : b).heldCalls.decide(
          {
            project,
            id: call.id,
            approve,
            decidedBy: `by ${n}`,
            sealedReason: bigBox(301_000 + n),
            now: 2_000,
          },
          [entry(project, approve ? "approval_approved" : "approval_denied", { principal: `by ${n}` })],
        );
      }),
    );
    const won = decided.filter((row) => row !== null);
    expect(won).toHaveLength(1);
    const winner = decided.findIndex((row) => row !== null);
    expect(won[0]).toEqual({
      ...call,
      status: winner % 3 === 0 ? "approved" : "denied",
      decidedAt: 2_000,
      decidedBy: `by ${winner}`,
      sealedReason: bigBox(301_000 + winner),
    });
    expect(await b.heldCalls.get(project, call.id)).toEqual(won[0]);
    const { rows } = await a.audit.list(project, {}, EVERYTHING);
    expect(rows.map((row) => row.principal)).toEqual([`by ${winner}`]);
  });

  test("what has expired cannot be decided, to the millisecond", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const call = aHeldCall(project, { expiresAt: 100_000 });
    await a.heldCalls.insert([call], []);
    const decide = (now: number, where = project) =>
      a.heldCalls.decide(
        { project: where, id: call.id, approve: true, decidedBy: "x", sealedReason: null, now },
        [entry(project, "approval_approved")],
      );
    expect(await decide(100_000)).toBeNull();
    expect(await decide(1_000, await newProject(a))).toBeNull();
    expect(await eventsOf(a, project)).toEqual([]);
    expect((await decide(99_999))?.status).toBe("approved");
  });

  test("an approved call is claimed by one of twenty", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const call = aHeldCall(project, { status: "approved" });
    await a.heldCalls.insert([call], []);
    const claimed = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        (n % 2 ? a : b).heldCalls.claim({ project, id: call.id, leaseUntil: 5_000 + n }, [
          entry(project, "approval_dispatched"),
        ]),
      ),
    );
    const won = claimed.filter((row) => row !== null);
    expect(won).toHaveLength(1);
    expect(won[0]).toMatchObject({ status: "dispatched", sealed: call.sealed });
    expect(await a.heldCalls.get(project, call.id)).toEqual(won[0]);
    expect(await eventsOf(a, project)).toEqual(["approval_dispatched"]);
  });

  test("each change begins where it must and nowhere else", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const after = async (
      from: HeldCallStatus,
      change: (call: ReturnType<typeof aHeldCall>) => Promise<unknown>,
    ) => {
      const call = aHeldCall(project, { status: from, leaseUntil: from === "dispatched" ? 5_000 : null });
      await a.heldCalls.insert([call], []);
      await change(call);
      return (await a.heldCalls.get(project, call.id))?.status;
    };
    const moves = async (change: (call: ReturnType<typeof aHeldCall>) => Promise<unknown>) => {
      const found: Partial<Record<HeldCallStatus, HeldCallStatus>> = {};
      for (const from of HELD_CALL_STATUSES) {
        const to = await after(from, change);
        if (to !== undefined && to !== from) found[from] = to;
      }
      return found;
    };
    const audit = () => [entry(project, "approval_cancelled")];
    const decision = { project, decidedBy: "x", sealedReason: null, now: 2_000 };
    expect(
      await moves(({ id: call }) => a.heldCalls.decide({ ...decision, id: call, approve: true }, audit())),
    ).toEqual({ pending: "approved" });
    expect(
      await moves(({ id: call }) => a.heldCalls.decide({ ...decision, id: call, approve: false }, audit())),
    ).toEqual({ pending: "denied" });
    expect(
      await moves(({ id: call }) => a.heldCalls.claim({ project, id: call, leaseUntil: 1 }, audit())),
    ).toEqual({ approved: "dispatched" });
    expect(
      await moves(({ id: call }) =>
        a.heldCalls.finish({ project, id: call, sealedOutcome: new Uint8Array([1]) }, audit()),
      ),
    ).toEqual({ dispatched: "done", unknown: "done" });
    expect(await moves(({ id: call }) => a.heldCalls.cancel(project, call, audit()))).toEqual({
      pending: "cancelled",
      approved: "cancelled",
    });
    expect(await moves(({ id: call }) => a.heldCalls.expireLease(project, call, 5_001))).toEqual({
      dispatched: "unknown",
    });
    // One entry for each move that took place, none for those that did not.
    expect(await eventsOf(a, project)).toHaveLength(1 + 1 + 1 + 2 + 2);
  });

  test("a lease ends after its time, once, and everybody sees the row as it is then", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const call = aHeldCall(project, { status: "dispatched", leaseUntil: 5_000 });
    await a.heldCalls.insert([call], []);
    expect(await b.heldCalls.expireLease(project, call.id, 5_000)).toEqual(call);
    const expired = { ...call, status: "unknown", leaseUntil: null };
    const rows = await Promise.all(
      [a, b, a].map((store) => store.heldCalls.expireLease(project, call.id, 5_001)),
    );
    expect(rows).toEqual([expired, expired, expired]);
    expect(await a.heldCalls.expireLease(project, id("mcpr"), 5_001)).toBeNull();
    // The one that ran it was slow, not dead: its outcome still counts.
    await a.heldCalls.finish({ project, id: call.id, sealedOutcome: bigBox(310_000) }, []);
    expect(await b.heldCalls.get(project, call.id)).toEqual({
      ...expired,
      status: "done",
      sealedOutcome: bigBox(310_000),
    });
  });

  test("an outcome is written once", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const call = aHeldCall(project, { status: "dispatched", leaseUntil: 5_000 });
    await a.heldCalls.insert([call], []);
    await a.heldCalls.finish({ project, id: call.id, sealedOutcome: new Uint8Array([1]) }, [
      entry(project, "tool_called"),
    ]);
    await b.heldCalls.finish({ project, id: call.id, sealedOutcome: bigBox(500_000) }, [
      entry(project, "tool_called"),
    ]);
    expect((await a.heldCalls.get(project, call.id))?.sealedOutcome).toEqual(new Uint8Array([1]));
    expect(await eventsOf(a, project)).toEqual(["tool_called"]);
  });

  test("the list shows what is overdue as expired, and filters by what it shows", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const fresh = aHeldCall(project, { createdAt: 3, expiresAt: 50_001 });
    const overdue = aHeldCall(project, { createdAt: 2, expiresAt: 50_000 });
    const expired = aHeldCall(project, { createdAt: 1, status: "expired" });
    await a.heldCalls.insert([fresh, overdue, expired], []);
    const list = async (status: HeldCallStatus | null) =>
      (await a.heldCalls.list({ project, viewer: null, status, now: 50_000 }, EVERYTHING)).rows;
    expect(await list(null)).toEqual([fresh, { ...overdue, status: "expired" }, expired]);
    expect(await list("pending")).toEqual([fresh]);
    expect((await list("expired")).map((call) => call.id)).toEqual([overdue.id, expired.id]);
    expect(await list("done")).toEqual([]);
  });

  test("the list shows a viewer what is theirs, an approver everything of the project", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const anns = aHeldCall(project, { createdAt: 2 });
    const nobodys = aHeldCall(project, { createdAt: 1, owner: { user: null, principal: "key:runtime" } });
    await a.heldCalls.insert([anns, nobodys, aHeldCall(await newProject(a))], []);
    const list = async (viewer: ReturnType<typeof viewerOf> | null) =>
      (await a.heldCalls.list({ project, viewer, status: null, now: 1 }, EVERYTHING)).rows.map(
        (call) => call.id,
      );
    expect(await list(null)).toEqual([anns.id, nobodys.id]);
    expect(await list(viewerOf({ user: "app:ann", principal: "key:else" }))).toEqual([anns.id]);
    expect(await list(viewerOf({ user: "app:bob" }))).toEqual([nobodys.id]);
    expect(await list(viewerOf({ inheritsUser: true }))).toEqual([anns.id, nobodys.id]);
    expect(await list(viewerOf({ principal: "key:else" }))).toEqual([]);
  });

  test("pages stay put while new calls come, also where times are equal", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const old = Array.from({ length: 25 }, (_, n) =>
      aHeldCall(project, { createdAt: 1_000 + Math.floor(n / 10) }),
    );
    await a.heldCalls.insert(old, []);
    const seen: string[] = [];
    let after: string | null = null;
    for (;;) {
      const query = { project, viewer: null, status: null, now: 1 };
      const page: Awaited<ReturnType<typeof a.heldCalls.list>> = await b.heldCalls.list(query, {
        after,
        limit: 4,
      });
      seen.push(...page.rows.map((call) => call.id));
      after = page.rows.at(-1)?.id ?? null;
      await a.heldCalls.insert([aHeldCall(project, { createdAt: 9_000 })], []);
      if (!page.more) break;
    }
    const newestFirst = old.toSorted((x, y) => y.createdAt - x.createdAt || (x.id < y.id ? 1 : -1));
    expect(seen).toEqual(newestFirst.map((call) => call.id));
  });
});
