import { and, asc, eq, gt } from "drizzle-orm";
import type { Project } from "../core/project.ts";
import type { Projects } from "../core/storage.ts";
import { createMarkedAudit } from "./audit.ts";
import { type Engine, type Statement, given, marked, newMark, placeholderRows, step } from "./engine.ts";
import { listed } from "./paging.ts";

export function createProjects(engine: Engine): Projects {
  const { projects } = engine.tables;
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
    get: async (name) => (await engine.run(get, { name }))[0] ?? null,

    list: async (page) => {
      const rows = await engine.run((db) =>
        db
          .select(fields)
          .from(projects)
          .where(page.after === null ? undefined : gt(projects.name, page.after))
          .orderBy(asc(projects.name))
          .limit(page.limit + 1),
      );
      return listed(rows, page.limit);
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
      return changed[0] ?? null;
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
