import { expect, test } from "vitest";
import { onEveryEngine } from "./engines.ts";
import { id, race } from "./things.ts";

const fresh = () => `work-${id("w")}`;

onEveryEngine("leases", (replicas) => {
  test("of twenty that take a lease at once, one has it", async () => {
    const { a, b } = replicas();
    const name = fresh();
    const taken = await race({ a, b }, (store, n) =>
      store.upkeep.leases.take({ name, holder: `h${n}`, until: 2_000, now: 1_000 }),
    );
    expect(taken.filter((one) => one !== null)).toEqual([{ note: null }]);
  });

  test("one that has ended is taken by one of twenty, with the note that was kept last", async () => {
    const { a, b } = replicas();
    const name = fresh();
    await a.upkeep.leases.take({ name, holder: "dead", until: 2_000, now: 1_000 });
    const note = { at: ["z", 1], z: 1, a: 2 };
    expect(await a.upkeep.leases.keep({ name, holder: "dead", until: 2_000, note })).toBe(true);
    expect(await b.upkeep.leases.take({ name, holder: "early", until: 3_000, now: 1_999 })).toBeNull();
    const taken = await race({ a, b }, (store, n) =>
      store.upkeep.leases.take({ name, holder: `h${n}`, until: 4_000, now: 2_000 }),
    );
    expect(taken.filter((one) => one !== null)).toEqual([{ note }]);
    expect(await a.upkeep.leases.keep({ name, holder: "dead", until: 9_000, note: 1 })).toBe(false);
  });

  test("what is given back is free at once; whoever lost it gives nothing back", async () => {
    const { a, b } = replicas();
    const name = fresh();
    await a.upkeep.leases.take({ name, holder: "one", until: 2_000, now: 1_000 });
    await b.upkeep.leases.release({ name, holder: "other" });
    expect(await b.upkeep.leases.take({ name, holder: "two", until: 2_000, now: 1_000 })).toBeNull();
    await a.upkeep.leases.release({ name, holder: "one" });
    expect(await b.upkeep.leases.take({ name, holder: "two", until: 2_000, now: 1_000 })).not.toBeNull();
  });
});
