import { type SQL, and, asc, eq, gt, ne, sql } from "drizzle-orm";
import { type ConnectionRecord, placeOf } from "../core/connection.ts";
import type { Connections } from "../core/storage.ts";
import { createMarkedAudit } from "./audit.ts";
import { type Engine, type Statement, given, marked, newMark, placeholderRows, step } from "./engine.ts";
import { takeGrantsIfMarked } from "./grants-taken.ts";
import { failIfMarked } from "./open-consents.ts";
import { listed } from "./paging.ts";
import { createMarkedRedirect, ownerKeyOf } from "./redirects.ts";
import { dropRetired } from "./registrations.ts";
import type { Tables } from "./tables.ts";
import { indexKey } from "./text.ts";

type Row = Tables["connections"]["$inferSelect"];

export function createConnections(engine: Engine): Connections {
  const { connections, consents, grants, registrations, toolPins } = engine.tables;
  const row = marked(connections, [connections.project, connections.name]);
  const audited = createMarkedAudit(engine.tables, row);
  const redirect = createMarkedRedirect(engine.tables, row);
  const inProject = eq(connections.project, given(connections.project, "project"));
  const named = and(inProject, eq(connections.name, given(connections.name, "name")));

  const get: Statement<Row[]> = (db) => db.select().from(connections).where(named);
  const find: Statement<Row[]> = (db) =>
    db
      .select()
      .from(connections)
      .where(and(inProject, eq(connections.id, given(connections.id, "id"))));
  const insert: Statement<{ id: string }[]> = (db) =>
    db
      .insert(connections)
      .values(placeholderRows(connections, 1))
      .onConflictDoNothing()
      .returning({ id: connections.id });
  const lock: Statement<{ id: string }[]> = (db) =>
    db
      .update(connections)
      .set({ writeId: given(connections.writeId, "mark") })
      .where(
        and(
          named,
          eq(connections.id, given(connections.id, "id")),
          eq(connections.version, given(connections.version, "expected")),
        ),
      )
      .returning({ id: connections.id });
  const replace: Statement<unknown> = (db) =>
    db
      .update(connections)
      .set({
        target: given(connections.target, "target"),
        place: given(connections.place, "place"),
        auth: given(connections.auth, "auth"),
        requireApproval: given(connections.requireApproval, "requireApproval"),
        allowedTools: given(connections.allowedTools, "allowedTools"),
        approvers: given(connections.approvers, "approvers"),
        trustAnnotations: given(connections.trustAnnotations, "trustAnnotations"),
        timeoutMs: given(connections.timeoutMs, "timeoutMs"),
        metadata: given(connections.metadata, "metadata"),
        isDefault: given(connections.isDefault, "isDefault"),
        redirectId: given(connections.redirectId, "redirectId"),
        version: given(connections.version, "version"),
        generation: given(connections.generation, "generation"),
        updatedAt: given(connections.updatedAt, "updatedAt"),
        sealed: given(connections.sealed, "sealed"),
      })
      .where(row.where);
  const mark: Statement<{ id: string }[]> = (db) =>
    db
      .update(connections)
      .set({ writeId: given(connections.writeId, "mark") })
      .where(named)
      .returning({ id: connections.id });
  const theMarked = sql`(select ${connections.id} from ${connections} where ${row.where})`;
  const removePins: Statement<unknown> = (db) =>
    db
      .delete(toolPins)
      .where(
        and(
          eq(toolPins.project, given(toolPins.project, "project")),
          sql`${toolPins.connectionId} in ${theMarked}`,
        ),
      );
  const registrationsOf = and(
    eq(registrations.project, given(registrations.project, "project")),
    sql`${registrations.connectionId} in ${theMarked}`,
  );
  const retire = (which: SQL | undefined): Statement<unknown> => {
    return (db) =>
      db
        .update(registrations)
        .set({ issuerKey: null, writeId: given(registrations.writeId, "mark") })
        .where(and(registrationsOf, which));
  };
  const retireRegistrations = retire(undefined);
  const dropRegistrations = dropRetired(engine.tables, registrationsOf);
  // Before the row is replaced: it still says which generation it was.
  const isElsewhere = sql`exists (select 1 from ${connections} where ${row.where} and ${connections.generation} <> ${given(connections.generation, "generation")})`;
  const retireOldRegistrations = retire(isElsewhere);
  const consentsOf = and(
    eq(consents.project, given(consents.project, "project")),
    sql`${consents.connectionId} in ${theMarked}`,
  );
  const failConsents = failIfMarked(engine.tables, row, consentsOf);
  const failOldConsents = failIfMarked(
    engine.tables,
    row,
    and(consentsOf, ne(consents.generation, given(consents.generation, "generation"))),
  );
  const grantsOf = and(
    eq(grants.project, given(grants.project, "ofProject")),
    sql`${grants.connectionId} in ${theMarked}`,
  );
  const takeGrants = takeGrantsIfMarked(engine.tables, row, grantsOf);
  const takeOldGrants = takeGrantsIfMarked(engine.tables, row, and(grantsOf, isElsewhere));
  const remove: Statement<unknown> = (db) => db.delete(connections).where(row.where);

  return {
    get: async (project, name) => {
      const [found] = await engine.run(get, { project, name });
      return found ? recordOf(found) : null;
    },

    find: async (project, id) => {
      const [found] = await engine.run(find, { project, id });
      return found ? recordOf(found) : null;
    },

    list: async (project, { target, place }, page) => {
      const placeKey = place === undefined ? undefined : await indexKey(place);
      const rows = await engine.run((db) =>
        db
          .select()
          .from(connections)
          .where(
            and(
              eq(connections.project, project),
              target === undefined ? undefined : eq(connections.target, target),
              placeKey === undefined ? undefined : eq(connections.place, placeKey),
              page.after === null ? undefined : gt(connections.name, page.after),
            ),
          )
          .orderBy(asc(connections.name))
          .limit(page.limit + 1),
      );
      return listed(rows.map(recordOf), page.limit);
    },

    insert: async ({ connection, sealed }, audit) => {
      const { project, name, redirectId } = connection;
      const writeId = newMark();
      const found = row.values([project, name], writeId);
      const place = await indexKey(placeOf(connection.target));
      const [made] = await engine.atomic([
        step(insert, { ...connection, place, sealed, writeId }),
        step(redirect.stay, { redirectId, ...found }),
        ...audited(audit, found),
      ]);
      return made.length > 0;
    },

    replace: async ({ connection, sealed }, version, audit, eachGrant) => {
      const { project, name, id, generation, redirectId, updatedAt: at } = connection;
      const mark = newMark();
      const found = row.values([project, name], mark);
      const place = await indexKey(placeOf(connection.target));
      const [replaced] = await engine.atomic([
        step(lock, { project, name, id, expected: version, mark }),
        step(failOldConsents, {
          project,
          generation,
          outcome: "connection_changed",
          at,
          consentMark: mark,
          ...found,
        }),
        ...takeOldGrants({ ofProject: project, generation, grantMark: mark, ...found }, eachGrant),
        step(retireOldRegistrations, { project, generation, mark, ...found }),
        step(dropRegistrations, { project, ...found }),
        step(replace, { ...connection, place, sealed, ...found }),
        step(redirect.stay, { redirectId, ...found }),
        ...audited(audit, found),
      ]);
      return replaced.length > 0;
    },

    delete: async (project, name, at, audit, eachGrant) => {
      const writeId = newMark();
      const found = row.values([project, name], writeId);
      const ownerKey = await ownerKeyOf({ kind: "connection", project, name });
      const [gone] = await engine.atomic([
        step(mark, { project, name, mark: writeId }),
        ...audited(audit, found),
        step(removePins, { project, ...found }),
        step(failConsents, { project, outcome: "connection_deleted", at, consentMark: writeId, ...found }),
        ...takeGrants({ ofProject: project, grantMark: writeId, ...found }, eachGrant),
        step(retireRegistrations, { project, mark: writeId, ...found }),
        step(dropRegistrations, { project, ...found }),
        step(redirect.age, { ownerKey, at, ...found }),
        step(remove, found),
      ]);
      return gone.length > 0;
    },
  };
}

function recordOf({ sealed, ...row }: Row): ConnectionRecord {
  return {
    sealed,
    connection: {
      project: row.project,
      name: row.name,
      id: row.id,
      target: row.target,
      auth: row.auth,
      requireApproval: row.requireApproval,
      allowedTools: row.allowedTools,
      approvers: row.approvers,
      trustAnnotations: row.trustAnnotations,
      timeoutMs: row.timeoutMs,
      metadata: row.metadata,
      isDefault: row.isDefault,
      redirectId: row.redirectId,
      version: row.version,
      generation: row.generation,
      createdAt: row.createdAt,
      updatedAt: row.updatedAt,
    },
  };
}
