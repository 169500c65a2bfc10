import { z } from "zod";
import { hostnameOf, isLoopback, isOrigin, isUrl, pathOf, shown } from "./config-texts.ts";
import { type AzureSettings, parseAzure } from "./config-azure.ts";
import { parseTraces, type TraceSettings } from "./config-traces.ts";

/** The operator's settings, parsed and checked against each other. See docs/configuration.md. */
export type Config = {
  /** A bare host: an IPv6 address has no brackets here. */
  host: string;
  /** 0: any free one. */
  port: number;
  /** An origin without a slash at its end. Null: unset, and then it follows from host and port; see `publicUrlOf`. */
  publicUrl: string | null;
  /** Whether both host and public URL are loopback: the laptop, with its defaults. */
  local: boolean;
  /** `development`: a certificate of our own making, on loopback only. `files`: paths of PEM files. */
  tls: { kind: "off" } | { kind: "development" } | { kind: "files"; cert: string; key: string };
  database: { kind: "sqlite"; path: string } | { kind: "postgres"; url: string };
  /** The bootstrap key. Null: made at the first start, which happens on loopback only. */
  adminKey: string | null;
  /** `create`: make the file when it is missing, which happens on loopback only. */
  keyring:
    | { kind: "inline"; text: string }
    | { kind: "file"; path: string; create: boolean }
    /** `secret`: a vault's secret by its identifier, without a version. */
    | { kind: "vault"; secret: string };
  /** The list of `CONSENTRY_SECRET_SOURCES`, not yet read; empty: nothing is lent. */
  secretSources: string;
  /** The list of `CONSENTRY_EGRESS_ALLOW`, not yet read; empty: nothing beyond the public internet. */
  egressAllow: string;
  model: { baseUrl: string; apiKey: string | null; api: "chat" | "responses" } | null;
  /** Microsoft Entra identities. `file`: the path of a file that `parseAzure` reads. Null: there are none. */
  azure: { kind: "inline"; settings: AzureSettings } | { kind: "file"; path: string } | null;
  consentProof: "sign-in" | "runtime" | "possession" | null;
  /** Projects that may use the proof `possession` off loopback. */
  allowPossession: string[];
  audit: "batched" | "sync";
  logLevel: "debug" | "info" | "warn" | "error";
  /** More authorities (`host` or `host:port`, lower case) that requests may name in `Host`. */
  allowedHosts: string[];
  /** Requests per minute; 0: unlimited. */
  rateLimits: { perCaller: number; perAddress: number };
  /** Where metrics are served to whoever asks. Null: nowhere. `port` 0: any free one. */
  metrics: { host: string; port: number } | null;
  /** Where spans are sent. Null: nowhere, and the traces of callers are passed on as they come. */
  traces: TraceSettings | null;
  /** How long a stop takes; for the first `drainMs` of it requests are still taken. */
  shutdownMs: number;
  drainMs: number;
};

/** One wrong setting. `message` never holds the value: it may be a secret. */
export type ConfigFault = { name: string; message: string };

/** All that is wrong with a configuration, at once. */
export class ConfigError extends Error {
  readonly faults: readonly ConfigFault[];
  constructor(faults: readonly ConfigFault[]) {
    const lines = faults.map(({ name, message }) => `\n  ${name} ${message}`);
    super(
      `The configuration has ${faults.length === 1 ? "a fault" : `${faults.length} faults`}:${lines.join("")}`,
    );
    this.name = "ConfigError";
    this.faults = faults;
  }
}

const wholeNumber = (min: number, max: number) => {
  const message = `must be a whole number from ${min} to ${max}`;
  return z
    .string()
    .regex(/^\d{1,9}$/, message)
    .transform(Number)
    .refine((value) => value >= min && value <= max, message);
};
const oneOf = <const V extends readonly [string, ...string[]]>(...values: V) =>
  z.enum(values, `must be ${values.map((value) => `"${value}"`).join(" or ")}`);
