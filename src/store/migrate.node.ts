import { readMigrationFiles } from "drizzle-orm/migrator";

/** One generated migration. `madeAt` (its `when` in drizzle-kit's journal) is its name in the database. */
export type Migration = { madeAt: number; statements: string[] };

/** The table of migrations that were applied, in words that every engine knows. */
export const CREATE_TABLE =
  "create table if not exists schema_migrations (made_at bigint primary key not null)";
export const APPLIED = "select made_at from schema_migrations";

/** All migrations of a folder that drizzle-kit made, oldest first. Throws when it cannot be read. */
export function readMigrations(folder: string): Migration[] {
  return readMigrationFiles({ migrationsFolder: folder }).map((file) => ({
    madeAt: file.folderMillis,
    statements: file.sql.filter((statement) => statement.trim() !== ""),
  }));
}

/**
 * What a database still lacks. Throws a plain Error when it holds a migration that this program does not know: then a
 * newer version has written it, and ours would damage it.
 */
export function missing(migrations: Migration[], applied: number[]): Migration[] {
  const known = new Set(migrations.map((migration) => migration.madeAt));
  const unknown = applied.filter((madeAt) => !known.has(madeAt));
  if (unknown.length > 0) {
    const day = new Date(Math.max(...unknown)).toISOString();
    throw new Error(
      `The database was written by a newer version of Consentry (its schema is of ${day}, which this version does not know). ` +
        "Start that version again, or restore a backup made before the upgrade.",
    );
  }
  return migrations.filter((migration) => !applied.includes(migration.madeAt));
}
