import { and, asc, eq, gt, inArray, sql } from "drizzle-orm";
import type { UserId } from "../core/ids.ts";
import type { User, Users } from "../core/storage.ts";
import { createMarkedAudit } from "./audit.ts";
import {
  type Engine,
  type Statement,
  given,
  ifMarked,
  marked,
  newMark,
  placeholderRows,
  step,
} from "./engine.ts";
import { endBackgroundIfMarked } from "./background-blocked.ts";
import { removeConversationsIfMarked } from "./conversations-delete.ts";
import { takeGrantsIfMarked } from "./grants-taken.ts";
import { failIfMarked } from "./open-consents.ts";
import { listed } from "./paging.ts";

export function createUsers(engine: Engine): Users {
  const { users, heldCalls, consents, grants, handles } = engine.tables;
  const row = marked(users, [users.project, users.id]);
  const audited = createMarkedAudit(engine.tables, row);
  const one = and(eq(users.project, given(users.project, "project")), eq(users.id, given(users.id, "id")));
  const fields = { project: users.project, id: users.id, status: users.status, createdAt: users.createdAt };

  const get: Statement<User[]> = (db) => db.select(fields).from(users).where(one);
  const note: Statement<unknown> = (db) =>
    db.insert(users).values(placeholderRows(users, 1)).onConflictDoNothing();
  const block: Statement<unknown> = (db) =>
    db
      .insert(users)
      .values(placeholderRows(users, 1))
      .onConflictDoUpdate({
        target: [users.project, users.id],
        set: { status: given(users.status, "status"), writeId: given(users.writeId, "writeId") },
      });
  const cancelHeldCalls: Statement<unknown> = (db) =>
    db
      .update(heldCalls)
      .set({
        status: "cancelled",
        // An approved call keeps the time of its approval, which stands beside who approved it.
        decidedAt: sql`coalesce(${heldCalls.decidedAt}, ${given(heldCalls.decidedAt, "at")})`,
        writeId: given(heldCalls.writeId, "writeId"),
      })
      .where(
        and(
          eq(heldCalls.project, given(heldCalls.project, "project")),
          eq(heldCalls.ownerUser, given(heldCalls.ownerUser, "id")),
          inArray(heldCalls.status, ["pending", "approved"]),
          ifMarked(row),
        ),
      );
  const failConsents = failIfMarked(
    engine.tables,
    row,
    and(
      eq(consents.project, given(consents.project, "project")),
      eq(consents.user, given(consents.user, "id")),
    ),
  );
  const takeGrants = takeGrantsIfMarked(
    engine.tables,
    row,
    and(
      eq(grants.project, given(grants.project, "ofProject")),
      eq(grants.user, given(grants.user, "ofUser")),
    ),
  );
  const endSessions: Statement<unknown> = (db) =>
    db
      .delete(handles)
      .where(
        and(
          eq(handles.project, given(handles.project, "project")),
          inArray(handles.kind, ["me_link", "me_session"]),
          eq(handles.subject, given(handles.subject, "id")),
          ifMarked(row),
        ),
      );
  const removeConversations = removeConversationsIfMarked(engine, row);
  const endBackground = endBackgroundIfMarked(engine, row);
  const restore: Statement<{ id: string }[]> = (db) =>
    db
      .update(users)
      .set({ status: "active", writeId: given(users.writeId, "mark") })
      .where(and(one, eq(users.status, "blocked")))
      .returning({ id: users.id });

  return {
    get: async (project, id) => (await engine.run(get, { project, id }))[0] ?? null,

    list: async (project, page) => {
      const rows = await engine.run((db) =>
        db
          .select(fields)
          .from(users)
          .where(
            and(
              eq(users.project, project),
              page.after === null ? undefined : gt(users.id, userId(page.after)),
            ),
          )
          .orderBy(asc(users.id))
          .limit(page.limit + 1),
      );
      return listed(rows, page.limit);
    },

    note: async (user) => {
      await engine.run(note, { ...user, writeId: newMark() });
    },

    block: async ({ project, id, at }, audit, eachGrant) => {
      const writeId = newMark();
      const found = row.values([project, id], writeId);
      await engine.atomic([
        step(block, { project, id, status: "blocked", createdAt: at, writeId }),
        step(cancelHeldCalls, { project, id, at, writeId, ...found }),
        step(failConsents, { project, id, outcome: "user_blocked", at, consentMark: writeId, ...found }),
        ...takeGrants({ ofProject: project, ofUser: id, grantMark: writeId, ...found }, eachGrant),
        step(endSessions, { project, id, ...found }),
        ...removeConversations.map((remove) => step(remove, { project, id, ...found })),
        ...endBackground.map((end) => step(end, { project, id, at, ...found })),
        ...audited(audit, found),
      ]);
    },

    restore: async (project, id, audit) => {
      const writeId = newMark();
      const [changed] = await engine.atomic([
        step(restore, { project, id, mark: writeId }),
        ...audited(audit, row.values([project, id], writeId)),
      ]);
      return changed.length > 0;
    },
  };
}

// `after` is what a caller sent. Any text may be compared with an id.
const userId = (text: string) => text as UserId;
