import { eq } from "drizzle-orm";
import { expect, test } from "vitest";
import type { Db } from "../../src/store/engine.ts";
import type { Tables } from "../../src/store/tables.ts";

// tsc reads this file: each of these lines must be refused by it. Nothing here runs.
export function refusedByTheCompiler(db: Db, { users, audit }: Tables) {
  // @ts-expect-error A column that must not be null is missing.
  void db.insert(users).values({ project: "p", id: "app:x", status: "active", createdAt: 1 });
  // @ts-expect-error No such status.
  void db.update(users).set({ status: "gone" });
  // @ts-expect-error No such column.
  void db.update(users).set({ nickname: "x" });
  // @ts-expect-error Another kind of value than the column's.
  void eq(users.createdAt, "yesterday");
  // @ts-expect-error Not an id of a user.
  void eq(users.id, "x");
  // @ts-expect-error A detail is flat.
  void db.update(audit).set({ detail: { nested: { a: 1 } } });
  // @ts-expect-error Only what all engines have: no `run` on the database,
  void db.run("select 1");
  // @ts-expect-error and no transaction to hold open.
  void db.transaction(() => {});
}

test("the types of statements are checked by tsc", () => {
  expect(refusedByTheCompiler).toBeTypeOf("function");
});
