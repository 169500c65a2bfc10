import { randomBytes } from "node:crypto";
import { stat } from "node:fs/promises";
import Database from "better-sqlite3";
import pg from "pg";
import type { Grant } from "../src/core/grants.ts";

/** Of a database: SQLite's path or PostgreSQL's URL, as a broker is told it. */
export type Place = { kind: "sqlite"; path: string } | { kind: "postgres"; url: string };

export function placeOf(databaseUrl: string): Place {
  return databaseUrl.startsWith("file:")
    ? { kind: "sqlite", path: databaseUrl.slice("file:".length) }
    : { kind: "postgres", url: databaseUrl };
}

/** Puts rows of other people into a database by SQL, beside a broker that runs. */
export type Filler = {
  /** So many grants like the model's, each of a person of its own, who has a row, too. Nobody's box opens. */
  add: (count: number, boxBytes: number) => Promise<void>;
  /** Does what the database would do by itself while something is measured. Gives the bytes of the whole. */
  settle: () => Promise<number>;
  close: () => Promise<void>;
};

/** `model`: whose grant and row the others are made like. */
export function openFiller(place: Place, model: Grant["user"]): Promise<Filler> {
  return place.kind === "sqlite" ? fillerOfSqlite(place.path, model) : fillerOfPostgres(place.url, model);
}

/** A broker that writes meanwhile waits for a transaction of so many. */
const AT_ONCE = 10_000;

/** What makes a row another one than the model's, from `name`: 66 hexadecimal digits, in no order. */
const OWN_OF_GRANT = { id: "'grant_' || substr(name, 17, 50)", user_id: "'app:' || substr(name, 1, 16)" };
const OWN_OF_USER = { id: OWN_OF_GRANT.user_id };

/** A statement that makes rows out of one, `model`, and of a table of names, `many`. `own`: columns that are made anew. */
export function insertAlike(
  table: string,
  {
    columns,
    own,
    model,
    many,
  }: { columns: string[]; own: Record<string, string>; model: string; many: string },
): string {
  const values = columns.map((name) => own[name] ?? name).join(", ");
  return `insert into ${table} (${columns.join(", ")}) select ${values} from (${model}) model, ${many}`;
}

async function fillerOfSqlite(path: string, model: string): Promise<Filler> {
  const file = new Database(path, { timeout: 10_000 });
  // Indexes are written in no order: this holds them while they grow. The file is thrown away: no disk is waited for.
  file.pragma("cache_size = -500000");
  file.pragma("synchronous = OFF");
  const inserting = (table: string, column: string, own: Record<string, string>) => {
    const columns = file.pragma(`table_info(${table})`) as { name: string }[]; // Seam: what this pragma gives.
    return file.prepare(
      insertAlike(table, {
        columns: columns.map(({ name }) => name),
        own,
        model: `select * from ${table} where ${column} = @model`,
        many: "(select value as name from json_each(@names)) many",
      }),
    );
  };
  const grants = inserting("grants", "user_id", { ...OWN_OF_GRANT, sealed: "randomblob(@boxBytes)" });
  const users = inserting("users", "id", OWN_OF_USER);
  const insert = file.transaction((names: string, boxBytes: number) => {
    users.run({ model, names });
    return grants.run({ model, names, boxBytes }).changes;
  });
  return {
    add: (count, boxBytes) =>
      inParts(count, async (names) => insert.immediate(JSON.stringify(names), boxBytes)),
    settle: async () => {
      file.pragma("wal_checkpoint(TRUNCATE)");
      return (await stat(path)).size;
    },
    close: async () => {
      file.close();
    },
  };
}

async function fillerOfPostgres(url: string, model: string): Promise<Filler> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const inserting = async (table: string, column: string, own: Record<string, string>) => {
    const { rows } = await client.query<{ column_name: string }>(
      "select column_name from information_schema.columns where table_name = $1 order by ordinal_position",
      [table],
    );
    return insertAlike(table, {
      columns: rows.map(({ column_name }) => column_name),
      own,
      model: `select * from ${table} where ${column} = $1`,
      many: "unnest($2::text[]) as many (name)",
    });
  };
  const grants = await inserting("grants", "user_id", { ...OWN_OF_GRANT, sealed: "$3::bytea" });
  const users = await inserting("users", "id", OWN_OF_USER);
  return {
    add: (count, boxBytes) => {
      // Random once is enough: what is random does not become smaller when it is kept.
      const box = randomBytes(boxBytes);
      return inParts(count, async (names) => {
        await client.query(users, [model, names]);
        return (await client.query(grants, [model, names, box])).rowCount ?? 0;
      });
    },
    settle: async () => {
      await client.query("vacuum (analyze) grants, users");
      await client.query("checkpoint");
      const { rows } = await client.query<{ n: string }>("select pg_database_size(current_database()) as n");
      return Number(rows[0]?.n);
    },
    close: () => client.end(),
  };
}

/** Throws when a part of the names came to fewer rows, as without a model. */
async function inParts(count: number, insert: (names: string[]) => Promise<number>): Promise<void> {
  for (let left = count; left > 0; left -= AT_ONCE) {
    const names = Array.from({ length: Math.min(AT_ONCE, left) }, () => randomBytes(33).toString("hex"));
    const made = await insert(names);
    if (made !== names.length) throw new Error(`${names.length} grants were to be filled in, not ${made}`);
  }
}
