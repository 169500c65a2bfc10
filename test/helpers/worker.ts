import { join } from "node:path";
import type { TestHarness } from "wrangler";
import type { ScriptedModel } from "./model.ts";
import { ADMIN_KEY, faceOf, type LogLine, type TestWorld } from "./world.ts";

/** A whole broker as a Worker in workerd, with a D1 database of its own: the door of `wrangler deploy`. */
export type WorkerWorld = Pick<TestWorld, "url" | "rest" | "connect" | "runtime"> & {
  /** What it has logged since its start. */
  logs: () => LogLine[];
  /** Fires the cron. */
  cron: () => Promise<void>;
  stop: () => Promise<void>;
};

const configPath = join(import.meta.dirname, "../../wrangler.toml");

/** The same with another door, which is a file. */
const configWith = (main: string) => ({
  name: "consentry",
  main,
  compatibility_date: "2026-10-01",
  compatibility_flags: ["nodejs_als", "enable_request_signal"],
  send_metrics: false,
  d1_databases: [
    {
      binding: "DB",
      database_name: "consentry",
      database_id: "00000000-0000-0000-0000-000000000000",
      migrations_dir: join(import.meta.dirname, "../../drizzle/sqlite"),
    },
  ],
});

export async function createWorkerWorld(
  options: { model?: ScriptedModel; env?: Record<string, string>; door?: string } = {},
): Promise<WorkerWorld> {
  const { createTestHarness } = await import("wrangler");
  const workersAt = (publicUrl: string) => [
    {
      ...(options.door === undefined ? { configPath } : { config: configWith(options.door) }),
      // All as secrets: they count more than what a developer has in .dev.vars.
      secrets: {
        CONSENTRY_PUBLIC_URL: publicUrl,
        CONSENTRY_EGRESS_ALLOW: "loopback",
        CONSENTRY_ADMIN_KEY: ADMIN_KEY,
        CONSENTRY_KEYRING: `k1:${Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64")}`,
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
