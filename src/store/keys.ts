import { type Column, and, asc, eq, gt, isNull, or, sql } from "drizzle-orm";
import type { KeyId } from "../core/ids.ts";
import { type Project, type Settings, wholeSettings } from "../core/project.ts";
import type { Key, Keys } from "../core/storage.ts";
import { createMarkedAudit } from "./audit.ts";
import {
  type Db,
  type Engine,
  type Statement,
  allGiven,
  given,
  insertIfMarked,
  marked,
  newMark,
  placeholderRows,
  step,
} from "./engine.ts";

/** The one id of the key that the operator was given at the start. */
export const BOOTSTRAP_ID: KeyId = "key_bootstrap";

export function createKeys(engine: Engine): Keys {
  const { keys, projects, users } = engine.tables;
  const row = marked(keys, [keys.id]);
  const audited = createMarkedAudit(engine.tables, row);
  const one = and(eq(keys.project, given(keys.project, "project")), eq(keys.id, given(keys.id, "id")));
  const fields = {
    id: keys.id,
    project: keys.project,
    name: keys.name,
    principal: keys.principal,
    hash: keys.hash,
    roles: keys.roles,
    rights: keys.rights,
    createdAt: keys.createdAt,
    expiresAt: keys.expiresAt,
    confirmUrl: keys.confirmUrl,
    doneUrl: keys.doneUrl,
  };

  // Subselects, not joins: on SQLite each join of this read costs more than all of the read without it.
  const ofProject = <C extends Column>(column: C) =>
    sql<C["_"]["data"] | null>`(select ${column} from ${projects} where ${eq(
      projects.name,
      given(projects.name, "project"),
    )})`.mapWith(column);
  const blocked = sql<string | null>`(select ${users.status} from ${users} where ${and(
    eq(users.project, given(users.project, "project")),
    eq(users.id, given(users.id, "user")),
    eq(users.status, "blocked"),
  )})`;
  const authenticate = (db: Db) =>
    db
      .select({
        key: fields,
        project: ofProject(projects.name),
        settings: ofProject(projects.settings),
        version: ofProject(projects.version),
        createdAt: ofProject(projects.createdAt),
        blocked,
      })
      .from(keys)
      .where(eq(keys.hash, given(keys.hash, "hash")));

  const get: Statement<Key[]> = (db) => db.select(fields).from(keys).where(one);
  const bootstrap: Statement<Key[]> = (db) => db.select(fields).from(keys).where(eq(keys.id, BOOTSTRAP_ID));
  // One writer of a project's keys at a time: names are unique among keys that last, and no index can say that.
  const lockProject: Statement<unknown> = (db) =>
    db
      .update(projects)
      .set({ writeId: given(projects.writeId, "writeId") })
      .where(eq(projects.name, given(projects.name, "project")));
  const nameTaken = sql`exists (select 1 from ${keys} where ${and(
    eq(keys.project, given(keys.project, "project")),
    eq(keys.name, given(keys.name, "name")),
    or(isNull(keys.expiresAt), gt(keys.expiresAt, given(keys.expiresAt, "createdAt"))),
  )})`;
  const insert: Statement<{ id: string }[]> = (db) =>
    db
      .insert(keys)
      .select(sql`select ${allGiven(keys)} where not ${nameTaken}`)
      .returning({ id: keys.id });
  // Never later than it was: rotation must not revive a key that has ended.
  const sooner = sql`case when ${keys.expiresAt} < ${given(keys.expiresAt, "expiresAt")} then ${
    keys.expiresAt
  } else ${given(keys.expiresAt, "expiresAt")} end`;
  const endOld: Statement<{ id: string }[]> = (db) =>
    db
      .update(keys)
      .set({ expiresAt: sooner, writeId: given(keys.writeId, "mark") })
      .where(one)
      .returning({ id: keys.id });
  const insertSuccessor = insertIfMarked(keys, row);
  const mark: Statement<{ id: string }[]> = (db) =>
    db
      .update(keys)
      .set({ writeId: given(keys.writeId, "mark") })
      .where(one)
      .returning({ id: keys.id });
  const remove: Statement<unknown> = (db) => db.delete(keys).where(row.where);
  const put: Statement<unknown> = (db) =>
    db
      .insert(keys)
      .values(placeholderRows(keys, 1))
      .onConflictDoUpdate({
        target: keys.id,
        set: {
          name: given(keys.name, "name"),
          principal: given(keys.principal, "principal"),
          hash: given(keys.hash, "hash"),
          roles: given(keys.roles, "roles"),
          rights: given(keys.rights, "rights"),
          createdAt: given(keys.createdAt, "createdAt"),
          expiresAt: given(keys.expiresAt, "expiresAt"),
          confirmUrl: given(keys.confirmUrl, "confirmUrl"),
          doneUrl: given(keys.doneUrl, "doneUrl"),
          writeId: given(keys.writeId, "writeId"),
        },
      });

  return {
    authenticate: async (query) => {
      const [found] = await engine.run(authenticate, query);
      if (!found) return null;
      return { key: found.key, project: projectOf(found), userBlocked: found.blocked !== null };
    },

    list: (project) =>
      engine.run((db) =>
        db.select(fields).from(keys).where(eq(keys.project, project)).orderBy(asc(keys.name), asc(keys.id)),
      ),

    get: async (project, id) => (await engine.run(get, { project, id }))[0] ?? null,

    insert: async (key, audit) => {
      const writeId = newMark();
      const [, made] = await engine.atomic([
        step(lockProject, { project: key.project, writeId }),
        step(insert, { ...key, writeId }),
        ...audited(audit, row.values([key.id], writeId)),
      ]);
      return made.length > 0;
    },

    rotate: async ({ project, old, oldExpiresAt, successor }, audit) => {
      const writeId = newMark();
      const found = row.values([old], writeId);
      const [, ended] = await engine.atomic([
        step(lockProject, { project, writeId }),
        step(endOld, { project, id: old, expiresAt: oldExpiresAt, mark: writeId }),
        step(insertSuccessor, { ...successor, writeId, ...found }),
        ...audited(audit, found),
      ]);
      return ended.length > 0;
    },

    delete: async (project, id, audit) => {
      const writeId = newMark();
      const found = row.values([id], writeId);
      const [gone] = await engine.atomic([
        step(mark, { project, id, mark: writeId }),
        ...audited(audit, found),
        step(remove, found),
      ]);
      return gone.length > 0;
    },

    putBootstrap: async (key) => {
      await engine.run(put, { ...key, id: BOOTSTRAP_ID, project: null, writeId: newMark() });
    },

    getBootstrap: async () => (await engine.run(bootstrap))[0] ?? null,
  };
}

type OfProject = {
  project: string | null;
  settings: Settings | null;
  version: number | null;
  createdAt: number | null;
};

function projectOf({ project: name, settings, version, createdAt }: OfProject): Project | null {
  if (name === null || settings === null || version === null || createdAt === null) return null;
  return { name, settings: wholeSettings(settings), version, createdAt };
}
