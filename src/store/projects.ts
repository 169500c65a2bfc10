import { and, asc, eq, gt, sql } from "drizzle-orm";
import { type Project, wholeSettings } from "../core/project.ts";
import type { Projects } from "../core/storage.ts";
import { createMarkedAudit } from "./audit.ts";
import {
  type Db,
  type Engine,
  type Statement,
  given,
  marked,
  newMark,
  placeholderRows,
  step,
} from "./engine.ts";
import { listed } from "./paging.ts";

export function createProjects(engine: Engine): Projects {
  const { projects, users } = engine.tables;
  const row = marked(projects, [projects.name]);
  const audited = createMarkedAudit(engine.tables, row);
  const named = eq(projects.name, given(projects.name, "name"));
  const fields = {
    name: projects.name,
    settings: projects.settings,
    version: projects.version,
    createdAt: projects.createdAt,
  };

  const secrets: Statement<{ version: number; sealed: Uint8Array | null }[]> = (db) =>
    db.select({ version: projects.version, sealed: projects.sealed }).from(projects).where(named);
  const get: Statement<Project[]> = (db) => db.select(fields).from(projects).where(named);
  // A subselect, not a join, as where keys are read: joins are dear on SQLite.
  const blocked = sql<string | null>`(select ${users.status} from ${users} where ${and(
    eq(users.project, given(users.project, "name")),
    eq(users.id, given(users.id, "user")),
    eq(users.status, "blocked"),
  )})`;
  const admission = (db: Db) =>
    db
      .select({ ...fields, blocked })
      .from(projects)
      .where(named);
  const insert: Statement<{ name: string }[]> = (db) =>
    db
      .insert(projects)
      .values(placeholderRows(projects, 1))
      .onConflictDoNothing()
      .returning({ name: projects.name });
  const update: Statement<Project[]> = (db) =>
    db
      .update(projects)
      .set({
        settings: given(projects.settings, "settings"),
        sealed: given(projects.sealed, "sealed"),
        version: given(projects.version, "next"),
        writeId: given(projects.writeId, "mark"),
      })
      .where(and(named, eq(projects.version, given(projects.version, "version"))))
      .returning(fields);
  const mark: Statement<{ name: string }[]> = (db) =>
    db
      .update(projects)
      .set({ writeId: given(projects.writeId, "mark") })
      .where(named)
      .returning({ name: projects.name });
  const remove: Statement<unknown> = (db) => db.delete(projects).where(row.where);

  return {
    get: async (name) => wholeOf((await engine.run(get, { name }))[0]),

    admission: async ({ project: name, user }) => {
      const [found] = await engine.run(admission, { name, user });
      if (!found) return null;
      const { blocked: status, ...project } = found;
      return { project: whole(project), userBlocked: status !== null };
    },

    list: async (page) => {
      const rows = await engine.run((db) =>
        db
          .select(fields)
          .from(projects)
          .where(page.after === null ? undefined : gt(projects.name, page.after))
          .orderBy(asc(projects.name))
          .limit(page.limit + 1),
      );
      return listed(rows.map(whole), page.limit);
    },

    insert: async (project, audit) => {
      const writeId = newMark();
      const [made] = await engine.atomic([
        step(insert, { ...project, sealed: null, writeId }),
        ...audited(audit, row.values([project.name], writeId)),
      ]);
      return made.length > 0;
    },

    updateSettings: async ({ name, version, settings, sealed }, audit) => {
      const writeId = newMark();
      const [changed] = await engine.atomic([
        step(update, { name, version, next: version + 1, settings, sealed, mark: writeId }),
        ...audited(audit, row.values([name], writeId)),
      ]);
      return wholeOf(changed[0]);
    },

    secrets: async (name) => (await engine.run(secrets, { name }))[0] ?? null,

    delete: async (name, audit) => {
      const writeId = newMark();
      const found = row.values([name], writeId);
      const [gone] = await engine.atomic([
        step(mark, { name, mark: writeId }),
        ...audited(audit, found),
        step(remove, found),
      ]);
      return gone.length > 0;
    },
  };
}

const whole = (row: Project): Project => ({ ...row, settings: wholeSettings(row.settings) });
const wholeOf = (row: Project | undefined): Project | null => (row ? whole(row) : null);
