import { expect, test } from "vitest";
import type { Conversation } from "../../src/core/conversations.ts";
import type { Store } from "../../src/core/storage.ts";
import { onEveryEngine } from "./engines.ts";
import { aResponse, bigBox, entry, eventsOf, id, itemRows, newProject, stored, viewerOf } from "./things.ts";

const aConversation = (project: string, more: Partial<Conversation> = {}): Conversation => ({
  id: id("conv"),
  project,
  owner: { user: null, principal: "key:runtime" },
  createdAt: 1_760_000_000_000,
  metadata: { z: "1", a: "nul\u0000" },
  ...more,
});

const of = ({ project, id: conversation }: Conversation, more = {}) => ({
  project,
  id: conversation,
  viewer: viewerOf(),
  ...more,
});

const page = (conversation: Conversation, more = {}) => ({
  project: conversation.project,
  id: conversation.id,
  after: null,
  limit: 100,
  order: "asc" as const,
  ...more,
});

/** A response that appends `rows` to a conversation. */
const appended = (store: Store, conversation: Conversation, from: number, to: number) => {
  const response = aResponse(conversation.project, { owner: conversation.owner });
  const place = { threadId: conversation.id, inputFrom: from, outputFrom: from, end: to };
  return store.responses.append(stored(response, place), itemRows(from, to), []).then((done) => ({
    response,
    done,
  }));
};

