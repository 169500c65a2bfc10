import { type SQL, and, desc, eq, getTableColumns, isNotNull, isNull, not, sql } from "drizzle-orm";
import type { Registration, Registrations } from "../core/consents.ts";
import { createMarkedAudit } from "./audit.ts";
import { type Engine, type Statement, given, marked, newMark, placeholderRows, step } from "./engine.ts";
import type { Tables } from "./tables.ts";
import { indexKey } from "./text.ts";

export function createRegistrations(engine: Engine): Registrations {
  const { registrations } = engine.tables;
  const row = marked(registrations, [registrations.id]);
  const audited = createMarkedAudit(engine.tables, row);
  const { writeId: _, issuerKey, ...fields } = getTableColumns(registrations);
  const ofConnection = and(
    eq(registrations.project, given(registrations.project, "project")),
    eq(registrations.connectionId, given(registrations.connectionId, "connectionId")),
  );
  const one = and(ofConnection, eq(issuerKey, given(issuerKey, "issuerKey")));

  const get: Statement<Registration[]> = (db) => db.select(fields).from(registrations).where(one);
  const find: Statement<Registration[]> = (db) =>
    db
      .select(fields)
      .from(registrations)
      .where(
        and(
          eq(registrations.project, given(registrations.project, "project")),
          eq(registrations.id, given(registrations.id, "id")),
        ),
      );
  const latest: Statement<Registration[]> = (db) =>
    db
      .select(fields)
      .from(registrations)
      .where(and(ofConnection, isNotNull(issuerKey)))
      .orderBy(desc(registrations.discoveredAt), desc(registrations.createdAt), desc(registrations.id))
      .limit(1);
  const replace: Statement<unknown> = (db) =>
    db
      .update(registrations)
      .set({ ...placeholderRows(registrations, 1)[0] })
      .where(and(one, eq(registrations.id, given(registrations.id, "instead"))));
  const insert: Statement<unknown> = (db) =>
    db
      .insert(registrations)
      .values(placeholderRows(registrations, 1))
      .onConflictDoNothing({ target: [registrations.project, registrations.connectionId, issuerKey] });
  const seen: Statement<unknown> = (db) =>
    db
      .update(registrations)
      .set({
        server: given(registrations.server, "server"),
        resource: given(registrations.resource, "resource"),
        scopesSupported: given(registrations.scopesSupported, "scopesSupported"),
        discoveredAt: given(registrations.discoveredAt, "discoveredAt"),
        writeId: given(registrations.writeId, "mark"),
      })
      .where(and(one, eq(registrations.id, given(registrations.id, "id"))));

  return {
    get: async (project, connectionId, issuer) => {
      const [found] = await engine.run(get, { project, connectionId, issuerKey: await indexKey(issuer) });
      return found ?? null;
    },

    find: async (project, id) => (await engine.run(find, { project, id }))[0] ?? null,

    latest: async (project, connectionId) => (await engine.run(latest, { project, connectionId }))[0] ?? null,

    put: async (registration, instead, audit) => {
      const { id, project, connectionId, issuer } = registration;
      const issuerKey = await indexKey(issuer);
      for (;;) {
        const writeId = newMark();
        const values = { ...registration, issuerKey, writeId };
        // Where the first has replaced a row, the second finds it in its way. Where neither does anything, another stands.
        const [, , standing] = await engine.atomic([
          step(replace, { ...values, instead }),
          step(insert, values),
          step(get, { project, connectionId, issuerKey }),
          ...audited(audit, row.values([id], writeId)),
        ]);
        // None: the one that was in the way has been deleted since.
        if (standing[0]) return standing[0];
      }
    },

    seen: async (registration) => {
      const { id, project, connectionId, server, resource, scopesSupported, discoveredAt } = registration;
      const issuerKey = await indexKey(registration.issuer);
      const found = { id, project, connectionId, issuerKey, server, resource, scopesSupported, discoveredAt };
      await engine.run(seen, { ...found, mark: newMark() });
    },
  };
}

/**
 * A later statement of a list: of the registrations that `which` names, those that nobody finds any more go, unless a grant of
 * their connection is still to be told of.
 */
export function dropRetired({ registrations, grants }: Tables, which: SQL | undefined): Statement<unknown> {
  const isNeeded = sql`exists (select 1 from ${grants} where ${grants.project} = ${registrations.project} and ${grants.connectionId} = ${registrations.connectionId} and ${eq(grants.untold, true)})`;
  return (db) => db.delete(registrations).where(and(which, isNull(registrations.issuerKey), not(isNeeded)));
}
