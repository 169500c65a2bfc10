import { Column, getTableColumns, getTableName, is } from "drizzle-orm";
import { expect, test } from "vitest";
import { grantAad } from "../../src/core/grants.ts";
import type { BoxKey } from "../../src/core/sealed-boxes.ts";
import { connectionAad, heldCallAad, itemAad, type Store } from "../../src/core/storage.ts";
import * as schema from "../../src/store/schema.sqlite.ts";
import { nameOf } from "../../src/store/sealed-boxes.ts";
import { sealedPlaces } from "../../src/store/sealed-places.ts";
import { giveGrant } from "../helpers/grants.ts";
import { onEveryEngine } from "./engines.ts";
import {
  aConnection,
  aGrant,
  aHeldCall,
  aResponse,
  bigBox,
  id,
  isThere,
  itemRows,
  newProject,
  newTokens,
  race,
  stored,
  viewerOf,
} from "./things.ts";

/** Columns of bytes in which nothing is sealed, and the rest of what is. */
const PLAIN = ["background.body", "agent_versions.definition", "responses.body", "box_chunks.bytes"];

test("every column that holds bytes is known: its boxes are sealed anew, or it holds none", () => {
  const bytes = Object.values(schema).flatMap((table) =>
    Object.values(getTableColumns(table))
      .filter((column) => is(column, Column) && column.getSQLType() === "blob")
      .map((column) => `${getTableName(table)}.${column.name}`),
  );
  const sealed = sealedPlaces(schema, nameOf);
  expect([...sealed, ...PLAIN].toSorted()).toEqual(bytes.toSorted());
});

/** Millions of bytes are compared at once; `toEqual` takes each by itself. */
const isSame = (a: Uint8Array | null | undefined, b: Uint8Array) => a != null && Buffer.compare(a, b) === 0;

/** The rows of a place, window by window. */
async function rowsOf(store: Store, place: string, limit = 100) {
  const rows: { key: BoxKey; start: Uint8Array | null }[] = [];
  for (;;) {
    const found = await store.upkeep.boxes.window(place, rows.at(-1)?.key ?? null, limit);
    rows.push(...found);
    if (found.length < limit) return rows;
  }
}

