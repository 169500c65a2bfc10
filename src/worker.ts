import journal from "../drizzle/sqlite/meta/_journal.json" with { type: "json" };
import manifest from "../package.json" with { type: "json" };
import { ConfigError } from "./config.ts";
import { parseWorkerConfig } from "./config-worker.ts";
import { isRefusal } from "./core/errors.ts";
import { createUnderWay } from "./core/joined.ts";
import type { Log } from "./core/ports.ts";
import { KeyringError } from "./secrets/keyring.ts";
import { SecretSourcesError } from "./secrets/secret-sources.ts";
import type { D1 } from "./store/d1.ts";
import { systemClock } from "./system-clock.ts";
import { EgressAllowError } from "./upstream/egress-allow.ts";
import { createLives, LIFE_MS, type Life } from "./worker-life.ts";
import { openWorker, type WorkerBroker } from "./worker-world.ts";

// The door on Cloudflare Workers. See docs/workers.md.

/** What wrangler.toml and `wrangler secret put` give: the database, and settings by their names. */
type Bindings = Record<string, unknown> & { DB?: D1 };

// An isolate has nothing that begins before its first request: the broker is made then, once for its bindings, and a failure is tried
// again by the next. The only state of a module in this house.
const brokers = new WeakMap<object, WorkerBroker>();
const opening = createUnderWay<object, WorkerBroker>({ ...systemClock, cutsAfterMs: LIFE_MS });
const lives = createLives();

/** The beginning may end with the request that it was made for: others do not wait for it any longer than this. */
const OPEN_MS = 10_000;

export default {
  fetch: (request: Request, bindings: Bindings, life: Life): Promise<Response> =>
    lives.within(life, async () => {
      const broker = await brokerOf(bindings).catch((error: unknown) => notReady(error));
      return broker instanceof Response ? broker : broker.fetch(request);
    }),

  scheduled: (_: unknown, bindings: Bindings, life: Life): Promise<void> =>
    lives.beside(life, async () => {
      const broker = await brokerOf(bindings);
      await broker.sweep();
    }),
};

async function brokerOf(bindings: Bindings): Promise<WorkerBroker> {
  // The bindings' own identity may be new for every request; the database's is not.
  const key = bindings.DB ?? bindings;
  const known = brokers.get(key);
  if (known) return known;
  const begin = async () => {
    const opened = await lives.keep(open(bindings));
    // One that took longer than others waited for it.
    const broker = brokers.get(key) ?? opened;
    brokers.set(key, broker);
    return broker;
  };
  return opening.join(key, { begin, withinMs: OPEN_MS });
}

async function open(bindings: Bindings): Promise<WorkerBroker> {
  const config = parseWorkerConfig(bindings);
  const d1 = bindings.DB;
  if (!d1) throw new ConfigError([{ name: "DB", message: "is required: a D1 database in wrangler.toml" }]);
  return openWorker(config, {
    bindings,
    d1,
    migrations: journal.entries.map(({ tag }) => tag),
    version: manifest.version,
    keep: lives.keep,
    log: consoleLog(config.logLevel),
  });
}

/** Strangers ask here, too: what is wrong with the settings is in the log alone. */
function notReady(error: unknown): Response {
  console.error(JSON.stringify({ level: "error", event: "not_started", message: messageOf(error) }));
  const message = isRefusal(error, "unavailable")
    ? `Not ready: ${error.details.what}.`
    : "The broker cannot start: its log says why.";
  return Response.json(
    { error: { code: "unavailable", message, param: null, type: "server_error" } },
    { status: 503, headers: { "cache-control": "no-store" } },
  );
}

function explanationOf(error: unknown): string | null {
  if (error instanceof ConfigError || error instanceof KeyringError) return error.message;
  if (error instanceof EgressAllowError) return `CONSENTRY_EGRESS_ALLOW: ${error.message}`;
  if (error instanceof SecretSourcesError) return `CONSENTRY_SECRET_SOURCES: ${error.message}`;
  return isRefusal(error, "unavailable") ? error.details.what : null;
}

function messageOf(error: unknown): string {
  const explained = explanationOf(error);
  if (explained !== null) return explained;
  return error instanceof Error ? (error.stack ?? error.message) : "unknown";
}

const LEVELS = ["debug", "info", "warn", "error"] as const;

/** Structured, one line each, for Workers Logs. An error is told by its stack. */
function consoleLog(least: (typeof LEVELS)[number]): Log {
  return (level, event, fields = {}) => {
    if (LEVELS.indexOf(level) < LEVELS.indexOf(least)) return;
    const line = JSON.stringify({ level, event, ...fields }, (_, value: unknown) =>
      value instanceof Error ? { message: value.message, stack: value.stack } : value,
    );
    console[level](line);
  };
}
