import { expect, test } from "vitest";
import type { Expiry } from "../../src/core/expiry.ts";
import type { Store } from "../../src/core/storage.ts";
import { onEveryEngine } from "./engines.ts";
import {
  aConsent,
  aHandle,
  aHeldCall,
  aResponse,
  authorizing,
  bigBox,
  id,
  isThere,
  itemRows,
  newProject,
  stored,
  viewerOf,
} from "./things.ts";

/** All of it, in batches of three. */
async function all(batch: (limit: number) => Promise<number>): Promise<number[]> {
  const counts: number[] = [];
  do counts.push(await batch(3));
  while (counts.at(-1) === 3);
  return counts;
}
const total = (counts: number[]) => counts.reduce((sum, count) => sum + count, 0);
/** Whatever other tests have left, so that counts are those of this one. */
const clear = (work: keyof Expiry, store: Store, at: number) =>
  all((limit) => store.upkeep.expiry[work](at, limit));

onEveryEngine("what ends by itself", (replicas) => {
  test("open consents expire when neither link nor state can be used, a few at a time, and once", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    await clear("consents", a, 9_000_000);
    const consent = (more = {}) => aConsent(project, { user: `app:${id("w")}`, expiresAt: 2_000, ...more });
    const over = Array.from({ length: 7 }, () => consent());
    const young = consent({ expiresAt: 2_001 });
    const underway = consent({
      expiresAt: 2_000,
      createdAt: 1,
      browserHash: "browser",
      provenBy: "possession",
    });
    for (const one of [...over, young, underway]) await a.consents.open(one, []);
    await a.consents.authorize(authorizing(underway, { stateExpiresAt: 2_500, now: 1_500 }), []);
    const counts = await Promise.all(
      [a, b].map((store) => all((limit) => store.upkeep.expiry.consents(2_000, limit))),
    );
    expect(total(counts.flat())).toBe(7);
    expect(Math.max(...counts.flat())).toBe(3);
    for (const { id: one } of over)
      expect(await b.consents.find(one)).toMatchObject({
        status: "expired",
        outcome: "expired",
        endedAt: 2_000,
      });
    expect(await b.consents.find(young.id)).toEqual(young);
    expect(await b.consents.find(underway.id)).toMatchObject({ status: "authorizing" });
    expect(total(await all((limit) => a.upkeep.expiry.consents(2_500, limit)))).toBe(2);
    const ended = await b.consents.find(underway.id);
    expect(ended).toMatchObject({ status: "expired", sealedFlow: null, stateHash: null });
    // Its place is free.
    expect(await a.consents.open({ ...consent(), user: underway.user }, [])).toMatchObject({ isNew: true });
    expect(total(await all((limit) => a.upkeep.expiry.endedConsents(2_500, limit)))).toBe(7);
    expect(await a.consents.find(underway.id)).not.toBeNull();
    expect(await a.consents.find(young.id)).not.toBeNull();
  });

  test("held calls past their time expire; one that is decided at that moment is decided or expired", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    await clear("heldCalls", a, 9_000_000);
    const calls = Array.from({ length: 8 }, () => aHeldCall(project, { expiresAt: 2_000 }));
    const young = aHeldCall(project, { expiresAt: 2_001 });
    await a.heldCalls.insert([...calls, young], []);
    const deciding = calls.map(({ id: one }) =>
      b.heldCalls.decide(
        { project, id: one, approve: true, decidedBy: "key:x", sealedReason: null, now: 1_999 },
        [],
      ),
    );
    const [decided, expired] = await Promise.all([
      Promise.all(deciding),
      all((limit) => a.upkeep.expiry.heldCalls(2_000, limit)),
    ]);
    expect(decided.filter(isThere).length + total(expired)).toBe(8);
    for (const [n, { id: one }] of calls.entries()) {
      const now = await a.heldCalls.get(project, one);
      expect(now?.status).toBe(decided[n] ? "approved" : "expired");
    }
    expect((await a.heldCalls.get(project, young.id))?.status).toBe("pending");
  });

  test("what was dispatched by one that died is unknown afterwards", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    await clear("dispatchedCalls", a, 9_000_000);
    const calls = Array.from({ length: 4 }, () =>
      aHeldCall(project, { status: "dispatched", leaseUntil: 2_000 }),
    );
    const alive = aHeldCall(project, { status: "dispatched", leaseUntil: 2_001 });
    await a.heldCalls.insert([...calls, alive], []);
    expect(total(await all((limit) => b.upkeep.expiry.dispatchedCalls(2_001, limit)))).toBe(4);
    expect(await a.heldCalls.get(project, calls[0]?.id ?? "")).toMatchObject({
      status: "unknown",
      leaseUntil: null,
    });
    expect(await a.heldCalls.get(project, alive.id)).toEqual(alive);
  });

  test("handles and kept answers go in batches, with all their parts", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    await clear("handles", a, 9_000_000);
    await clear("idempotency", a, 9_000_000);
    for (let n = 0; n < 7; n++) {
      await a.handles.put(aHandle(project, { expiresAt: 2_000 }), []);
      const attempt = { project, slot: `s${n}`, run: id("w") };
      const times = { leaseUntil: 1_500, expiresAt: 2_000 + (n === 6 ? 1 : 0), now: 1_000 };
      await a.idempotency.begin({ ...attempt, digest: "d", ...times });
      await a.idempotency.finish({ ...attempt, sealed: bigBox(n === 0 ? 400_000 : 10) });
    }
    const live = aHandle(project, { expiresAt: 2_001 });
    await a.handles.put(live, []);
    expect(await all((limit) => b.upkeep.expiry.handles(2_000, limit))).toEqual([3, 3, 1]);
    expect(await a.handles.get(live.kind, live.hash, 1)).toEqual(live);
    expect(await all((limit) => b.upkeep.expiry.idempotency(2_000, limit))).toEqual([3, 3, 0]);
    expect(await a.idempotency.get(project, "s0", 1)).toBeNull();
    expect(await a.idempotency.get(project, "s6", 1)).toMatchObject({ status: "done" });
  });

  test("redirect ids go when their owners were deleted long ago", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const owner = { kind: "connection", project, name: "x" } as const;
    const redirectId = `r${id("w")}`;
    expect(await a.redirects.ensure(owner, redirectId, 1_000)).toBe(redirectId);
    await clear("redirects", b, 9_000_000);
    expect(await a.redirects.owner(redirectId, 1_000)).toEqual(owner);
  });
});

