import { and, asc, eq, gt } from "drizzle-orm";
import type { Connector, ConnectorRecord } from "../core/connection.ts";
import type { Connectors } from "../core/connectors.ts";
import { createMarkedAudit } from "./audit.ts";
import { type Engine, type Statement, given, marked, newMark, placeholderRows, step } from "./engine.ts";
import { listed } from "./paging.ts";
import { createMarkedRedirect, ownerKeyOf } from "./redirects.ts";
import type { Tables } from "./tables.ts";

export function createConnectors(engine: Engine): Connectors {
  const { connectors } = engine.tables;
  const row = marked(connectors, [connectors.name]);
  const audited = createMarkedAudit(engine.tables, row);
  const redirect = createMarkedRedirect(engine.tables, row);
  const named = eq(connectors.name, given(connectors.name, "name"));

  const get: Statement<Row[]> = (db) => db.select().from(connectors).where(named);
  const insert: Statement<{ name: string }[]> = (db) =>
    db
      .insert(connectors)
      .values(placeholderRows(connectors, 1))
      .onConflictDoNothing({ target: connectors.name })
      .returning({ name: connectors.name });
  const replace: Statement<{ name: string }[]> = (db) =>
    db
      .update(connectors)
      .set({
        app: given(connectors.app, "app"),
        scopes: given(connectors.scopes, "scopes"),
        overrides: given(connectors.overrides, "overrides"),
        targets: given(connectors.targets, "targets"),
        redirectId: given(connectors.redirectId, "redirectId"),
        version: given(connectors.version, "version"),
        generation: given(connectors.generation, "generation"),
        updatedAt: given(connectors.updatedAt, "updatedAt"),
        sealed: given(connectors.sealed, "sealed"),
        writeId: given(connectors.writeId, "writeId"),
      })
      .where(
        and(
          named,
          // Deleted and made again meanwhile is another one, whatever its version.
          eq(connectors.createdAt, given(connectors.createdAt, "createdAt")),
          eq(connectors.version, given(connectors.version, "expected")),
        ),
      )
      .returning({ name: connectors.name });
  const mark: Statement<{ name: string }[]> = (db) =>
    db
      .update(connectors)
      .set({ writeId: given(connectors.writeId, "mark") })
      .where(named)
      .returning({ name: connectors.name });
  const remove: Statement<unknown> = (db) => db.delete(connectors).where(row.where);

  return {
    get: async (name) => {
      const [found] = await engine.run(get, { name });
      return found ? { connector: connectorOf(found), sealed: found.sealed } : null;
    },

    list: async (page) => {
      const rows = await engine.run((db) =>
        db
          .select()
          .from(connectors)
          .where(page.after === null ? undefined : gt(connectors.name, page.after))
          .orderBy(asc(connectors.name))
          .limit(page.limit + 1),
      );
      return listed(rows.map(connectorOf), page.limit);
    },

    insert: async (record, audit) => {
      const { values, found, redirectId } = valuesOf(record);
      const [made] = await engine.atomic([
        step(insert, values),
        step(redirect.stay, { redirectId, ...found }),
        ...audited(audit, found),
      ]);
      return made.length > 0;
    },

    replace: async (record, version, audit) => {
      const { values, found, redirectId } = valuesOf(record);
      const [replaced] = await engine.atomic([
        step(replace, { ...values, expected: version }),
        step(redirect.stay, { redirectId, ...found }),
        ...audited(audit, found),
      ]);
      return replaced.length > 0;
    },

    delete: async (name, at, audit) => {
      const writeId = newMark();
      const found = row.values([name], writeId);
      const ownerKey = await ownerKeyOf({ kind: "connector", name });
      const [gone] = await engine.atomic([
        step(mark, { name, mark: writeId }),
        ...audited(audit, found),
        step(redirect.age, { ownerKey, at, ...found }),
        step(remove, found),
      ]);
      return gone.length > 0;
    },
  };

  function valuesOf({ connector, sealed }: ConnectorRecord) {
    const writeId = newMark();
    return {
      values: { ...connector, sealed, writeId },
      found: row.values([connector.name], writeId),
      redirectId: connector.redirectId,
    };
  }
}

type Row = Tables["connectors"]["$inferSelect"];

function connectorOf({ sealed: _sealed, writeId: _writeId, ...connector }: Row): Connector {
  return connector;
}
