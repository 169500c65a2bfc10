import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { Engine } from "../../src/store/engine.ts";
import { openSqliteEngine } from "../../src/store/better-sqlite3.ts";
import { createStore } from "../../src/store/store.ts";
import { migrations } from "./engines.ts";
import { aResponse, id, itemRows, newProject, stored } from "./things.ts";

const folder = mkdtempSync(join(tmpdir(), "consentry-cost-"));
const counts = { reads: 0, writes: 0 };
const store = createStore(
  counting(openSqliteEngine(join(folder, "test.db"), { migrations: migrations.sqlite })),
);
afterAll(async () => {
  await store.close();
  rmSync(folder, { recursive: true });
});

function counting(engine: Engine): Engine {
  return {
    ...engine,
    run: (statement, values) => {
      counts.reads++;
      return engine.run(statement, values);
    },
    atomic: (steps) => {
      counts.writes += steps.length;
      return engine.atomic(steps);
    },
  };
}

async function costOf(work: () => Promise<unknown>): Promise<typeof counts> {
  Object.assign(counts, { reads: 0, writes: 0 });
  await work();
  return { ...counts };
}

test("a turn writes its own rows alone, and a read is one query, however long the conversation is", async () => {
  const project = await newProject(store);
  const conversation = {
    id: id("conv"),
    project,
    owner: { user: null, principal: "key:runtime" },
    createdAt: 1,
    metadata: {},
  };
  await store.conversations.insert(conversation, []);
  const turn = (from: number) => () =>
    store.responses.append(
      stored(aResponse(project), {
        threadId: conversation.id,
        inputFrom: from,
        outputFrom: from + 1,
        end: from + 2,
      }),
      itemRows(from, from + 2),
      [],
    );
  const page = (after: string | null) => () =>
    store.conversations.items({ project, id: conversation.id, after, limit: 20, order: "desc" });
  const early = await costOf(turn(0));
  for (let from = 2; from < 2_000; from += 2) await turn(from)();
  // The conversation, the place, the response, its two items.
  expect([early, await costOf(turn(2_000))]).toEqual(Array(2).fill({ reads: 0, writes: 5 }));
  expect(await costOf(page(null))).toEqual({ reads: 1, writes: 0 });
  const first = await store.conversations.items({
    project,
    id: conversation.id,
    after: null,
    limit: 20,
    order: "asc",
  });
  expect(await costOf(page(first?.rows[19]?.id ?? null))).toEqual({ reads: 1, writes: 0 });
  const all = () => store.responses.items(project, conversation.id, 0, 5_000);
  expect(await costOf(all)).toEqual({ reads: 1, writes: 0 });
  expect(await all()).toHaveLength(2_002);
});