onEveryEngine("sealed boxes", (replicas) => {
  test("a place is gone through in windows: every row once, in order of its key", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const ids = Array.from({ length: 25 }, () => id("conn"));
    for (const [n, one] of ids.entries())
      await a.connections.insert(aConnection(project, { id: one, name: `c${n}` }), []);
    const seen = (await rowsOf(b, "connections.sealed", 4)).map(({ key }) => key[0]);
    expect(seen.filter((key) => ids.some((one) => one === key))).toEqual(ids.toSorted());
    expect(new Set(seen).size).toBe(seen.length);
  });

  test("a key of two columns is gone through as well, and what is empty is no box", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const response = stored(aResponse(project), { end: 9 });
    await a.responses.append(response, itemRows(0, 9), []);
    const seen = (await rowsOf(a, "items.sealed", 2)).filter(({ key }) => key[0] === response.threadId);
    expect(seen.map(({ key, start }) => [key[1], start?.[0]])).toEqual(
      Array.from({ length: 9 }, (_, at) => [at, at]),
    );
    expect((await rowsOf(a, "responses.sealed_tool_secrets")).map(({ start }) => start)).toContain(null);
    expect(await a.upkeep.boxes.read("items.sealed", [response.threadId, 3])).toEqual({
      box: new Uint8Array([3]),
      aad: itemAad(project, response.threadId, 3),
    });
    expect(await a.upkeep.boxes.read("responses.sealed_tool_secrets", [response.response.id])).toBeNull();
    expect(await a.upkeep.boxes.read("items.sealed", ["nobody", 3])).toBeNull();
  });

  test("of twenty that seal a box anew, one does; nothing else of its row changes", async () => {
    const { a, b } = replicas();
    const record = aConnection(await newProject(a));
    const { project, name, id: key } = record.connection;
    await a.connections.insert(record, []);
    const before = new Uint8Array([1, 2, 3]);
    expect((await b.upkeep.boxes.read("connections.sealed", [key]))?.aad).toBe(
      connectionAad(project, key, 1),
    );
    const won = await race({ a, b }, (store, n) =>
      store.upkeep.boxes.replace("connections.sealed", [key], { before, next: new Uint8Array([9, n]) }),
    );
    expect(won.filter(Boolean)).toHaveLength(1);
    expect(await b.connections.get(project, name)).toEqual({
      ...record,
      sealed: new Uint8Array([9, won.indexOf(true)]),
    });
  });

  test("a refresh at the same moment wins, and a refresh that began before is kept", async () => {
    const { a, b } = replicas();
    const grant = aGrant(await newProject(a));
    await giveGrant(a, grant);
    const read = await b.upkeep.boxes.read("grants.sealed", [grant.id]);
    expect(read).toEqual({ box: grant.sealed, aad: grantAad(grant) });
    const resealed = { before: grant.sealed, next: new Uint8Array([3, 3]) };
    expect(await a.upkeep.boxes.replace("grants.sealed", [grant.id], resealed)).toBe(true);
    // The one that refreshes has read version 1, and still writes over it.
    expect(await b.grants.refreshed(grant, 1, newTokens(), [])).toMatchObject({ version: 2 });
    const late = { before: resealed.next, next: new Uint8Array([4, 4]) };
    expect(await a.upkeep.boxes.replace("grants.sealed", [grant.id], late)).toBe(false);
    expect((await a.grants.get(grant))?.sealed).toEqual(newTokens().sealed);
  });

  test.each([
    ["as large", 1_300_000],
    ["larger", 2_200_000],
    ["so small that it needs no other rows", 20],
  ])("a large box is sealed anew as one that is %s, and nothing is left of it", async (_, length) => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const before = bigBox(1_300_000);
    const next = bigBox(length + 1).subarray(1);
    const grant = aGrant(project, { sealed: before });
    await giveGrant(a, grant);
    const call = aHeldCall(project, { sealed: before });
    await a.heldCalls.insert([call], []);
    const item = stored(aResponse(project), { end: 1, sealedToolSecrets: before });
    await a.responses.append(item, [{ position: 0, id: id("msg"), sealed: before }], []);
    const places: [string, BoxKey][] = [
      ["grants.sealed", [grant.id]],
      ["held_calls.sealed", [call.id]],
      ["items.sealed", [item.threadId, 0]],
      ["responses.sealed_tool_secrets", [item.response.id]],
    ];
    for (const [place, key] of places) {
      expect(isSame((await b.upkeep.boxes.read(place, key))?.box, before)).toBe(true);
      const wrong = { before: bigBox(1_300_001).subarray(1), next };
      expect(await b.upkeep.boxes.replace(place, key, wrong)).toBe(false);
      expect(isSame((await a.upkeep.boxes.read(place, key))?.box, before)).toBe(true);
      expect(await b.upkeep.boxes.replace(place, key, { before, next })).toBe(true);
      expect(isSame((await a.upkeep.boxes.read(place, key))?.box, next)).toBe(true);
    }
    expect(isSame((await a.grants.get(grant))?.sealed, next)).toBe(true);
    expect(isSame((await a.heldCalls.get(project, call.id))?.sealed, next)).toBe(true);
    expect(isSame((await a.responses.items(project, item.threadId, 0, 1))[0]?.sealed, next)).toBe(true);
    const whole = await a.responses.get(project, item.response.id, viewerOf());
    expect(isSame(whole?.sealedToolSecrets, next)).toBe(true);
  });

  test("whoever reads a large box while it is sealed anew reads one of the two whole", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const boxes = Array.from({ length: 5 }, (_, n) => bigBox(1_000_000 + n).subarray(n));
    const call = aHeldCall(project, { sealed: boxes[0] ?? new Uint8Array() });
    await a.heldCalls.insert([call], []);
    let isOver = false;
    const reading = (async () => {
      const seen: Uint8Array[] = [];
      while (!isOver) {
        seen.push((await b.heldCalls.get(project, call.id))?.sealed ?? new Uint8Array());
        await new Promise((resolve) => setImmediate(resolve));
      }
      return seen;
    })();
    const won: boolean[] = [];
    for (const [n, before] of boxes.slice(0, -1).entries()) {
      const next = boxes[n + 1] ?? before;
      won.push(await a.upkeep.boxes.replace("held_calls.sealed", [call.id], { before, next }));
      await new Promise((resolve) => setImmediate(resolve));
    }
    isOver = true;
    const hashes = new Set(boxes.map((box) => Buffer.from(box).toString("latin1")));
    const seen = await reading;
    expect(won).toEqual([true, true, true, true]);
    expect(seen.length).toBeGreaterThan(0);
    expect(seen.every((box) => hashes.has(Buffer.from(box).toString("latin1")))).toBe(true);
  });

  test("parts of a held call are three boxes", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const call = aHeldCall(project, { sealedOutcome: new Uint8Array([5]) });
    await a.heldCalls.insert([call], []);
    const read = await Promise.all(
      ["sealed", "sealed_reason", "sealed_outcome"].map((column) =>
        a.upkeep.boxes.read(`held_calls.${column}`, [call.id]),
      ),
    );
    expect(read.filter(isThere).map(({ aad }) => aad)).toEqual([
      heldCallAad(project, call.id, "call"),
      heldCallAad(project, call.id, "outcome"),
    ]);
  });
});
