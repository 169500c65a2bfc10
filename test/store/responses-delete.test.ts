import { expect, test } from "vitest";
import type { StoredResponse } from "../../src/core/request.ts";
import { onEveryEngine } from "./engines.ts";
import {
  aHeldCall,
  aResponse,
  bigBox,
  entry,
  eventsOf,
  itemRows,
  newProject,
  stored,
  viewerOf,
} from "./things.ts";

onEveryEngine("deleting responses", (replicas) => {
  const continued = (before: StoredResponse, items: number): StoredResponse => ({
    ...before,
    response: aResponse(before.response.project, { previousResponseId: before.response.id }),
    inputFrom: before.end,
    outputFrom: before.end,
    end: before.end + items,
  });
  /** Three responses of one thread: items 0 to 2, 2 to 4, 4 to 6. */
  const aThread = async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const first = stored(aResponse(project));
    const second = continued(first, 2);
    const third = continued(second, 2);
    const all = [first, second, third];
    for (const each of all) {
      const rows = itemRows(each.inputFrom, each.end).map((row) => ({ ...row, sealed: bigBox(1_300_000) }));
      expect(await a.responses.append(each, rows, [])).toBe(true);
    }
    const remove = (response: StoredResponse) =>
      a.responses.delete({ project, id: response.response.id, viewer: viewerOf(), at: 5_000 }, [
        entry(project, "response_deleted"),
      ]);
    const positions = async () =>
      (await a.responses.items(project, first.threadId, 0, 99)).map((row) => row.position);
    return { project, all, first, second, third, remove, positions };
  };

  test("items stay while a later response of the thread needs them", async () => {
    const { first, second, third, remove, positions } = await aThread();
    expect(await remove(first)).toBe(true);
    expect(await remove(second)).toBe(true);
    expect(await positions()).toEqual([0, 1, 2, 3, 4, 5]);
    expect(await remove(third)).toBe(true);
    expect(await positions()).toEqual([]);
  });

  test("items that only the deleted response needed go, and the thread goes on from what is left", async () => {
    const { a } = replicas();
    const { project, second, third, remove, positions } = await aThread();
    expect(await remove(third)).toBe(true);
    expect(await positions()).toEqual([0, 1, 2, 3]);
    const other = continued(second, 1);
    const rows = itemRows(4, 5).map((row) => ({ ...row, sealed: bigBox(1_250_000) }));
    expect(await a.responses.append(other, rows, [])).toBe(true);
    const [item] = await a.responses.items(project, second.threadId, 4, 9);
    expect(Buffer.compare(item?.sealed ?? new Uint8Array(), bigBox(1_250_000))).toBe(0);
  });

  test("a response is deleted once, and its audit says so once", async () => {
    const { a, b } = replicas();
    const { project, third } = await aThread();
    const query = { project, id: third.response.id, viewer: viewerOf(), at: 5_000 };
    const deleted = await Promise.all(
      Array.from({ length: 10 }, (_, n) =>
        (n % 2 ? a : b).responses.delete(query, [entry(project, "response_deleted")]),
      ),
    );
    expect(deleted.filter(Boolean)).toHaveLength(1);
    expect(await a.responses.get(project, third.response.id, viewerOf())).toBeNull();
    expect(await eventsOf(a, project)).toEqual(["response_deleted"]);
  });

  test("a stranger deletes nothing and leaves no trace", async () => {
    const { a } = replicas();
    const { project, third, positions } = await aThread();
    const [id, viewer] = [third.response.id, viewerOf({ principal: "key:other", inheritsUser: true })];
    const call = aHeldCall(project, { responseId: id });
    await a.heldCalls.insert([call], []);
    const audit = [entry(project, "response_deleted")];
    expect(await a.responses.delete({ project, id, viewer, at: 1 }, audit)).toBe(false);
    expect(await a.responses.get(project, id, viewerOf())).not.toBeNull();
    expect(await positions()).toHaveLength(6);
    expect((await a.heldCalls.get(project, call.id))?.status).toBe("pending");
    expect(await eventsOf(a, project)).toEqual([]);
  });

  test("its pending held calls are cancelled, nobody else's and nothing decided", async () => {
    const { a } = replicas();
    const { project, second, third, remove } = await aThread();
    const mine = { responseId: third.response.id };
    const pending = aHeldCall(project, mine);
    const approved = aHeldCall(project, { ...mine, status: "approved" });
    const others = aHeldCall(project, { responseId: second.response.id });
    await a.heldCalls.insert([pending, approved, others], []);
    await remove(third);
    const statuses = [pending, approved, others].map(
      async (call) => (await a.heldCalls.get(project, call.id))?.status,
    );
    expect(await Promise.all(statuses)).toEqual(["cancelled", "approved", "pending"]);
  });

  test("the thread's responses deleted at once leave nothing", async () => {
    const { a, b } = replicas();
    const { project, all, positions } = await aThread();
    const deleted = await Promise.all(
      all.map((each, n) =>
        (n % 2 ? a : b).responses.delete({ project, id: each.response.id, viewer: viewerOf(), at: 1 }, []),
      ),
    );
    expect(deleted).toEqual([true, true, true]);
    expect(await positions()).toEqual([]);
  });

  test("continuing and deleting at once: either the new items stand on the old ones, or it was too late", async () => {
    const { a, b } = replicas();
    for (let round = 0; round < 10; round++) {
      const project = await newProject(a);
      const first = stored(aResponse(project));
      await a.responses.append(first, itemRows(0, 2), []);
      const next = continued(first, 1);
      const [appended, deleted] = await Promise.all([
        a.responses.append(next, itemRows(2, 3), []),
        b.responses.delete({ project, id: first.response.id, viewer: viewerOf(), at: 1 }, []),
      ]);
      expect(deleted).toBe(true);
      const items = await a.responses.items(project, first.threadId, 0, 9);
      expect(items.map((row) => row.position)).toEqual(appended ? [0, 1, 2] : []);
    }
  });
});
