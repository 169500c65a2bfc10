// A Worker that lends its D1 databases to tests, which run on Node: what they ask for, and what the binding says, as JSON.

type Statement = { sql: string; params: unknown[] };
export type Asked = { mode: "all" | "raw" | "batch"; statements: Statement[] };
export type Told = { ok: true; value: unknown } | { ok: false; name: string; message: string };

/** Bytes in JSON. D1 itself gives bytes as arrays of numbers. */
export type Bytes = { base64: string };

type Bound = { bind: (...params: unknown[]) => Bound; all: () => unknown; raw: () => unknown };
type Database = { prepare: (sql: string) => Bound; batch: (statements: Bound[]) => unknown };

export default {
  fetch: async (request: Request, env: Record<string, Database>): Promise<Response> => {
    const database = env[new URL(request.url).pathname.slice(1)];
    if (!database) return Response.json({ ok: false, name: "Error", message: "no such database" });
    return Response.json(await told(database, await request.json()));
  },
};

async function told(database: Database, { mode, statements }: Asked): Promise<Told> {
  try {
    const bound = statements.map(({ sql, params }) => database.prepare(sql).bind(...params.map(read)));
    const [first] = bound;
    if (mode === "batch" || !first) return { ok: true, value: await database.batch(bound) };
    return { ok: true, value: await first[mode]() };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return { ok: false, name: error.name, message: error.message };
  }
}

function read(param: unknown): unknown {
  if (typeof param !== "object" || param === null) return param;
  const { base64 } = param as Bytes;
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}
