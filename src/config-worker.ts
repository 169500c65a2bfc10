import { type Config, ConfigError, type ConfigFault, parseConfig } from "./config.ts";
import { isLoopback } from "./config-texts.ts";

/** The settings of a Worker: those of `Config` that mean something there, with what it cannot be without. */
export type WorkerConfig = Config & {
  publicUrl: string;
  adminKey: string;
  keyring: { kind: "inline"; text: string };
};

/** What a Worker has no use for, or cannot do, and why. */
const REFUSED: Record<string, string> = {
  CONSENTRY_HOST: "is not for Workers: Cloudflare listens",
  CONSENTRY_PORT: "is not for Workers: Cloudflare listens",
  CONSENTRY_TLS: "is not for Workers: Cloudflare speaks TLS",
  CONSENTRY_DATABASE_URL: "is not for Workers: the database is the D1 binding DB of wrangler.toml",
  CONSENTRY_AZURE:
    "is not for Workers: they have no managed identity and no files, so run the broker on Node",
  CONSENTRY_METRICS_HOST:
    "is not for Workers: nothing is counted over isolates, see Cloudflare's own metrics",
  CONSENTRY_METRICS_PORT:
    "is not for Workers: nothing is counted over isolates, see Cloudflare's own metrics",
  CONSENTRY_DRAIN_MS: "is not for Workers: they are never stopped",
  CONSENTRY_SHUTDOWN_MS: "is not for Workers: they are never stopped",
  OTEL_EXPORTER_OTLP_ENDPOINT: "is not for Workers: callers' traces are passed on, but no spans are sent",
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT:
    "is not for Workers: callers' traces are passed on, but no spans are sent",
};

/**
 * Reads the settings out of a Worker's bindings: variables and secrets are texts, and all else is none of our business.
 *
 * Throws `ConfigError` with every fault.
 */
export function parseWorkerConfig(bindings: Record<string, unknown>): WorkerConfig {
  const given = textsOf(bindings);
  const faults = Object.entries(REFUSED).flatMap(([name, message]) =>
    given[name]?.trim() ? [{ name, message }] : [],
  );
  const rest = Object.fromEntries(Object.entries(given).filter(([name]) => !(name in REFUSED)));
  faults.push(...lacking(rest), ...beyondWorkers(rest));
  const config = parsedOr(faults, rest);
  if (faults.length > 0 || !config || !isWhole(config)) throw new ConfigError(faults);
  return config;
}

/** Variables and secrets. */
export function textsOf(bindings: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(bindings).flatMap(([name, value]) =>
      typeof value === "string" ? [[name, value] as const] : [],
    ),
  );
}

function parsedOr(faults: ConfigFault[], given: Record<string, string>): Config | null {
  try {
    return parseConfig(given);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    // What is said already is said in a Worker's words.
    faults.push(...error.faults.filter(({ name }) => !faults.some((fault) => fault.name === name)));
    return null;
  }
}

function lacking(given: Record<string, string>): ConfigFault[] {
  const required = {
    CONSENTRY_PUBLIC_URL: "is required: the https origin under which this Worker is reached",
    CONSENTRY_ADMIN_KEY:
      "is required (openssl rand -base64 32 | npx wrangler secret put CONSENTRY_ADMIN_KEY)",
    CONSENTRY_KEYRING:
      'is required (echo "k1:$(openssl rand -base64 32)" | npx wrangler secret put CONSENTRY_KEYRING)',
  };
  return Object.entries(required).flatMap(([name, message]) =>
    given[name]?.trim() ? [] : [{ name, message }],
  );
}

function beyondWorkers(given: Record<string, string>): ConfigFault[] {
  const faults: ConfigFault[] = [];
  const { CONSENTRY_KEYRING: keyring, CONSENTRY_EGRESS_ALLOW: allow } = given;
  if (keyring && /^\s*(file:|https:|@Microsoft)/.test(keyring)) {
    const message = "must be id:base64[,id:base64…] in a Worker's secret: there are no files and no vaults";
    faults.push({ name: "CONSENTRY_KEYRING", message });
  }
  if (allow && entriesOf(allow).includes("*")) {
    const message =
      'must name hosts, not "*": a Worker does not see where a name leads, so it calls only whom you name';
    faults.push({ name: "CONSENTRY_EGRESS_ALLOW", message });
  }
  const lent = entriesOf(given["CONSENTRY_SECRET_SOURCES"] ?? "");
  if (lent.some((entry) => /=\s*(keyvault|file):/.test(entry))) {
    const message = "may lend env:NAME alone, which is a Worker's secret: there are no files and no vaults";
    faults.push({ name: "CONSENTRY_SECRET_SOURCES", message });
  }
  const hosts = entriesOf(given["CONSENTRY_ALLOWED_HOSTS"] ?? "").filter((entry) => entry !== "");
  if (isHere(given["CONSENTRY_PUBLIC_URL"] ?? "") && !hosts.every((host) => isHere(`http://${host}`))) {
    const message =
      "must be the origin under which others reach this Worker: on loopback the admin key may do everything, so CONSENTRY_ALLOWED_HOSTS may name loopback alone";
    faults.push({ name: "CONSENTRY_PUBLIC_URL", message });
  }
  return faults;
}

const isHere = (url: string) => isLoopback(URL.parse(url)?.hostname ?? "");

const entriesOf = (list: string) => list.split(",").map((entry) => entry.trim());

function isWhole(config: Config): config is WorkerConfig {
  return config.publicUrl !== null && config.adminKey !== null && config.keyring.kind === "inline";
}
