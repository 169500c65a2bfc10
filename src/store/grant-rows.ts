import { and, eq, getTableColumns } from "drizzle-orm";
import type { Grant, GrantId, GrantKey } from "../core/grants.ts";
import type { Listed } from "../core/storage.ts";
import { createMarkedAudit } from "./audit.ts";
import { type Engine, type Statement, given, marked } from "./engine.ts";
import { createGrantBoxes, keyOf } from "./grant-boxes.ts";

export type GrantRows = ReturnType<typeof createGrantRows>;

/** What all statements about grants share: how a row is named, marked, and read with its whole box. */
export function createGrantRows(engine: Engine) {
  const { grants } = engine.tables;
  const row = marked(grants, [grants.project, grants.connectionId, grants.user]);
  const boxes = createGrantBoxes(engine, row);
  const { writeId, untold: _, ...fields } = getTableColumns(grants);
  const inProject = eq(grants.project, given(grants.project, "project"));
  const one = and(
    inProject,
    eq(grants.connectionId, given(grants.connectionId, "connectionId")),
    eq(grants.user, given(grants.user, "user")),
  );
  const get: Statement<Grant[]> = (db) => db.select(fields).from(grants).where(one);

  /** The row under a key with its whole box, read again for as long as a large box is replaced meanwhile. */
  const current = async (key: GrantKey): Promise<Grant | null> => {
    for (;;) {
      const [found] = await engine.run(get, keyOf(key));
      if (!found) return null;
      const grant = await boxes.whole(found);
      if (grant) return grant;
    }
  };

  /** Rows with their whole boxes; without those that are gone by now. */
  const wholeOf = async (rows: Grant[]): Promise<Grant[]> => {
    const found = await Promise.all(rows.map(async (each) => (await boxes.whole(each)) ?? current(each)));
    return found.filter((grant) => grant !== null);
  };
  const wholePage = async ({ rows, more }: Listed<Grant>): Promise<Listed<Grant>> => ({
    rows: await wholeOf(rows),
    more,
  });

  return {
    fields,
    inProject,
    one,
    isAt: eq(grants.version, given(grants.version, "expected")),
    mark: { writeId: given(writeId, "mark") },
    noLease: { lease: null, leaseUntil: null },
    boxes,
    audited: createMarkedAudit(engine.tables, row),
    /** The values that name the row that a list has marked. */
    found: (key: GrantKey, mark: string) => row.values([key.project, key.connectionId, key.user], mark),
    current,
    wholeOf,
    wholePage,
  };
}

// `after` is what a caller sent. Any text may be compared with an id.
export const grantId = (text: string) => text as GrantId;
