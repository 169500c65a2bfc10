import { expect, test } from "vitest";
import type { SigningKey } from "../../src/core/signing-keys.ts";
import { onEveryEngine } from "./engines.ts";
import { race } from "./things.ts";

const aKey = (seq: number, more: Partial<SigningKey> = {}): SigningKey => ({
  purpose: "workload",
  seq,
  kid: `kid-${seq}`,
  sealed: new Uint8Array([3, 2, 1, seq]),
  createdAt: 1_760_000_000_000,
  notBefore: seq * 1_000,
  ...more,
});

// The keys of an issuer are all that the table holds, so the tests go on from one another.
onEveryEngine("signing keys", (replicas) => {
  test("there is none at first, and nothing to sweep", async () => {
    const { a } = replicas();
    expect(await a.signingKeys.list("workload")).toEqual([]);
    expect(await a.signingKeys.sweep("workload", 9_000)).toEqual([]);
  });

  test("of twenty that make one number, one does, and all read the same", async () => {
    const { a, b } = replicas();
    for (const seq of [2, 1]) {
      const won = await race({ a, b }, (store, n) =>
        store.signingKeys.insert(aKey(seq, { kid: `kid-${seq}-${n}` })),
      );
      expect(won.filter(Boolean)).toHaveLength(1);
      const kept = (await b.signingKeys.list("workload")).find((key) => key.seq === seq);
      expect(kept).toEqual(aKey(seq, { kid: `kid-${seq}-${won.indexOf(true)}` }));
    }
  });

  test("a key that there is stays as it is, whoever makes it again", async () => {
    const { a, b } = replicas();
    const before = await a.signingKeys.list("workload");
    expect(await b.signingKeys.insert(aKey(1, { kid: "late", sealed: new Uint8Array([9]) }))).toBe(false);
    expect(await a.signingKeys.list("workload")).toEqual(before);
  });

  test("they are listed in order of their numbers", async () => {
    const { a, b } = replicas();
    for (const seq of [10, 3]) expect(await a.signingKeys.insert(aKey(seq))).toBe(true);
    expect((await b.signingKeys.list("workload")).map(({ seq }) => seq)).toEqual([1, 2, 3, 10]);
  });

  test("a sweep takes what a successor has superseded since then, once, and never the one that signs", async () => {
    const { a, b } = replicas();
    expect(await a.signingKeys.sweep("workload", 1_999)).toEqual([]);
    const swept = await race({ a, b }, (store) => store.signingKeys.sweep("workload", 3_500));
    expect(swept.flat()).toHaveLength(2);
    expect((await b.signingKeys.list("workload")).map(({ seq }) => seq)).toEqual([3, 10]);
    expect(await b.signingKeys.sweep("workload", 99_000)).toEqual(["kid-3"]);
    expect(await a.signingKeys.sweep("workload", 99_000)).toEqual([]);
    expect((await a.signingKeys.list("workload")).map(({ seq }) => seq)).toEqual([10]);
  });
});
