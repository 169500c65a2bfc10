import { and, eq, gt, isNull, or } from "drizzle-orm";
import type { Handle, Handles } from "../core/consents.ts";
import { createAuditInsert } from "./audit.ts";
import { type Engine, type Statement, given, placeholderRows, step } from "./engine.ts";

/** Handles are taken by deleting them: nothing is left of what was used. */
export function createHandles(engine: Engine): Handles {
  const { handles } = engine.tables;
  const unconditional = createAuditInsert(engine.tables);
  const one = and(
    eq(handles.kind, given(handles.kind, "kind")),
    eq(handles.hash, given(handles.hash, "hash")),
    gt(handles.expiresAt, given(handles.expiresAt, "now")),
  );

  const put: Statement<unknown> = (db) => db.insert(handles).values(placeholderRows(handles, 1));
  const get: Statement<Handle[]> = (db) => db.select().from(handles).where(one);
  const take: Statement<Handle[]> = (db) =>
    db
      .delete(handles)
      .where(
        and(
          one,
          or(isNull(handles.browserHash), eq(handles.browserHash, given(handles.browserHash, "browserHash"))),
        ),
      )
      .returning();
  const drop: Statement<unknown> = (db) =>
    db
      .delete(handles)
      .where(
        and(
          eq(handles.project, given(handles.project, "project")),
          eq(handles.kind, given(handles.kind, "kind")),
          eq(handles.subject, given(handles.subject, "subject")),
        ),
      );
  return {
    put: async (handle, audit) => {
      await engine.atomic([step(put, handle), ...unconditional(audit)]);
    },

    get: async (kind, hash, now) => (await engine.run(get, { kind, hash, now }))[0] ?? null,

    take: async (query) => (await engine.run(take, query))[0] ?? null,

    drop: async (project, kind, subject) => {
      await engine.run(drop, { project, kind, subject });
    },
  };
}
