import { join } from "node:path";
import type { TestHarness } from "wrangler";
import type { D1 } from "../../src/store/d1.ts";
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

const configPath = join(import.meta.dirname, "../../wrangler.toml");

export async function createWorkerWorld(
  options: { model?: ScriptedModel; env?: Record<string, string> } = {},
): Promise<WorkerWorld> {
  const { createTestHarness } = await import("wrangler");
  const keyring = `k1:${Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64")}`;
  const workersAt = (publicUrl: string) => [
    {
      configPath,
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
  // Where it listens is known only when it does.
  const harness = createTestHarness({ workers: workersAt("http://127.0.0.1:9") });
  const { origin: url } = (await harness.listen()).url;
  await harness.update({ workers: workersAt(url) });
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

/** The same as a `TestWorld`, without what is not to be had of a Worker: its inside, its clock and its disk. */
export async function createWorkerTestWorld(options: {
  model?: ScriptedModel;
  env?: Record<string, string>;
}): Promise<TestWorld> {
  const { url, rest, connect, runtime, logs, stop } = await createWorkerWorld(options);
  const none = (): never => {
    throw new Error("a Worker has none of this: such tests are for Node alone");
  };
  return {
    url,
    rest,
    connect,
    runtime,
    stop,
    madeKey: null,
    advance: none,
    databaseBytes: none,
    get logs() {
      return logs();
    },
    get world() {
      return none();
    },
    get folder() {
      return none();
    },
  };
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
