import { expect, test } from "vitest";
import { onEveryEngine } from "./engines.ts";
import { bigBox, id, newProject } from "./things.ts";

const anAttempt = (project: string, slot: string = id("w")) => ({ project, slot, run: id("w") });
const times = { digest: "d", now: 1_000, leaseUntil: 2_000, expiresAt: 90_000 };

onEveryEngine("idempotent requests", (replicas) => {
  test("of twenty that begin at once one does", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const attempts = Array.from({ length: 20 }, () => anAttempt(project, "one"));
    const won = await Promise.all(
      attempts.map((attempt, n) => (n % 2 ? a : b).idempotency.begin({ ...attempt, ...times })),
    );
    expect(won.filter(Boolean)).toHaveLength(1);
    expect((await a.idempotency.get(project, "one", 1_000))?.run).toBe(attempts[won.indexOf(true)]?.run);
    expect(await a.idempotency.get(await newProject(a), "one", 1_000)).toBeNull();
  });

  test("a slot whose attempt ended before it had a response is begun anew by one; the late one may do nothing", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const dead = anAttempt(project);
    await a.idempotency.begin({ ...dead, ...times });
    const next = () => ({ ...anAttempt(project, dead.slot), ...times });
    expect(await b.idempotency.begin({ ...next(), now: 1_999 })).toBe(false);
    const won = await Promise.all(
      [a, b, a, b].map((store) => store.idempotency.begin({ ...next(), now: 2_000, leaseUntil: 3_000 })),
    );
    expect(won.filter(Boolean)).toHaveLength(1);
    expect(await a.idempotency.renew({ ...dead, leaseUntil: 9_000, responseId: id("resp") })).toBe(false);
    expect(await a.idempotency.finish({ ...dead, sealed: null })).toBe(false);
    await a.idempotency.release(dead);
    expect(await a.idempotency.get(project, dead.slot, 2_000)).not.toBeNull();
  });

  test("a slot whose attempt had a response is not begun anew, however long ago, until it expires", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const dead = anAttempt(project);
    const responseId = id("resp");
    await a.idempotency.begin({ ...dead, ...times });
    expect(await a.idempotency.renew({ ...dead, leaseUntil: 3_000, responseId })).toBe(true);
    const later = (now: number) => ({
      ...anAttempt(project, dead.slot),
      ...times,
      now,
      expiresAt: now + 90_000,
    });
    expect(await a.idempotency.begin(later(89_999))).toBe(false);
    expect(await a.idempotency.get(project, dead.slot, 89_999)).toMatchObject({
      status: "running",
      responseId,
      leaseUntil: 3_000,
    });
    expect(await a.idempotency.get(project, dead.slot, 90_000)).toBeNull();
    expect(await a.idempotency.begin(later(90_000))).toBe(true);
  });

  test("an answer of megabytes is whole, done once, and gone with all its parts when it is swept", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const attempt = anAttempt(project);
    await a.idempotency.begin({ ...attempt, ...times });
    await a.idempotency.renew({ ...attempt, leaseUntil: 2_000, responseId: id("resp") });
    const sealed = bigBox(2_500_000);
    expect(await a.idempotency.finish({ ...attempt, sealed })).toBe(true);
    expect(await b.idempotency.finish({ ...attempt, sealed: null })).toBe(false);
    const found = await b.idempotency.get(project, attempt.slot, 1_000);
    expect(found?.status).toBe("done");
    expect(Buffer.compare(found?.sealed ?? new Uint8Array(), sealed)).toBe(0);
    await b.upkeep.expiry.idempotency(89_999, 1_000);
    expect(await a.idempotency.get(project, attempt.slot, 1_000)).not.toBeNull();
    await b.upkeep.expiry.idempotency(90_000, 1_000);
    expect(await a.idempotency.get(project, attempt.slot, 1_000)).toBeNull();
    // Nothing of it is left for who comes by the same name.
    await a.idempotency.begin({ ...attempt, ...times });
    expect(await a.idempotency.finish({ ...attempt, sealed })).toBe(true);
  });

  test("a slot that is released is free, and one that is done is not released", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const attempt = anAttempt(project);
    await a.idempotency.begin({ ...attempt, ...times });
    await a.idempotency.release(attempt);
    expect(await a.idempotency.get(project, attempt.slot, 1_000)).toBeNull();
    await a.idempotency.begin({ ...attempt, ...times });
    await a.idempotency.finish({ ...attempt, sealed: new Uint8Array([1]) });
    await a.idempotency.release(attempt);
    expect((await a.idempotency.get(project, attempt.slot, 1_000))?.sealed).toEqual(new Uint8Array([1]));
  });
});
