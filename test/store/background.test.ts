import { expect, test } from "vitest";
import { onEveryEngine } from "./engines.ts";
import { aResponse, bigBox, entry, eventsOf, id, newProject } from "./things.ts";

const OWN = { user: null, principal: "key:runtime", inheritsUser: false };
const ELSE = { user: null, principal: "key:other", inheritsUser: true };
const MOST = { ofProject: 100, ofCaller: 100 };

type More = { run?: string | null; leaseUntil?: number; principal?: string };

function aWork(project: string, more: More = {}) {
  const response = aResponse(project);
  const { run = null, leaseUntil = 0, principal = OWN.principal } = more;
  return {
    id: response.id,
    project,
    owner: { user: null, principal },
    response,
    run: run === null ? null : id("w"),
    leaseUntil,
    createdAt: 1_000,
    expiresAt: 90_000,
  };
}
const holdOf = (work: { project: string; id: ReturnType<typeof id<"resp">> }) => ({
  project: work.project,
  id: work.id,
  run: id("w"),
});

onEveryEngine("background work", (replicas) => {
  test("of twenty that take a work up at once one has it, with what is to be done", async () => {
    const { a, b } = replicas();
    const work = aWork(await newProject(a));
    const plan = bigBox(1_300_000);
    expect(await a.background.begin(work, plan, MOST)).toBe(true);
    const holds = Array.from({ length: 20 }, () => holdOf(work));
    const claimed = await Promise.all(
      holds.map((hold, n) => (n % 2 ? a : b).background.claim({ ...hold, leaseUntil: 2_000, now: 1_000 })),
    );
    const won = claimed.filter((one) => one !== null);
    expect(won).toHaveLength(1);
    expect(Buffer.compare(won[0]?.sealed ?? new Uint8Array(), plan)).toBe(0);
    expect(won[0]).toMatchObject({ id: work.id, status: "queued", attempts: 1, response: work.response });
    const late = { ...holdOf(work), leaseUntil: 9_000 };
    expect(await b.background.claim({ ...late, now: 1_999 })).toBeNull();
    expect((await b.background.claim({ ...late, now: 2_000 }))?.attempts).toBe(2);
  });

  test("who has lost it to another writes nothing more, whatever it tries", async () => {
    const { a, b } = replicas();
    const work = aWork(await newProject(a));
    await a.background.begin(work, bigBox(10), MOST);
    const [first, second] = [holdOf(work), holdOf(work)];
    await a.background.claim({ ...first, leaseUntil: 2_000, now: 1_000 });
    const batch = { seq: 0, sealed: bigBox(700_000), leaseUntil: 2_000 };
    expect(await a.background.append({ ...first, ...batch })).toEqual({ cancelled: false });
    await b.background.claim({ ...second, leaseUntil: 4_000, now: 2_000 });
    expect(await a.background.append({ ...first, ...batch, seq: 1 })).toBeNull();
    expect(await a.background.renew({ ...first, leaseUntil: 9_000 })).toBeNull();
    expect(await a.background.finish({ ...first, status: "done", expiresAt: 9_000 })).toBe(false);
    await a.background.giveBack({ ...first, at: 0, counts: true });
    // Twice the same batch is one.
    expect(await b.background.append({ ...second, ...batch })).toBeNull();
    expect(await b.background.append({ ...second, ...batch, seq: 1, leaseUntil: 4_000 })).toEqual({
      cancelled: false,
    });
    const batches = await a.background.batches(work.project, work.id, 0, 10);
    expect(batches.map(({ seq }) => seq)).toEqual([0, 1]);
    expect(Buffer.compare(batches[0]?.sealed ?? new Uint8Array(), batch.sealed)).toBe(0);
    expect(await a.background.batches(work.project, work.id, 1, 10)).toHaveLength(1);
    expect(await a.background.batches(await newProject(a), work.id, 0, 10)).toEqual([]);
    expect(await a.background.get(work.project, work.id, OWN)).toMatchObject({
      status: "running",
      batches: 2,
      bytes: 1_400_000,
      run: second.run,
    });
    const state = { status: "running", batches: 2, leaseUntil: 4_000 };
    expect(await a.background.state(work.project, work.id)).toEqual(state);
    expect(await a.background.state(await newProject(a), work.id)).toBeNull();
  });

  test("given back it is due at once, and whether it was an attempt is counted", async () => {
    const { a, b } = replicas();
    const work = aWork(await newProject(a), { run: "mine", leaseUntil: 5_000 });
    await a.background.begin(work, bigBox(10), MOST);
    const isDue = async (now: number) =>
      (await b.background.due(now, 1_000)).some((found) => found.id === work.id);
    expect(await isDue(4_999)).toBe(false);
    expect(await isDue(5_000)).toBe(true);
    const { project, run } = work;
    if (run === null) throw new Error("the work has no run");
    await a.background.giveBack({ project, id: work.id, run, at: 0, counts: false });
    expect(await isDue(1_000)).toBe(true);
    const hold = { ...holdOf(work), leaseUntil: 6_000, now: 1_000 };
    expect((await b.background.claim(hold))?.attempts).toBe(1);
    await b.background.finish({ ...hold, status: "done", expiresAt: 50_000 });
    expect(await isDue(1_000_000)).toBe(false);
  });

  test("a project has so many at once and no more, and another project has its own", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const begun: boolean[] = [];
    const most = { ofProject: 3, ofCaller: 100 };
    for (let n = 0; n < 5; n++)
      begun.push(await (n % 2 ? a : b).background.begin(aWork(project), bigBox(10), most));
    expect(begun).toEqual([true, true, true, false, false]);
    expect(await a.background.begin(aWork(await newProject(a)), bigBox(10), most)).toBe(true);
  });

  test("a caller has so many of a project and no more, until one is over, and another has the rest", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const most = { ofProject: 3, ofCaller: 2 };
    const works = [aWork(project), aWork(project), aWork(project)] as const;
    const begin = (work: ReturnType<typeof aWork>) => b.background.begin(work, bigBox(10), most);
    const begun = [await begin(works[0]), await begin(works[1]), await begin(works[2])];
    expect(begun).toEqual([true, true, false]);
    expect(await begin(aWork(project, { principal: ELSE.principal }))).toBe(true);
    expect(await begin(aWork(project, { principal: ELSE.principal }))).toBe(false);
    const hold = { ...holdOf(works[0]), leaseUntil: 2_000, now: 1_000 };
    await a.background.claim(hold);
    await a.background.finish({ ...hold, status: "done", expiresAt: 9_000 });
    expect(await begin(works[2])).toBe(true);
  });

  test("it is cancelled by who may see it, once, with its audit row, and the run is told", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const work = aWork(project);
    await a.background.begin(work, bigBox(10), MOST);
    const hold = holdOf(work);
    await a.background.claim({ ...hold, leaseUntil: 2_000, now: 1_000 });
    const query = { project, id: work.id, at: 1_500 };
    const cancel = (viewer: typeof OWN) =>
      b.background.cancel({ ...query, viewer }, [entry(project, "response_cancelled")]);
    expect(await cancel(ELSE)).toBe(false);
    expect(await cancel(OWN)).toBe(true);
    expect(await cancel(OWN)).toBe(false);
    expect(await eventsOf(a, project)).toEqual(["response_cancelled"]);
    expect(await a.background.renew({ ...hold, leaseUntil: 3_000 })).toEqual({ cancelled: true });
    await a.background.finish({ ...hold, status: "done", expiresAt: 9_000 });
    expect(await a.background.get(project, work.id, ELSE)).toBeNull();
    expect((await a.background.get(project, work.id, OWN))?.cancelledAt).toBe(1_500);
  });

  test.each(["swept when it has expired", "deleted by who may see it"])(
    "what is over is %s, with all its parts",
    async (how) => {
      const { a, b } = replicas();
      const project = await newProject(a);
      const work = aWork(project);
      const hold = holdOf(work);
      const begin = () => a.background.begin(work, bigBox(1_300_000), MOST);
      const isThere = async () => (await a.background.get(project, work.id, OWN)) !== null;
      await begin();
      await a.background.claim({ ...hold, leaseUntil: 2_000, now: 1_000 });
      await a.background.append({ ...hold, seq: 0, sealed: bigBox(700_000), leaseUntil: 2_000 });
      await b.background.sweep(1_000_000, 100);
      expect(await isThere()).toBe(true);
      await a.background.finish({ ...hold, status: "done", expiresAt: 50_000 });
      await b.background.sweep(49_999, 100);
      await b.background.delete(project, work.id, ELSE);
      expect(await isThere()).toBe(true);
      await (how.startsWith("swept")
        ? b.background.sweep(50_000, 100)
        : b.background.delete(project, work.id, OWN));
      expect(await isThere()).toBe(false);
      expect(await a.background.batches(project, work.id, 0, 10)).toEqual([]);
      // Nothing of it is left for who comes by the same name.
      expect(await begin()).toBe(true);
    },
  );

  test("blocking a user ends what is made for the user, and what was said goes with its response", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const ann = "app:ann" as const;
    const of = (user: typeof ann | null) => ({
      ...aWork(project),
      owner: { user, principal: OWN.principal },
    });
    const [running, over, other] = [of(ann), of(ann), of(null)];
    for (const work of [running, over, other]) await a.background.begin(work, bigBox(1_000_000), MOST);
    const hold = { ...holdOf(over), leaseUntil: 2_000, now: 1_000 };
    await a.background.claim(hold);
    await a.background.finish({ ...hold, status: "done", expiresAt: 90_000 });
    await b.users.block({ project, id: ann, at: 1_500 }, []);
    const seen = { user: ann, principal: OWN.principal, inheritsUser: false };
    expect((await a.background.get(project, running.id, seen))?.cancelledAt).toBe(1_500);
    expect(await a.background.get(project, over.id, seen)).toBeNull();
    expect((await a.background.get(project, other.id, OWN))?.cancelledAt).toBeNull();
    // Nothing of it is left for who comes by the same name.
    expect(await a.background.begin(over, bigBox(1_000_000), MOST)).toBe(true);
  });
});
