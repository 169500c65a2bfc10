import { existsSync } from "node:fs";
import { join } from "node:path";
import { isUrl, pathOf, shown } from "./config-texts.ts";
import { isRefusal } from "./core/errors.ts";
import { reasonOf } from "./database.ts";
import { fromSqlite, toSqlite } from "./store/better-sqlite3-move.ts";
import { MoveError, moveRows, type Side } from "./store/move.ts";
import { fromPostgres, toPostgres } from "./store/postgres-move.ts";

const root = join(import.meta.dirname, "..");
const sqlite = join(root, "drizzle/sqlite");
const postgres = join(root, "drizzle/pg");

/**
 * The command `migrate-store <from> <to>`, both as in `CONSENTRY_DATABASE_URL`. Says what it moved, or in a sentence why it did not,
 * and gives the exit code. Until the last moment nothing is kept, so that it can be run again whenever it ended early.
 */
export async function main(args: readonly string[]): Promise<number> {
  const [from, to, ...more] = args.map(placeOf);
  if (!from || !to || more.length > 0) {
    console.error(USAGE);
    return 1;
  }
  try {
    console.log(`From ${from.shown} to ${to.shown}:`);
    const rows = await move(from, to);
    console.log(
      `${rows} rows are there, and ${from.shown} is as it was. Start the broker with the target as CONSENTRY_DATABASE_URL, as you have\n` +
        `given it here, and the same CONSENTRY_KEYRING as before${from.keyring()}. Never again start one on\n` +
        `${from.shown}: two brokers that each refresh the same grants lose them.`,
    );
    return 0;
  } catch (error) {
    // Not the error itself: what a driver knows of it can be a row.
    console.error(explanationOf(error) ?? (error instanceof Error ? error.stack : error));
    return 1;
  }
}

const USAGE = `Usage: npm run migrate-store -- <from> <to>
Both are file:<path> or postgres://user@host/database, and no broker runs on either. A password can come by PGPASSWORD.`;

type Place = {
  shown: string;
  from: () => Promise<Side>;
  to: () => Promise<Side>;
  /** Which that is, where it was made beside the database. */
  keyring: () => string;
};

function placeOf(text: string): Place | null {
  const path = pathOf(text);
  if (path !== null) {
    return {
      shown: text,
      from: async () => fromSqlite(path, sqlite),
      to: () => toSqlite(path, sqlite),
      keyring: () => (existsSync(`${path}.keyring`) ? ` (made beside the file: file:${path}.keyring)` : ""),
    };
  }
  if (!isUrl(text, "postgres:", "postgresql:")) return null;
  return {
    shown: shown(text),
    from: () => fromPostgres(text, postgres),
    to: () => toPostgres(text, postgres),
    keyring: () => "",
  };
}

async function move(from: Place, to: Place): Promise<number> {
  if (from.shown === to.shown) throw new MoveError("Source and target are the same.");
  let total = 0;
  const source = await from.from();
  try {
    const target = await to.to();
    try {
      await moveRows(source, target, ({ table, rows }) => {
        total += rows;
        console.log(`  ${table} ${rows}`);
      });
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
  return total;
}

function explanationOf(error: unknown): string | null {
  if (error instanceof MoveError) return `Nothing was moved. ${error.message}`;
  if (!isRefusal(error, "unavailable")) return null;
  return `Nothing was moved. A database cannot be reached, or went away (${reasonOf(error.cause)}).`;
}
