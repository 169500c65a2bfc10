import { and, eq, gt, isNull, or, sql } from "drizzle-orm";
import { REDIRECT_KEPT_MS, type RedirectOwner, type Redirects } from "../core/connectors.ts";
import { type Engine, type Marked, type Statement, given, ifMarked, placeholderRows } from "./engine.ts";
import type { Tables } from "./tables.ts";
import { indexKey } from "./text.ts";

type Row = Tables["redirects"]["$inferSelect"];

export function createRedirects(engine: Engine): Redirects {
  const { redirects } = engine.tables;
  const isKept = or(isNull(redirects.agedAt), gt(redirects.agedAt, given(redirects.agedAt, "agedOutAt")));

  // One statement, so that of racers all receive what the first one wrote.
  const ensure: Statement<{ id: string }[]> = (db) =>
    db
      .insert(redirects)
      .values(placeholderRows(redirects, 1))
      .onConflictDoUpdate({
        target: redirects.ownerKey,
        set: { id: sql`case when ${isKept} then ${redirects.id} else excluded.id end`, agedAt: null },
      })
      .returning({ id: redirects.id });
  const owner: Statement<Row[]> = (db) =>
    db
      .select()
      .from(redirects)
      .where(and(eq(redirects.id, given(redirects.id, "id")), isKept));

  return {
    ensure: async (owner, fresh, now) => {
      const project = owner.kind === "connection" ? owner.project : null;
      const [kept] = await engine.run(ensure, {
        ownerKey: await ownerKeyOf(owner),
        id: fresh,
        kind: owner.kind,
        project,
        name: owner.name,
        agedAt: null,
        agedOutAt: now - REDIRECT_KEPT_MS,
      });
      if (!kept) throw new Error("an upsert gave no row");
      return kept.id;
    },

    owner: async (id, now) => {
      const [found] = await engine.run(owner, { id, agedOutAt: now - REDIRECT_KEPT_MS });
      return found ? ownerOf(found) : null;
    },
  };
}

/**
 * Later statements of a list that writes or deletes the owner, which is the marked row. `stay`: whoever made the owner's id
 * and then lost time must not find it ageing; by `redirectId`. `age`: the owner is gone as of `at`; by `ownerKey`.
 */
export function createMarkedRedirect({ redirects }: Tables, row: Marked) {
  const stay: Statement<unknown> = (db) =>
    db
      .update(redirects)
      .set({ agedAt: null })
      .where(and(eq(redirects.id, given(redirects.id, "redirectId")), ifMarked(row)));
  const age: Statement<unknown> = (db) =>
    db
      .update(redirects)
      .set({ agedAt: given(redirects.agedAt, "at") })
      .where(and(eq(redirects.ownerKey, given(redirects.ownerKey, "ownerKey")), ifMarked(row)));
  return { stay, age };
}

/** A name may be anybody's wish; as JSON no two owners spell the same. */
export function ownerKeyOf(owner: RedirectOwner): Promise<string> {
  return indexKey(
    JSON.stringify([owner.kind, owner.kind === "connection" ? owner.project : null, owner.name]),
  );
}

function ownerOf({ kind, project, name }: Row): RedirectOwner {
  if (kind === "connector") return { kind, name };
  if (project === null) throw new Error("a connection's redirect has no project");
  return { kind, project, name };
}