onEveryEngine("conversations", (replicas) => {
  test("a conversation and its items come back as they were", async () => {
    const { a, b } = replicas();
    const conversation = aConversation(await newProject(a));
    const rows = itemRows(0, 3);
    await a.conversations.insert(conversation, rows);
    expect(await b.conversations.get(of(conversation))).toEqual({ conversation, end: 3 });
    expect(await b.conversations.items(page(conversation))).toEqual({ rows, more: false });
    expect(await b.conversations.item(conversation.project, conversation.id, rows[1]?.id ?? "")).toEqual(
      rows[1],
    );
    const empty = aConversation(conversation.project);
    await a.conversations.insert(empty, []);
    expect(await a.conversations.items(page(empty))).toEqual({ rows: [], more: false });
  });

  test("pages in both orders hold every item once, also one that stands there several times", async () => {
    const { a, b } = replicas();
    const conversation = aConversation(await newProject(a));
    const again = id("mcpr");
    const rows = itemRows(0, 9).map((row) => (row.position % 4 === 1 ? { ...row, id: again } : row));
    await a.conversations.insert(conversation, rows);
    const expected = rows.filter((row) => row.position !== 1);
    for (const order of ["asc", "desc"] as const) {
      const seen: number[] = [];
      let after: string | null = null;
      for (let more = true; more;) {
        const next = await b.conversations.items(page(conversation, { after, order, limit: 2 }));
        seen.push(...(next?.rows ?? []).map((row) => row.position));
        after = next?.rows.at(-1)?.id ?? null;
        more = next?.more ?? false;
      }
      const positions = expected.map((row) => row.position);
      expect(order === "asc" ? seen : seen.toReversed()).toEqual(positions);
    }
    const unknown = page(conversation, { after: "msg_unknown" });
    expect(await a.conversations.items(unknown)).toBeNull();
  });

  test("of twenty that append at once one does, and the others leave nothing", async () => {
    const { a, b } = replicas();
    const conversation = aConversation(await newProject(a));
    await a.conversations.insert(conversation, itemRows(0, 1));
    const { project, id: own } = conversation;
    const won = await Promise.all(
      Array.from({ length: 20 }, async (_, n) => {
        const store = n % 2 ? a : b;
        if (n % 3) return store.conversations.append(project, own, 1, itemRows(1, 3));
        return (await appended(store, conversation, 1, 3)).done;
      }),
    );
    expect(won.filter(Boolean)).toHaveLength(1);
    expect((await b.conversations.get(of(conversation)))?.end).toBe(3);
    expect((await b.conversations.items(page(conversation)))?.rows).toHaveLength(3);
    expect(await a.conversations.append(await newProject(a), own, 3, itemRows(3, 4))).toBe(false);
  });

  test("who may see a conversation: its user, else its principal; what another asks changes nothing", async () => {
    const { a } = replicas();
    const project = await newProject(a);
    const anns = aConversation(project, { owner: { user: "app:ann", principal: "key:runtime" } });
    const rows = itemRows(0, 1);
    await a.conversations.insert(anns, rows);
    const itemId = rows[0]?.id ?? "";
    for (const foreign of [
      of(anns, { viewer: viewerOf({ user: "app:bob" }) }),
      of(anns),
      of(anns, { project: await newProject(a), viewer: viewerOf({ user: "app:ann" }) }),
    ]) {
      expect(await a.conversations.get(foreign)).toBeNull();
      expect(await a.conversations.setMetadata(foreign, {})).toBeNull();
      expect(await a.conversations.deleteItem(foreign, itemId, [])).toBe(false);
      expect(await a.conversations.delete(foreign, [entry(project, "conversation_deleted")])).toBe(false);
    }
    const mine = of(anns, { viewer: viewerOf({ user: "app:ann", principal: "key:other" }) });
    expect((await a.conversations.get(mine))?.conversation).toEqual(anns);
    expect(await eventsOf(a, project)).toEqual([]);
    const found = (user: "app:ann" | "app:bob") =>
      a.responses.findItems(project, [itemId], viewerOf({ user }));
    expect(await found("app:ann")).toHaveLength(1);
    expect(await found("app:bob")).toEqual([]);
  });

  test("a conversation of nobody's becomes one user's, whoever asks at once", async () => {
    const { a, b } = replicas();
    const conversation = aConversation(await newProject(a));
    await a.conversations.insert(conversation, []);
    const { project, id: own } = conversation;
    const users = ["app:ann", "app:bob", "app:cy"] as const;
    const won = await Promise.all(
      users.map((user, n) => (n % 2 ? a : b).conversations.claim(project, own, user)),
    );
    expect(won.filter(Boolean)).toHaveLength(1);
    const winner = users[won.indexOf(true)] ?? "app:none";
    expect(await a.conversations.claim(project, own, winner)).toBe(true);
    expect((await a.conversations.get(of(conversation)))?.conversation).toBeUndefined();
    const seen = await b.conversations.get(of(conversation, { viewer: viewerOf({ user: winner }) }));
    expect(seen?.conversation.owner.user).toBe(winner);
  });

  test("metadata are replaced; an item that is deleted is gone wherever it stood, and leaves a gap", async () => {
    const { a, b } = replicas();
    const conversation = aConversation(await newProject(a));
    const rows = itemRows(0, 4);
    const twice = rows.map((row) =>
      row.position === 3 ? { ...row, id: rows[1]?.id ?? "", sealed: bigBox(1_300_000) } : row,
    );
    await a.conversations.insert(conversation, twice);
    const changed = await b.conversations.setMetadata(of(conversation), { b: "2" });
    expect(changed).toEqual({ ...conversation, metadata: { b: "2" } });
    const audit = [entry(conversation.project, "conversation_item_deleted")];
    expect(await b.conversations.deleteItem(of(conversation), rows[1]?.id ?? "", audit)).toBe(true);
    expect(await b.conversations.deleteItem(of(conversation), rows[1]?.id ?? "", audit)).toBe(false);
    const left = await a.conversations.items(page(conversation));
    expect(left?.rows).toEqual([rows[0], rows[2]]);
    expect((await a.conversations.get(of(conversation)))?.end).toBe(4);
    expect(await eventsOf(a, conversation.project)).toEqual(["conversation_item_deleted"]);
  });

  test("a deleted conversation leaves its responses what they need; the last response takes the rest", async () => {
    const { a, b } = replicas();
    const conversation = aConversation(await newProject(a));
    const { project, id: own } = conversation;
    await a.conversations.insert(conversation, itemRows(0, 1));
    const { response } = await appended(a, conversation, 1, 3);
    await a.conversations.append(project, own, 3, itemRows(3, 5));
    const audit = [entry(project, "conversation_deleted")];
    expect(await b.conversations.delete(of(conversation), audit)).toBe(true);
    expect(await b.conversations.delete(of(conversation), audit)).toBe(false);
    expect(await a.conversations.get(of(conversation))).toBeNull();
    expect(await a.responses.items(project, own, 0, 99)).toHaveLength(3);
    expect(await a.conversations.append(project, own, 3, itemRows(3, 4))).toBe(false);
    await a.responses.delete({ project, id: response.id, viewer: viewerOf(), at: 1 }, []);
    expect(await a.responses.items(project, own, 0, 99)).toEqual([]);
    expect(await eventsOf(a, project)).toEqual(["conversation_deleted"]);
  });

  test("a deleted response leaves its conversation as it was", async () => {
    const { a } = replicas();
    const conversation = aConversation(await newProject(a));
    await a.conversations.insert(conversation, []);
    const { response, done } = await appended(a, conversation, 0, 2);
    expect(done).toBe(true);
    const gone = { project: conversation.project, id: response.id, viewer: viewerOf(), at: 1 };
    expect(await a.responses.delete(gone, [])).toBe(true);
    expect((await a.conversations.items(page(conversation)))?.rows).toHaveLength(2);
    expect((await a.conversations.get(of(conversation)))?.end).toBe(2);
    expect((await appended(a, conversation, 2, 3)).done).toBe(true);
  });

  test("nobody appends to a conversation that was deleted, wherever it ended, and no thread comes back", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const [empty, added, answered] = [aConversation(project), aConversation(project), aConversation(project)];
    await a.conversations.insert(empty, []);
    await a.conversations.insert(added, itemRows(0, 2));
    await a.conversations.insert(answered, []);
    // Its thread stays, and stays as long as it is.
    await appended(a, answered, 0, 2);
    for (const [conversation, end] of [
      [empty, 0],
      [added, 2],
      [answered, 2],
    ] as const) {
      await b.conversations.delete(of(conversation), []);
      for (const from of [0, end]) {
        const { response, done } = await appended(a, conversation, from, from + 2);
        expect(done).toBe(false);
        expect(await b.responses.get(project, response.id, viewerOf())).toBeNull();
        expect(await a.conversations.append(project, conversation.id, from, itemRows(from, from + 1))).toBe(
          false,
        );
      }
    }
    const left = await Promise.all(
      [empty, added, answered].map((each) => b.responses.items(project, each.id, 0, 99)),
    );
    expect(left.map((rows) => rows.length)).toEqual([0, 0, 2]);
  });

  test("deleting and appending race: either the response is kept whole, or it is not there", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    for (let round = 0; round < 10; round++) {
      const conversation = aConversation(project);
      await a.conversations.insert(conversation, itemRows(0, 1));
      const [{ response, done }] = await Promise.all([
        appended(a, conversation, 1, 3),
        b.conversations.delete(of(conversation), []),
      ]);
      const kept = await a.responses.get(project, response.id, viewerOf());
      expect(kept !== null).toBe(done);
      expect(await a.responses.items(project, conversation.id, 0, 99)).toHaveLength(done ? 3 : 0);
    }
  });

  test("what is deleted for not being used is not deleted when a response comes at the same moment", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const usedAt = aResponse(project).createdAt;
    const audit = () => [entry(project, "conversation_deleted")];
    let deletions = 0;
    for (let round = 0; round < 20; round++) {
      const conversation = aConversation(project);
      await a.conversations.insert(conversation, itemRows(0, 1));
      const deleting = () => b.conversations.delete(of(conversation, { unusedSince: usedAt }), audit());
      const appending = () => appended(a, conversation, 1, 3);
      const [{ response, done }, deleted] =
        round % 2 === 0
          ? await Promise.all([appending(), deleting()])
          : await Promise.all([deleting(), appending()]).then(([gone, append]) => [append, gone] as const);
      if (deleted) deletions++;
      expect(deleted).toBe(!done);
      expect((await a.conversations.get(of(conversation))) !== null).toBe(done);
      expect((await a.responses.get(project, response.id, viewerOf())) !== null).toBe(done);
    }
    expect(await eventsOf(a, project)).toHaveLength(deletions);
    const old = aConversation(project);
    await a.conversations.insert(old, []);
    await appended(a, old, 0, 2);
    expect(await b.conversations.delete(of(old, { unusedSince: usedAt }), [])).toBe(false);
    expect(await b.conversations.delete(of(old, { unusedSince: usedAt + 1 }), [])).toBe(true);
  });

  test("the kill switch takes a user's conversations and what is in them, nobody else's", async () => {
    const { a, b } = replicas();
    const project = await newProject(a);
    const owner = { user: "app:bad", principal: "key:runtime" } as const;
    const [bads, nobodys] = [aConversation(project, { owner }), aConversation(project)];
    const elsewhere = aConversation(await newProject(a), { owner });
    for (const each of [bads, nobodys, elsewhere]) {
      await a.conversations.insert(each, [{ position: 0, id: id("msg"), sealed: bigBox(700_000) }]);
      await appended(a, each, 1, 3);
    }
    await b.users.block({ project, id: "app:bad", at: 7_000 }, []);
    const ends = await Promise.all(
      [bads, nobodys, elsewhere].map((each) => a.responses.items(each.project, each.id, 0, 99)),
    );
    expect(ends.map((rows) => rows.length)).toEqual([0, 3, 3]);
    expect(await a.conversations.get(of(bads, { viewer: viewerOf({ user: "app:bad" }) }))).toBeNull();
    expect(await a.responses.lastOf(project, bads.id, 99, viewerOf({ user: "app:bad" }))).toBeNull();
    expect(await a.responses.lastOf(project, nobodys.id, 3, viewerOf())).toMatchObject({ end: 3 });
    expect(await a.responses.lastOf(project, nobodys.id, 2, viewerOf())).toBeNull();
  });
});
