import { expect, test } from "vitest";
import { countBoxes, totalOf } from "../../src/core/box-counts.ts";
import { grantAad } from "../../src/core/grants.ts";
import { type Connection } from "../../src/core/connection.ts";
import { alone } from "../../src/core/leases.ts";
import { connectionAad, handleAad, heldCallAad, itemAad, type Store } from "../../src/core/storage.ts";
import { keyIdOf } from "../../src/secrets/seal.ts";
import { giveGrant } from "../helpers/grants.ts";
import { aSealingKey, realClock, resealing } from "../helpers/keyrings.ts";
import { scriptedClock } from "../helpers/scripted-clock.ts";
import { onEveryEngine } from "../store/engines.ts";
import {
  aConnection,
  aGrant,
  aHandle,
  aHeldCall,
  aResponse,
  id,
  itemRows,
  newProject,
  newTokens,
  stored,
} from "../store/things.ts";

/** Every hundredth needs more than one row. */
const lengthAt = (position: number) => (position % 100 === 99 ? 1_200_000 : position);

const never = new AbortController().signal;
const counts = (store: Store) => countBoxes(store.upkeep.boxes, { named: keyIdOf });

// One database for all tests of an engine, so keys have names of their own, and what is left of other tests is under no key of theirs.
let keys = 0;
const newKey = () => aSealingKey(`k${++keys}-${id("w").slice(2, 10)}`);