onEveryEngine("what is kept for a while", (replicas) => {
  test("old responses are named with their owners, the oldest first", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const owner = { user: "app:ann", principal: "key:x" } as const;
    const made = [30, 10, 20, 40].map((createdAt) => aResponse(project, { createdAt, owner }));
    for (const response of made) await a.responses.append(stored(response, { end: 1 }), itemRows(0, 1), []);
    const window = (after: { createdAt: number; id: string } | null, of = project) =>
      b.upkeep.retention.responses({ project: of, before: 40, after }, 2);
    const found = await window(null);
    expect(found).toEqual([
      { id: made[1]?.id, owner, createdAt: 10, isInConversation: false },
      { id: made[2]?.id, owner, createdAt: 20, isInConversation: false },
    ]);
    expect((await window(found.at(-1) ?? null)).map((one) => one.id)).toEqual([made[0]?.id]);
    expect(await window(null, await newProject(a))).toEqual([]);
  });

  test("a conversation counts from when a response was made in it last", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const owner = { user: null, principal: "key:runtime" };
    const conversations = [10, 20, 30].map((createdAt) => ({
      id: id("conv"),
      project,
      owner,
      createdAt,
      metadata: {},
    }));
    for (const one of conversations) await a.conversations.insert(one, []);
    const [first, second, third] = conversations.map((one) => one.id);
    const response = aResponse(project, { createdAt: 99, owner });
    await a.responses.append(stored(response, { threadId: first ?? id("conv"), end: 1 }), itemRows(0, 1), []);
    const window = (after: { createdAt: number; id: string } | null) =>
      b.upkeep.retention.conversations({ project, before: 40, after }, 2);
    const page = await window(null);
    expect(page.map((one) => [one.id, one.createdAt, one.usedAt])).toEqual([
      [first, 10, 99],
      [second, 20, 20],
    ]);
    expect((await window(page.at(-1) ?? null)).map((one) => one.id)).toEqual([third]);
    const of = { project, before: 100, after: null };
    expect(await b.upkeep.retention.responses(of, 2)).toMatchObject([{ isInConversation: true }]);
  });

  test("held calls go that have ended and that no item speaks of", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const call = (createdAt: number, more = {}) =>
      aHeldCall(project, { createdAt, status: "done", sealed: bigBox(400_000), ...more });
    const spokenOf = call(10);
    const pending = call(11, { status: "pending" });
    const dispatched = call(12, { status: "dispatched", leaseUntil: 99 });
    // It waits to be run.
    const approved = call(12, { status: "approved", decidedAt: 40 });
    const young = call(50);
    const gone = [call(13), call(14, { status: "expired" }), call(15, { status: "denied" }), call(16)];
    gone.push(call(17, { status: "approved", decidedAt: 39 }));
    await a.heldCalls.insert([spokenOf, pending, dispatched, approved, young, ...gone], []);
    const response = stored(aResponse(project), { end: 1 });
    await a.responses.append(response, [{ position: 0, id: spokenOf.id, sealed: new Uint8Array([1]) }], []);
    let after: { createdAt: number; id: string } | null = null;
    let deleted = 0;
    do {
      const looked = await b.upkeep.retention.heldCalls({ project, before: 50, decidedBefore: 40, after }, 3);
      deleted += looked.deleted;
      after = looked.next;
    } while (after !== null);
    expect(deleted).toBe(5);
    for (const { id: one } of gone) {
      expect(await a.heldCalls.get(project, one)).toBeNull();
      expect(await a.upkeep.boxes.read("held_calls.sealed", [one])).toBeNull();
    }
    for (const { id: one } of [spokenOf, pending, dispatched, approved, young])
      expect(await a.heldCalls.get(project, one)).not.toBeNull();
    expect(await a.responses.get(project, response.response.id, viewerOf())).not.toBeNull();
  });
});
