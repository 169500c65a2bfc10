import { join } from "node:path";
import { inject } from "vitest";
import type { TestHarness } from "wrangler";
import type { D1 } from "../../src/store/d1.ts";
import { startHttpServer } from "./http-server.ts";
import type { ScriptedModel } from "./model.ts";
import { ADMIN_KEY, faceOf, type LogLine, type TestWorld } from "./world.ts";

/** A whole broker as a Worker in workerd, with a D1 database of its own: the door of `wrangler deploy`. */
export type WorkerWorld = Pick<TestWorld, "url" | "rest" | "connect" | "runtime"> & {
  /** What it has logged since its start. */
  logs: () => LogLine[];
  /** Fires the cron. */
  cron: () => Promise<void>;
  /** Its isolate is gone from one moment to the next, with all that it had begun. The next request makes another, on the same database. */
  die: () => Promise<void>;
  /** Asks the database, past the broker. */
  sql: (query: string, ...params: unknown[]) => Promise<Record<string, unknown>[]>;
  stop: () => Promise<void>;
};

type Options = { model?: ScriptedModel; env?: Record<string, string> };

export async function createWorkerWorld(
  options: Options & { configPath?: string; prebuiltWorkerDir?: string } = {},
): Promise<WorkerWorld> {
  const { configPath = join(import.meta.dirname, "../../wrangler.toml"), prebuiltWorkerDir } = options;
  const { createTestHarness } = await import("wrangler");
  const keyring = `k1:${Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64")}`;
  const workersAt = (publicUrl: string) => [
    {
      configPath,
      ...(prebuiltWorkerDir !== undefined && { prebuiltWorkerDir }),
      // All as secrets: they count more than what a developer has in .dev.vars.
      secrets: {
        CONSENTRY_PUBLIC_URL: publicUrl,
        CONSENTRY_EGRESS_ALLOW: "loopback",
        CONSENTRY_ADMIN_KEY: ADMIN_KEY,
        CONSENTRY_KEYRING: keyring,
        ...(options.model && {
          CONSENTRY_MODEL_BASE_URL: options.model.baseUrl,
          CONSENTRY_MODEL_API_KEY: "model-key",
        }),
        ...options.env,
      },
    },
  ];
  // Where it listens is known only when it does. The one with a clock learns it from its first request, as a start costs seconds.
  const harness = createTestHarness({ workers: workersAt("http://127.0.0.1:9") });
  const { origin: url } = (await harness.listen()).url;
  if (prebuiltWorkerDir === undefined) await harness.update({ workers: workersAt(url) });
  await harness.getWorker().applyD1Migrations("DB");
  return {
    url,
    ...faceOf(url),
    logs: () => linesOf(harness),
    cron: async () => {
      await harness.getWorker().scheduled({ cron: "*/10 * * * *" });
    },
    die: () => harness.update({ workers: workersAt(url) }),
    sql: async (query, ...params) => {
      const { DB } = await harness.getWorker<{ DB: D1 }>().getEnv();
      const { results } = await DB.prepare(query)
        .bind(...params)
        .all();
      return results;
    },
    stop: () => harness.close(),
  };
}

/** The same as a `TestWorld`, with a clock that can be moved, and without what is not to be had of a Worker: its inside and its disk. */
export async function createWorkerTestWorld({ env, ...options }: Options): Promise<TestWorld> {
  let aheadMs = 0;
  const clock = await startHttpServer((_, response) => void response.end(String(aheadMs)));
  const folder = inject("clockedWorker");
  const world = await createWorkerWorld({
    ...options,
    env: { ...env, AHEAD_URL: clock.url },
    configPath: join(folder, "wrangler.toml"),
    prebuiltWorkerDir: join(folder, "built"),
  });
  const none = (): never => {
    throw new Error("a Worker has none of this: such tests are for Node alone");
  };
  return {
    ...world,
    madeKey: null,
    databaseBytes: () => dumpOf(world),
    advance: (ms) => {
      aheadMs += ms;
    },
    stop: async () => {
      await world.stop();
      await clock.stop();
    },
    get logs() {
      return world.logs();
    },
    get world() {
      return none();
    },
    get folder() {
      return none();
    },
  };
}

/** Every value of every table. */
async function dumpOf({ sql }: WorkerWorld): Promise<Buffer> {
  const tables = await sql(
    "select name from sqlite_master where type = 'table' and name not like '\\_%' escape '\\'",
  );
  const rows = await Promise.all(tables.map(({ name }) => sql(`select * from "${String(name)}"`)));
  const values = rows.flat().flatMap((row) => Object.values(row));
  return Buffer.concat(
    values.map((value) => Buffer.from(Array.isArray(value) ? Uint8Array.from(value) : String(value))),
  );
}

function linesOf(harness: TestHarness): LogLine[] {
  return harness.getLogs().flatMap(({ message }) => {
    try {
      const { level, event, ...fields } = JSON.parse(message);
      return [{ level, event, fields }];
    } catch {
      // What the runtime itself has to say.
      return [{ level: "runtime", event: message, fields: {} }];
    }
  });
}
