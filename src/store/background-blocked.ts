import { and, eq, sql } from "drizzle-orm";
import { type Engine, type Marked, type Statement, given, ifMarked } from "./engine.ts";

/**
 * For the list that blocks a user, after the user's conversations are gone: what is made for the user ends, and what was said of
 * responses that went with the conversations goes, too. Values: `project`, `id` of the user, `at`, and those of the mark.
 */
export function endBackgroundIfMarked(engine: Engine, row: Marked): Statement<unknown>[] {
  const { background, responses, boxChunks } = engine.tables;
  const theirs = and(
    eq(background.project, given(background.project, "project")),
    eq(background.ownerUser, given(background.ownerUser, "id")),
    ifMarked(row),
  );
  const gone = and(
    theirs,
    sql`${background.status} in ('done', 'lost')`,
    sql`not exists (select 1 from ${responses} where ${responses.id} = ${background.id})`,
  );
  return [
    (db) =>
      db
        .update(background)
        .set({ cancelledAt: given(background.cancelledAt, "at") })
        .where(and(theirs, sql`${background.status} in ('queued', 'running')`)),
    (db) =>
      db
        .delete(boxChunks)
        .where(
          and(
            eq(boxChunks.project, given(boxChunks.project, "project")),
            sql`${boxChunks.owner} in (select 'background:' || ${background.id} from ${background} where ${gone})`,
          ),
        ),
    (db) => db.delete(background).where(gone),
  ];
}
