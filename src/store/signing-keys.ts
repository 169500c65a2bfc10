import { and, asc, eq, lt, lte, sql } from "drizzle-orm";
import type { SigningKey, SigningKeys } from "../core/signing-keys.ts";
import { type Engine, type Statement, given, placeholderRows } from "./engine.ts";

export function createSigningKeys(engine: Engine): SigningKeys {
  const { signingKeys } = engine.tables;
  const ofPurpose = eq(signingKeys.purpose, given(signingKeys.purpose, "purpose"));

  const list: Statement<SigningKey[]> = (db) =>
    db.select().from(signingKeys).where(ofPurpose).orderBy(asc(signingKeys.seq));
  const insert: Statement<{ kid: string }[]> = (db) =>
    db
      .insert(signingKeys)
      .values(placeholderRows(signingKeys, 1))
      .onConflictDoNothing({ target: [signingKeys.purpose, signingKeys.seq] })
      .returning({ kid: signingKeys.kid });
  const signs = and(ofPurpose, lte(signingKeys.notBefore, given(signingKeys.notBefore, "supersededAt")));
  const newest = sql`(select max(${signingKeys.seq}) from ${signingKeys} where ${signs})`;
  const sweep: Statement<{ kid: string }[]> = (db) =>
    db
      .delete(signingKeys)
      .where(and(ofPurpose, lt(signingKeys.seq, newest)))
      .returning({ kid: signingKeys.kid });

  return {
    list: (purpose) => engine.run(list, { purpose }),

    insert: async (key) => (await engine.run(insert, key)).length > 0,

    sweep: async (purpose, supersededAt) => {
      const gone = await engine.run(sweep, { purpose, supersededAt });
      return gone.map(({ kid }) => kid);
    },
  };
}