const list = (isEntry: (entry: string) => boolean, message: string) =>
  z
    .string()
    .transform((text) => text.split(",").map((entry) => entry.trim()))
    .transform((entries) => entries.filter((entry) => entry !== ""))
    .refine((entries) => entries.every(isEntry), message);
const unsupported = (message: string) => z.string().refine(() => false, message);

const bareHost = z
  .string()
  .transform((text) => text.replace(/^\[(.*)\]$/, "$1"))
  .refine((host) => hostnameOf(host) !== null, "must be a host name or an IP address, without a port")
  .prefault("127.0.0.1");

/** Every setting by name. What depends on other settings is optional here and decided in `parseConfig`. */
export const settings = z.object({
  CONSENTRY_HOST: bareHost,
  CONSENTRY_PORT: wholeNumber(0, 65_535).prefault("8787"),
  CONSENTRY_PUBLIC_URL: z
    .string()
    .refine(isOrigin, "must be an http(s) origin without a path, such as https://broker.example.com")
    .transform((text) => new URL(text).origin)
    .optional(),
  CONSENTRY_DATABASE_URL: z
    .string()
    .refine(
      (text) => pathOf(text) !== null || isUrl(text, "postgres:", "postgresql:"),
      "must be file:<path> or postgres://user:password@host/database",
    )
    .prefault("file:./data/consentry.db"),
  CONSENTRY_ADMIN_KEY: z
    .string()
    .regex(/^[\x21-\x7e]{8,512}$/, "must be 8 to 512 printable characters without blanks")
    .optional(),
  CONSENTRY_KEYRING: z
    .string()
    .refine((text) => !VAULT_VERSION.test(text), {
      error: "must name the secret without a version: the broker reads all that are enabled",
      abort: true,
    })
    .refine(
      (text) => pathOf(text) !== null || KEYRING.test(text) || secretOf(text) !== null,
      'must be id:base64[,id:base64…] with keys of 32 bytes, file:<path>, or https://<vault>/secrets/<name> (echo "k1:$(openssl rand -base64 32)")',
    )
    .optional(),
  CONSENTRY_SECRET_SOURCES: z.string().prefault(""),
  CONSENTRY_EGRESS_ALLOW: z
    .string()
    .transform((text) => (text === "none" ? "" : text))
    .optional(),
  CONSENTRY_MODEL_BASE_URL: z
    .string()
    .refine(
      (text) => isUrl(text, "http:", "https:"),
      "must be an http(s) URL, such as https://api.openai.com/v1",
    )
    .optional(),
  CONSENTRY_MODEL_API_KEY: z
    .string()
    .regex(/^[\x21-\x7e]+$/, "must be printable characters without blanks")
    .optional(),
  CONSENTRY_MODEL_API: oneOf("chat", "responses").prefault("chat"),
  CONSENTRY_AZURE: z
    .string()
    .superRefine((text, context) => {
      if (pathOf(text) !== null) return;
      for (const message of parseAzure(text).faults) context.addIssue({ code: "custom", message });
    })
    .optional(),
  CONSENTRY_CONSENT_PROOF: oneOf("sign-in", "runtime", "possession").optional(),
  CONSENTRY_ALLOW_POSSESSION: list(
    (name) => /^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$/.test(name),
    "must be a comma list of project names",
  ).prefault(""),
  CONSENTRY_AUDIT: oneOf("batched", "sync").prefault("batched"),
  CONSENTRY_TLS: z
    .string()
    .refine((text) => tlsOf(text) !== null, 'must be "off", "development" or two files, cert.pem,key.pem')
    .prefault("off"),
  CONSENTRY_DEV_IDENTITY: unsupported("is not supported by this version").optional(),
  CONSENTRY_LOG_LEVEL: oneOf("debug", "info", "warn", "error").prefault("info"),
  CONSENTRY_ALLOWED_HOSTS: list(
    (host) => /^[^/?#@\s]+$/.test(host) && URL.canParse(`http://${host}`),
    "must be a comma list of host or host:port",
  )
    .transform((hosts) => hosts.map((host) => host.toLowerCase()))
    .prefault(""),
  CONSENTRY_RATE_LIMIT: wholeNumber(0, 10_000_000).optional(),
  CONSENTRY_RATE_LIMIT_ADDRESS: wholeNumber(0, 10_000_000).optional(),
  CONSENTRY_METRICS_HOST: bareHost,
  CONSENTRY_METRICS_PORT: wholeNumber(0, 65_535).optional(),
  CONSENTRY_SHUTDOWN_MS: wholeNumber(0, 600_000).prefault("25000"),
  CONSENTRY_DRAIN_MS: wholeNumber(0, 600_000).optional(),
});

type Settings = z.infer<typeof settings>;
type Given = Record<string, string>;

/**
 * Reads the settings out of an environment. Empty values count as unset. Names that do not begin with `CONSENTRY_` are
 * none of our business, but for those of OpenTelemetry; names that do and are unknown are faults.
 *
 * Throws `ConfigError` with every fault.
 */
export function parseConfig(env: Record<string, string | undefined>): Config {
  const given: Given = {};
  for (const [name, value] of Object.entries(env)) {
    if (name.startsWith("CONSENTRY_") && value?.trim()) given[name] = value.trim();
  }
  const parsed = settings.safeParse(given);
  const faults = [...unknownNames(given), ...(parsed.error?.issues ?? []).map(faultOf)];
  // What was wrong on its own is left out, so that what the rest has to say to each other is heard as well.
  const values = parsed.data ?? settings.parse(without(given, faults));
  const { traces, faults: traceFaults } = parseTraces(env);
  faults.push(...contradictions(values, given), ...traceFaults);
  if (faults.length > 0) throw new ConfigError(faults);
  return { ...configOf(values), traces };
}

/** The public URL, given or not. `port`: the one that the listener got. */
export function publicUrlOf({ publicUrl, host, tls }: Config, port: number): string {
  if (publicUrl !== null) return publicUrl;
  const scheme = tls.kind === "off" ? "http" : "https";
  return new URL(`${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}`).origin;
}

/** The URLs that egress rules do not govern (DESIGN 12), to be printed at start: without passwords and queries. */
export function operatorUrls({ database, keyring, model, traces }: Config): { name: string; url: string }[] {
  const urls: { name: string; url: string }[] = [];
  if (keyring.kind === "vault") urls.push({ name: "CONSENTRY_KEYRING", url: keyring.secret });
  if (database.kind === "postgres") urls.push({ name: "CONSENTRY_DATABASE_URL", url: shown(database.url) });
  if (model) urls.push({ name: "CONSENTRY_MODEL_BASE_URL", url: shown(model.baseUrl) });
  if (traces) urls.push({ name: "OTEL_EXPORTER_OTLP_ENDPOINT", url: shown(traces.url) });
  return urls;
}

function configOf(values: Settings): Omit<Config, "traces"> {
  const local = isLocal(values);
  const publicUrl = values.CONSENTRY_PUBLIC_URL ?? null;
  return {
    host: values.CONSENTRY_HOST,
    port: values.CONSENTRY_PORT,
    publicUrl,
    local,
    tls: tlsOf(values.CONSENTRY_TLS) ?? { kind: "off" },
    database: databaseOf(values),
    adminKey: values.CONSENTRY_ADMIN_KEY ?? null,
    keyring: keyringOf(values),
    secretSources: values.CONSENTRY_SECRET_SOURCES,
    egressAllow: values.CONSENTRY_EGRESS_ALLOW ?? (local && publicUrl === null ? "loopback" : ""),
    model: values.CONSENTRY_MODEL_BASE_URL
      ? {
          baseUrl: values.CONSENTRY_MODEL_BASE_URL,
          apiKey: values.CONSENTRY_MODEL_API_KEY ?? null,
          api: values.CONSENTRY_MODEL_API,
        }
      : null,
    azure: azureOf(values),
    consentProof: values.CONSENTRY_CONSENT_PROOF ?? (local ? "possession" : null),
    allowPossession: values.CONSENTRY_ALLOW_POSSESSION,
    audit: values.CONSENTRY_AUDIT,
    logLevel: values.CONSENTRY_LOG_LEVEL,
    allowedHosts: values.CONSENTRY_ALLOWED_HOSTS,
    rateLimits: {
      perCaller: values.CONSENTRY_RATE_LIMIT ?? (local ? 0 : 6000),
      perAddress: values.CONSENTRY_RATE_LIMIT_ADDRESS ?? (local ? 0 : 300),
    },
    metrics: metricsOf(values),
    shutdownMs: values.CONSENTRY_SHUTDOWN_MS,
    drainMs: Math.min(values.CONSENTRY_DRAIN_MS ?? (local ? 0 : 5000), values.CONSENTRY_SHUTDOWN_MS),
  };
}

function databaseOf({ CONSENTRY_DATABASE_URL: url }: Settings): Config["database"] {
  const path = pathOf(url);
  return path === null ? { kind: "postgres", url } : { kind: "sqlite", path };
}

function metricsOf(values: Settings): Config["metrics"] {
  const { CONSENTRY_METRICS_HOST: host, CONSENTRY_METRICS_PORT: port } = values;
  return port === undefined ? null : { host, port };
}

/** Null: it is none of the three. */
function tlsOf(text: string): Config["tls"] | null {
  if (text === "off" || text === "development") return { kind: text };
  const [cert, key, ...more] = text.split(",").map((path) => path.trim());
  return cert && key && more.length === 0 ? { kind: "files", cert, key } : null;
}

function keyringOf(values: Settings): Config["keyring"] {
  const text = values.CONSENTRY_KEYRING;
  const database = databaseOf(values);
  if (text === undefined) {
    return { kind: "file", path: database.kind === "sqlite" ? `${database.path}.keyring` : "", create: true };
  }
  const path = pathOf(text);
  if (path !== null) return { kind: "file", path, create: false };
  const secret = secretOf(text);
  return secret === null ? { kind: "inline", text } : { kind: "vault", secret };
}

/** Azure's secret identifier, or an app setting's reference to one (`secrets/secret-ids` reads what is in it). Null: neither. */
function secretOf(text: string): string | null {
  const [, url, origin] = VAULT_SECRET.exec(text) ?? [];
  return url !== undefined && URL.canParse(origin ?? "") ? url : null;
}

function azureOf({ CONSENTRY_AZURE: text }: Settings): Config["azure"] {
  if (text === undefined) return null;
  const path = pathOf(text);
  if (path !== null) return { kind: "file", path };
  const read = parseAzure(text);
  return "settings" in read ? { kind: "inline", settings: read.settings } : null;
}

/** What settings have to say to each other. A setting that is wrong on its own counts as given. */
function contradictions(values: Settings, given: Given): ConfigFault[] {
  const faults: ConfigFault[] = [];
  const wants = (name: string, message: string) => {
    if (given[name] === undefined) faults.push({ name, message });
  };
  if (!isLocal(values)) {
    const why = isLoopback(values.CONSENTRY_HOST) ? "with a public URL off loopback" : "off loopback";
    const publicUrl = values.CONSENTRY_PUBLIC_URL;
    wants("CONSENTRY_PUBLIC_URL", "is required when listening off loopback");
    if (publicUrl?.startsWith("http:")) {
      faults.push({ name: "CONSENTRY_PUBLIC_URL", message: `must be https ${why}` });
    }
    wants("CONSENTRY_ADMIN_KEY", `is required ${why} (openssl rand -base64 32)`);
    if (values.CONSENTRY_ADMIN_KEY !== undefined && !isRandom(values.CONSENTRY_ADMIN_KEY)) {
      const message = `must be 32 random bytes or more ${why}, in at least 43 characters (openssl rand -base64 32)`;
      faults.push({ name: "CONSENTRY_ADMIN_KEY", message });
    }
    wants("CONSENTRY_KEYRING", `is required ${why} (echo "k1:$(openssl rand -base64 32)")`);
    if (values.CONSENTRY_CONSENT_PROOF === "possession") {
      wants(
        "CONSENTRY_ALLOW_POSSESSION",
        `must name the projects that may use the proof "possession" ${why}`,
      );
    }
    if (values.CONSENTRY_TLS === "development") {
      const message = `must not be "development" ${why}: give cert.pem,key.pem, or put a TLS proxy in front`;
      faults.push({ name: "CONSENTRY_TLS", message });
    }
  } else {
    if (databaseOf(values).kind === "postgres")
      wants("CONSENTRY_KEYRING", "is required with a postgres database: there is no file to put one beside");
    if (values.CONSENTRY_TLS !== "off" && values.CONSENTRY_PUBLIC_URL?.startsWith("http:"))
      faults.push({ name: "CONSENTRY_PUBLIC_URL", message: "must be https with CONSENTRY_TLS" });
  }
  for (const name of ["CONSENTRY_MODEL_API_KEY", "CONSENTRY_MODEL_API"]) {
    if (given[name] !== undefined) wants("CONSENTRY_MODEL_BASE_URL", `is required with ${name}`);
  }
  const { CONSENTRY_METRICS_PORT: metricsPort } = values;
  if (metricsPort && metricsPort === values.CONSENTRY_PORT)
    faults.push({ name: "CONSENTRY_METRICS_PORT", message: "must be another port than CONSENTRY_PORT" });
  return faults;
}

/** As far as can be told: long enough for 32 bytes in base64, and not one key pressed many times. */
function isRandom(key: string): boolean {
  return key.length >= 43 && new Set(key).size >= 10;
}

function isLocal({ CONSENTRY_HOST: host, CONSENTRY_PUBLIC_URL: publicUrl }: Settings): boolean {
  return isLoopback(host) && (publicUrl === undefined || isLoopback(new URL(publicUrl).hostname));
}

const KEYRING =
  /^[A-Za-z0-9._-]{1,32}:[A-Za-z0-9+/_-]{43}=?(\s*,\s*[A-Za-z0-9._-]{1,32}:[A-Za-z0-9+/_-]{43}=?)*$/;

const VAULT_SECRET =
  /^(?:@Microsoft\.KeyVault\(SecretUri=)?((https:\/\/[^/?#@\\\s]+)\/secrets\/[0-9A-Za-z-]{1,127})\/?\)?$/;
const VAULT_VERSION = /^[^?#]*\/secrets\/[0-9A-Za-z-]+\/[0-9A-Fa-f]{32}\)?$/;

function faultOf(issue: z.core.$ZodIssue): ConfigFault {
  return { name: String(issue.path[0]), message: issue.message };
}

function without(given: Given, faults: ConfigFault[]): Given {
  return Object.fromEntries(
    Object.entries(given).filter(([name]) => !faults.some((fault) => fault.name === name)),
  );
}

function unknownNames(given: Given): ConfigFault[] {
  const known = Object.keys(settings.shape);
  return Object.keys(given)
    .filter((name) => !known.includes(name))
    .map((name) => {
      const [nearest] = known
        .map((other) => ({ other, distance: editDistance(name, other) }))
        .toSorted((a, b) => a.distance - b.distance);
      const isNear = nearest && nearest.distance <= MAX_TYPO;
      return { name, message: isNear ? `is unknown; did you mean ${nearest.other}?` : "is unknown" };
    });
}

const MAX_TYPO = 4;

/** Levenshtein's distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
