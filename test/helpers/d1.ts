import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import type { D1, D1Statement } from "../../src/store/d1.ts";
import { readMigrations } from "../../src/store/migrate.node.ts";
import type { Asked, Bytes, Told } from "./d1-worker.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Gives each who asks an empty D1 database, in one workerd for the whole run, which begins with the first who asks. */
    d1Url: string;
  }
}

/** How many databases there are in a run. */
const DATABASES = 100;

/** Before the first test: nothing is started yet. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  let given = 0;
  let starting: Promise<Awaited<ReturnType<typeof startWorkerd>>> | null = null;
  const server = createServer((_, response) => {
    starting ??= startWorkerd();
    void starting.then(
      ({ url }) => response.end(`${url}DB${given++}`),
      (error: unknown) => response.writeHead(500).end(String(error)),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  project.provide("d1Url", `http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  return async () => {
    server.close();
    await (await starting)?.stop();
  };
}

async function startWorkerd(): Promise<{ url: URL; stop: () => Promise<void> }> {
  // Read by those alone who want a database: it takes a second.
  const { createTestHarness } = await import("wrangler");
  const harness = createTestHarness({
    workers: [
      {
        config: {
          name: "d1",
          main: join(import.meta.dirname, "d1-worker.ts"),
          compatibility_date: "2026-10-01",
          send_metrics: false,
          d1_databases: Array.from({ length: DATABASES }, (_, at) => ({
            binding: `DB${at}`,
            database_name: `db${at}`,
            database_id: `${at}`,
          })),
        },
      },
    ],
  });
  const { url } = await harness.listen();
  return { url, stop: () => harness.close() };
}

/** An empty D1 database, as the binding of a Worker would be. */
export async function createD1(): Promise<D1> {
  const { inject } = await import("vitest");
  const answer = await fetch(inject("d1Url"));
  const said = await answer.text();
  if (!answer.ok) throw new Error(said);
  return bindingOf(said);
}

/** What wrangler does with the folder `drizzle/sqlite`. */
export async function migrateD1(d1: D1, folder: string): Promise<void> {
  const statements = readMigrations(folder).flatMap((migration) => migration.statements);
  await d1.batch(statements.map((sql) => d1.prepare(sql)));
}

function bindingOf(url: string): D1 {
  const parts = new WeakMap<object, Asked["statements"][number]>();
  const ask = async (mode: Asked["mode"], statements: D1Statement[]) => {
    const asked = { mode, statements: statements.map((statement) => parts.get(statement)) };
    const answer = await fetch(url, { method: "POST", body: JSON.stringify(asked) });
    const told = (await answer.json()) as Told;
    if (told.ok) return told.value;
    throw Object.assign(new Error(told.message), { name: told.name });
  };
  const statement = (sql: string, params: unknown[]): D1Statement => {
    const made = {
      bind: (...values: unknown[]) => statement(sql, values.map(write)),
      all: async () => (await ask("all", [made])) as Awaited<ReturnType<D1Statement["all"]>>,
      raw: () => ask("raw", [made]),
      run: () => ask("all", [made]),
    };
    parts.set(made, { sql, params });
    return made;
  };
  return {
    prepare: (sql) => statement(sql, []),
    batch: async (statements) => (await ask("batch", statements)) as unknown[],
  };
}

function write(value: unknown): unknown {
  if (!(value instanceof Uint8Array)) return value;
  return { base64: Buffer.from(value).toString("base64") } satisfies Bytes;
}
