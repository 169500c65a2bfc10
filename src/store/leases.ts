import { and, eq, lte } from "drizzle-orm";
import type { Json } from "../core/json.ts";
import type { Leases } from "../core/leases.ts";
import { type Engine, type Statement, given, placeholderRows } from "./engine.ts";

export function createLeases(engine: Engine): Leases {
  const { leases } = engine.tables;
  const held = and(
    eq(leases.name, given(leases.name, "name")),
    eq(leases.holder, given(leases.holder, "holder")),
  );

  const take: Statement<{ note: Json | null }[]> = (db) =>
    db
      .insert(leases)
      .values(placeholderRows(leases, 1))
      .onConflictDoUpdate({
        target: leases.name,
        set: { holder: given(leases.holder, "holder"), until: given(leases.until, "until") },
        setWhere: lte(leases.until, given(leases.until, "now")),
      })
      .returning({ note: leases.note });
  const keep: Statement<{ name: string }[]> = (db) =>
    db
      .update(leases)
      .set({ until: given(leases.until, "until"), note: given(leases.note, "note") })
      .where(held)
      .returning({ name: leases.name });
  const release: Statement<unknown> = (db) => db.update(leases).set({ until: 0 }).where(held);

  return {
    take: async (lease) => {
      const [taken] = await engine.run(take, { ...lease, note: null });
      return taken ? { note: taken.note } : null;
    },

    keep: async (lease) => (await engine.run(keep, lease)).length > 0,

    release: async (lease) => {
      await engine.run(release, lease);
    },
  };
}