onEveryEngine("sealing anew", (replicas) => {
  test("every box of an older key is sealed under the newest, and opens without the older one", async () => {
    const { a, b } = replicas();
    const [old, next] = [newKey(), newKey()];
    const before = resealing(a, [old]);
    const project = await newProject(a);
    const grant = aGrant(project);
    await giveGrant(a, { ...grant, sealed: await before.sealer.seal("tokens", grantAad(grant)) });
    const call = aHeldCall(project, { sealedReason: new Uint8Array() });
    const callBoxes = await Promise.all(
      (["call", "reason", "outcome"] as const).map((part) =>
        before.sealer.seal(part, heldCallAad(project, call.id, part)),
      ),
    );
    const [sealed = new Uint8Array(), sealedReason = null, sealedOutcome = null] = callBoxes;
    await a.heldCalls.insert([{ ...call, sealed, sealedReason, sealedOutcome }], []);
    const response = stored(aResponse(project), { end: 300 });
    const rows = await Promise.all(
      itemRows(0, 300).map(async (row) => ({
        ...row,
        sealed: await before.sealer.seal(
          "x".repeat(lengthAt(row.position)),
          itemAad(project, response.threadId, row.position),
        ),
      })),
    );
    await a.responses.append(response, rows, []);
    expect(totalOf(await counts(b), old.id)).toBe(304);

    const after = resealing(b, [next, old]);
    expect(await after.resealer.all(never)).toEqual({
      how: "ended",
      counts: { resealed: 304, changed: 0, unopened: 0, missing: expect.any(Object) },
    });
    const left = await counts(a);
    expect(totalOf(left, old.id)).toBe(0);
    expect(left[next.id]).toEqual({
      "grants.sealed": 1,
      "held_calls.sealed": 1,
      "held_calls.sealed_reason": 1,
      "held_calls.sealed_outcome": 1,
      "items.sealed": 300,
    });

    const alone = resealing(a, [next]).sealer;
    expect(await alone.open((await a.grants.get(grant))?.sealed ?? sealed, grantAad(grant))).toBe("tokens");
    const held = await b.heldCalls.get(project, call.id);
    expect(await alone.open(held?.sealedOutcome ?? sealed, heldCallAad(project, call.id, "outcome"))).toBe(
      "outcome",
    );
    for (const item of await b.responses.items(project, response.threadId, 0, 300)) {
      const plain = await alone.open(item.sealed, itemAad(project, response.threadId, item.position));
      expect(plain.length).toBe(lengthAt(item.position));
    }
  });

  test("refreshes and edits that go on meanwhile on two replicas lose nothing", async () => {
    const { a, b } = replicas();
    const [old, next] = [newKey(), newKey()];
    const before = resealing(a, [old]).sealer;
    const project = await newProject(a);
    const grants = await Promise.all(
      Array.from({ length: 40 }, async (_, n) => {
        const grant = aGrant(project, { user: `app:${n}`, connectionId: id("conn") });
        return giveGrant(a, { ...grant, sealed: await before.seal("version 1", grantAad(grant)) });
      }),
    );
    const connections = await Promise.all(
      Array.from({ length: 10 }, async (_, n) => {
        const record = aConnection(project, { name: `c${n}` });
        const sealed = await before.seal("version 1", aadOf(record.connection));
        await a.connections.insert({ ...record, sealed }, []);
        return record.connection;
      }),
    );

    const passes = [resealing(a, [next, old]), resealing(b, [next, old])];
    const resealed = Promise.all(
      passes.map(async ({ resealer }) => {
        for (let n = 0; n < 4; n++) await resealer.all(never);
      }),
    );
    // A replica that knows the new key, and one that does not seal with it yet.
    const writers = [
      { store: a, sealer: resealing(a, [next, old]).sealer },
      { store: b, sealer: resealing(b, [old, next]).sealer },
    ];
    const versions = new Map<string, number>();
    await Promise.all(
      writers.map(async ({ store, sealer }, w) => {
        for (const grant of grants.filter((_, n) => n % 2 === w)) {
          for (let round = 0; round < 5; round++) {
            const now = await store.grants.get(grant);
            if (!now) throw new Error("a grant is gone");
            expect(await sealer.open(now.sealed, grantAad(now))).toBe(`version ${now.version}`);
            const version = now.version + 1;
            const sealed = await sealer.seal(`version ${version}`, grantAad({ ...now, version }));
            expect(
              await store.grants.refreshed(grant, now.version, newTokens({ sealed }), []),
            ).not.toBeNull();
            versions.set(grant.id, version);
          }
        }
        for (const { name } of connections.filter((_, n) => n % 2 === w)) {
          for (let round = 0; round < 5; round++) {
            const now = await store.connections.get(project, name);
            if (!now?.sealed) throw new Error("a connection is gone");
            const version = now.connection.version + 1;
            expect(await sealer.open(now.sealed, aadOf(now.connection))).toBe(`version ${version - 1}`);
            const connection = { ...now.connection, version };
            const sealed = await sealer.seal(`version ${version}`, aadOf(connection));
            expect(await store.connections.replace({ connection, sealed }, version - 1, [])).toBe(true);
          }
        }
      }),
    );
    await resealed;
    await resealing(a, [next, old]).resealer.all(never);

    const alone = resealing(b, [next]).sealer;
    expect(totalOf(await counts(a), old.id)).toBe(0);
    for (const grant of grants) {
      const now = await b.grants.get(grant);
      expect(now).toMatchObject({ status: "active", version: versions.get(grant.id) });
      expect(await alone.open(now?.sealed ?? grant.sealed, grantAad(now ?? grant))).toBe("version 6");
    }
    for (const { name } of connections) {
      const now = await a.connections.get(project, name);
      if (!now?.sealed) throw new Error("a connection is gone");
      expect(await alone.open(now.sealed, aadOf(now.connection))).toBe("version 6");
    }
  }, 30_000);

  test("one replica at a time is at it", async () => {
    const { a, b } = replicas();
    const key = newKey();
    const [one, other] = [resealing(a, [key]), resealing(b, [key])];
    const world = { clock: realClock, newId: id, store: a };
    const outcome = await alone(world, "reseal", () => other.resealer.all(never));
    expect(outcome).toEqual({ how: "elsewhere" });
    expect(await one.resealer.all(never)).toMatchObject({ how: "ended" });
  });

  test("whoever stops in the middle leaves a note, and the next goes on there", async () => {
    const { a, b } = replicas();
    const [old, next] = [newKey(), newKey()];
    const before = resealing(a, [old]).sealer;
    const project = await newProject(a);
    const response = stored(aResponse(project), { end: 1_000 });
    const rows = await Promise.all(
      itemRows(0, 1_000).map(async (row) => ({
        ...row,
        sealed: await before.seal("x", itemAad(project, response.threadId, row.position)),
      })),
    );
    await a.responses.append(response, rows, []);
    // Every wait takes six seconds of the clock's, so a note is kept after every window.
    let now = Date.now();
    const stopping = new AbortController();
    let waits = 0;
    const clock = {
      now: () => now,
      sleep: async () => {
        now += 6_000;
        if (++waits === 30) stopping.abort();
      },
    };
    const first = await resealing(a, [next, old], clock).resealer.all(stopping.signal);
    expect(first).toMatchObject({ how: "stopped" });
    const half = totalOf(await counts(a), old.id);
    expect(half).toBeGreaterThan(0);
    expect(half).toBeLessThan(1_000);
    // Whatever it has done already is not even looked at.
    const looked: unknown[] = [];
    const watched: Store = {
      ...b,
      upkeep: {
        ...b.upkeep,
        boxes: {
          ...b.upkeep.boxes,
          window: (place, after, limit) => {
            looked.push(place);
            return b.upkeep.boxes.window(place, after, limit);
          },
        },
      },
    };
    const second = resealing(watched, [next, old], { ...clock, sleep: async () => {} });
    await second.resealer.tend(never);
    expect(new Set(looked)).toEqual(new Set(["items.sealed"]));
    expect(totalOf(await counts(b), old.id)).toBe(0);
    expect(second.logs.find(({ event }) => event === "reseal_ended")?.fields).toMatchObject({
      keyId: next.id,
      how: "ended",
      resealed: half,
    });
  });

  test("what is done is not done again for a day; another newest key begins anew at once", async () => {
    const { a } = replicas();
    const clock = scriptedClock();
    const instant = { now: clock.now, sleep: async () => {} };
    const [old, next, newest] = [newKey(), newKey(), newKey()];
    const { sealer } = resealing(a, [old], instant);
    const project = await newProject(a);
    const put = async () => {
      const handle = aHandle(project);
      const { kind, hash } = handle;
      await a.handles.put({ ...handle, sealed: await sealer.seal("x", handleAad(project, kind, hash)) }, []);
    };
    const left = async (key: { id: string }) => totalOf(await counts(a), key.id);
    const replica = resealing(a, [next, old], instant);
    await put();
    await replica.resealer.tend(never);
    expect(await left(old)).toBe(0);
    // By a replica that has not heard of the new key.
    await put();
    clock.advance(23 * 60 * 60_000);
    await replica.resealer.tend(never);
    await resealing(a, [next, old], instant).resealer.tend(never);
    expect(await left(old)).toBe(1);
    clock.advance(60 * 60_000);
    await replica.resealer.tend(never);
    expect(await left(old)).toBe(0);
    expect(await left(next)).toBe(2);
    await resealing(a, [newest, next], instant).resealer.tend(never);
    expect(await left(newest)).toBe(2);
  });

  test("while replicas have keyrings in two orders nothing is sealed back and forth, and the last that changes wins", async () => {
    const { a, b } = replicas();
    const clock = scriptedClock();
    const instant = { now: clock.now, sleep: async () => {} };
    const [old, next] = [newKey(), newKey()];
    const behind = resealing(a, [old, next], instant);
    const ahead = resealing(b, [next, old], instant);
    const handle = aHandle(await newProject(a));
    const aad = handleAad(handle.project, handle.kind, handle.hash);
    await a.handles.put({ ...handle, sealed: await behind.sealer.seal("x", aad) }, []);
    const under = async () => (totalOf(await counts(a), next.id) === 1 ? "next" : "old");
    await ahead.resealer.tend(never);
    expect(await under()).toBe("next");
    await behind.resealer.tend(never);
    expect(await under()).toBe("old");
    // Every minute both look.
    let changes = 0;
    for (let minute = 0; minute < 20; minute++) {
      clock.advance(60_000);
      for (const { resealer } of [behind, ahead]) {
        const before = await under();
        await resealer.tend(never);
        if ((await under()) !== before) changes++;
      }
    }
    expect(changes).toBeGreaterThan(0);
    expect(changes).toBeLessThanOrEqual(4);
    // The one that was behind is started anew with the other order; whatever it left is not left for a day.
    for (let minute = 0; minute < 11; minute++) {
      clock.advance(60_000);
      await ahead.resealer.tend(never);
      await resealing(a, [next, old], instant).resealer.tend(never);
    }
    expect(await under()).toBe("next");
  });

  test("what another keyring has done since is looked at again by a replica that was done already", async () => {
    const { a, b } = replicas();
    const clock = scriptedClock();
    const instant = { now: clock.now, sleep: async () => {} };
    const [old, next] = [newKey(), newKey()];
    const behind = resealing(a, [old, next], instant);
    const ahead = resealing(b, [next, old], instant);
    const handle = aHandle(await newProject(a));
    const aad = handleAad(handle.project, handle.kind, handle.hash);
    await a.handles.put({ ...handle, sealed: await behind.sealer.seal("x", aad) }, []);
    await ahead.resealer.tend(never);
    await behind.resealer.tend(never);
    expect(totalOf(await counts(a), old.id)).toBe(1);
    clock.advance(10 * 60_000);
    await ahead.resealer.tend(never);
    expect(totalOf(await counts(a), old.id)).toBe(0);
  });

  test("a replica that has not heard of the newest key yet neither looks nor warns", async () => {
    const { a, b } = replicas();
    const clock = scriptedClock();
    const instant = { now: clock.now, sleep: async () => {} };
    const [old, next] = [newKey(), newKey()];
    const behind = resealing(a, [old], instant);
    const handle = aHandle(await newProject(a));
    const aad = handleAad(handle.project, handle.kind, handle.hash);
    await a.handles.put({ ...handle, sealed: await behind.sealer.seal("x", aad) }, []);
    await behind.resealer.tend(never);
    const before = behind.logs.length;
    clock.advance(60 * 60_000);
    await resealing(b, [next, old], instant).resealer.tend(never);
    await behind.resealer.tend(never);
    expect(behind.logs.slice(before)).toEqual([]);
    expect(totalOf(await counts(a), next.id)).toBe(1);
  });

  test("a box that is damaged and one whose key is gone are left as they are, and said", async () => {
    const { a } = replicas();
    const [old, next, gone] = [newKey(), newKey(), newKey()];
    const project = await newProject(a);
    const damaged = aConnection(project, { name: "damaged" });
    const sealed = await resealing(a, [old]).sealer.seal("x", "another place");
    await a.connections.insert({ ...damaged, sealed }, []);
    const lost = aConnection(project, { name: "lost" });
    const lostBox = await resealing(a, [gone]).sealer.seal("x", aadOf(lost.connection));
    await a.connections.insert({ ...lost, sealed: lostBox }, []);
    const { resealer, logs } = resealing(a, [next, old]);
    expect(await resealer.all(never)).toMatchObject({
      how: "ended",
      counts: { resealed: 0, unopened: 1, missing: { [gone.id]: 1 } },
    });
    expect(logs.find(({ event }) => event === "boxes_without_key")?.fields).toMatchObject({
      missing: { [gone.id]: 1 },
    });
    expect((await a.connections.get(project, "damaged"))?.sealed).toEqual(sealed);
    expect((await a.connections.get(project, "lost"))?.sealed).toEqual(lostBox);
  });
});

const aadOf = ({ project, id: connection, version }: Connection) =>
  connectionAad(project, connection, version);
