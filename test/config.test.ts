import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { ConfigError, operatorUrls, parseConfig, publicUrlOf, settings } from "../src/config.ts";

const KEY = "q".repeat(30) + "0123456789abcdefghijk";
const KEYRING = `k1:${Buffer.from(Array.from({ length: 32 }, (_, at) => at)).toString("base64")}`;
const served = {
  CONSENTRY_HOST: "0.0.0.0",
  CONSENTRY_PUBLIC_URL: "https://broker.example.com",
  CONSENTRY_ADMIN_KEY: KEY,
  CONSENTRY_KEYRING: KEYRING,
};

function faultsOf(env: Record<string, string | undefined>): string[] {
  try {
    parseConfig(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.faults.map(({ name, message }) => `${name} ${message}`);
    throw error;
  }
  return [];
}

describe("without any setting", () => {
  test("it is a laptop's broker", () => {
    expect(parseConfig({ PATH: "/bin", HOME: "/root" })).toEqual({
      host: "127.0.0.1",
      port: 8787,
      publicUrl: null,
      local: true,
      tls: { kind: "off" },
      database: { kind: "sqlite", path: "./data/consentry.db" },
      adminKey: null,
      keyring: { kind: "file", path: "./data/consentry.db.keyring", create: true },
      secretSources: "",
      egressAllow: "loopback",
      model: null,
      azure: null,
      consentProof: "possession",
      allowPossession: [],
      audit: "batched",
      logLevel: "info",
      allowedHosts: [],
      rateLimits: { perCaller: 0, perAddress: 0 },
      metrics: null,
      traces: null,
      shutdownMs: 25_000,
      drainMs: 0,
    });
  });

  test("empty values count as unset", () => {
    expect(
      parseConfig({ CONSENTRY_PORT: "", CONSENTRY_MODEL_BASE_URL: " ", CONSENTRY_TLS: undefined }),
    ).toEqual(parseConfig({}));
  });
});

test("requests are taken for no longer than a stop takes", () => {
  expect(parseConfig({ CONSENTRY_SHUTDOWN_MS: "300", CONSENTRY_DRAIN_MS: "9000" }).drainMs).toBe(300);
  expect(parseConfig({ ...served, CONSENTRY_SHUTDOWN_MS: "0" }).drainMs).toBe(0);
});

describe("off loopback", () => {
  test("it is a served broker with limits and without laptop defaults", () => {
    expect(parseConfig(served)).toMatchObject({
      host: "0.0.0.0",
      publicUrl: "https://broker.example.com",
      local: false,
      adminKey: KEY,
      keyring: { kind: "inline", text: KEYRING },
      egressAllow: "",
      consentProof: null,
      rateLimits: { perCaller: 6000, perAddress: 300 },
      drainMs: 5_000,
    });
  });

  test("public URL, admin key and keyring are required, all named at once", () => {
    expect(faultsOf({ CONSENTRY_HOST: "0.0.0.0" })).toEqual([
      "CONSENTRY_PUBLIC_URL is required when listening off loopback",
      "CONSENTRY_ADMIN_KEY is required off loopback (openssl rand -base64 32)",
      'CONSENTRY_KEYRING is required off loopback (echo "k1:$(openssl rand -base64 32)")',
    ]);
  });

  test.each(["laptop-key", KEY.slice(0, 42), "a".repeat(64)])("the admin key %s is too weak", (key) => {
    expect(faultsOf({ ...served, CONSENTRY_ADMIN_KEY: key })).toHaveLength(1);
    expect(parseConfig({ CONSENTRY_ADMIN_KEY: key }).adminKey).toBe(key);
  });

  test("a loopback listener behind a public proxy is off loopback, too", () => {
    const proxied = { ...served, CONSENTRY_HOST: "127.0.0.1" };
    expect(parseConfig(proxied)).toMatchObject({
      local: false,
      egressAllow: "",
      rateLimits: { perCaller: 6000 },
    });
    expect(faultsOf({ CONSENTRY_PUBLIC_URL: "http://broker.example.com" })).toEqual([
      "CONSENTRY_PUBLIC_URL must be https with a public URL off loopback",
      "CONSENTRY_ADMIN_KEY is required with a public URL off loopback (openssl rand -base64 32)",
      'CONSENTRY_KEYRING is required with a public URL off loopback (echo "k1:$(openssl rand -base64 32)")',
    ]);
  });

  test("the public URL must be https even when it says localhost", () => {
    expect(faultsOf({ ...served, CONSENTRY_PUBLIC_URL: "http://localhost:8787" })).toEqual([
      "CONSENTRY_PUBLIC_URL must be https off loopback",
    ]);
  });

  test("possession needs projects by name", () => {
    const possession = { ...served, CONSENTRY_CONSENT_PROOF: "possession" };
    expect(faultsOf(possession)).toEqual([
      'CONSENTRY_ALLOW_POSSESSION must name the projects that may use the proof "possession" off loopback',
    ]);
    expect(parseConfig({ ...possession, CONSENTRY_ALLOW_POSSESSION: "demo, ci" })).toMatchObject({
      consentProof: "possession",
      allowPossession: ["demo", "ci"],
    });
  });
});

describe("which hosts are loopback", () => {
  test.each([
    "127.0.0.1",
    "127.9.9.9",
    "localhost",
    "LOCALHOST",
    "app.localhost",
    "::1",
    "[::1]",
    "0:0:0:0:0:0:0:1",
  ])("%s is", (host) => {
    expect(parseConfig({ CONSENTRY_HOST: host }).local).toBe(true);
  });

  test.each(["0.0.0.0", "::", "192.168.1.5", "localhost.example.com", "127.example.com", "fe80::1"])(
    "%s is not",
    (host) => {
      expect(parseConfig({ ...served, CONSENTRY_HOST: host }).local).toBe(false);
    },
  );
});

test("on loopback a loopback public URL keeps the laptop's defaults, but for egress", () => {
  const config = parseConfig({ CONSENTRY_PUBLIC_URL: "http://localhost:9000/" });
  expect(config).toMatchObject({ publicUrl: "http://localhost:9000", local: true, egressAllow: "" });
  expect(config.keyring).toMatchObject({ create: true });
});

test("the public URL follows from host and the port that the listener got", () => {
  expect(publicUrlOf(parseConfig({ CONSENTRY_PORT: "0" }), 4321)).toBe("http://127.0.0.1:4321");
  expect(publicUrlOf(parseConfig({ CONSENTRY_HOST: "[::1]" }), 8787)).toBe("http://[::1]:8787");
  expect(publicUrlOf(parseConfig(served), 8787)).toBe("https://broker.example.com");
});

describe("TLS", () => {
  const tls = (value: string) => parseConfig({ CONSENTRY_TLS: value });

  test("is off, of our own making, or two files", () => {
    expect(tls("development").tls).toEqual({ kind: "development" });
    expect(tls("a/cert.pem, b/key.pem").tls).toEqual({ kind: "files", cert: "a/cert.pem", key: "b/key.pem" });
  });

  test("makes the public URL https where it follows from host and port", () => {
    expect(publicUrlOf(tls("development"), 8787)).toBe("https://127.0.0.1:8787");
    expect(publicUrlOf(tls("cert.pem,key.pem"), 443)).toBe("https://127.0.0.1");
    expect(tls("development").egressAllow).toBe("loopback");
  });

  test("contradicts a public URL that is http", () => {
    expect(faultsOf({ CONSENTRY_TLS: "development", CONSENTRY_PUBLIC_URL: "http://localhost:9000" })).toEqual(
      ["CONSENTRY_PUBLIC_URL must be https with CONSENTRY_TLS"],
    );
    const https = { CONSENTRY_TLS: "development", CONSENTRY_PUBLIC_URL: "https://localhost:9000" };
    expect(parseConfig(https)).toMatchObject({ local: true, publicUrl: "https://localhost:9000" });
  });

  test("of our own making is for loopback only", () => {
    expect(faultsOf({ ...served, CONSENTRY_TLS: "development" })).toEqual([
      'CONSENTRY_TLS must not be "development" off loopback: give cert.pem,key.pem, or put a TLS proxy in front',
    ]);
    expect(faultsOf({ ...served, CONSENTRY_HOST: "::1", CONSENTRY_TLS: "development" })).toHaveLength(1);
    expect(parseConfig({ ...served, CONSENTRY_TLS: "cert.pem,key.pem" }).tls.kind).toBe("files");
  });

  test("does not stand in for a public URL off loopback", () => {
    const { CONSENTRY_PUBLIC_URL: _, ...rest } = served;
    expect(faultsOf({ ...rest, CONSENTRY_TLS: "cert.pem,key.pem" })).toEqual([
      "CONSENTRY_PUBLIC_URL is required when listening off loopback",
    ]);
  });
});

describe("metrics", () => {
  test("are served where a port says so, on this machine unless a host says otherwise", () => {
    expect(parseConfig({ CONSENTRY_METRICS_PORT: "9464" }).metrics).toEqual({
      host: "127.0.0.1",
      port: 9464,
    });
    const inside = { CONSENTRY_METRICS_PORT: "9464", CONSENTRY_METRICS_HOST: "[::]" };
    expect(parseConfig(inside).metrics).toEqual({ host: "::", port: 9464 });
    expect(parseConfig({ CONSENTRY_METRICS_HOST: "::" }).metrics).toBeNull();
  });

  test("need a port of their own", () => {
    expect(faultsOf({ CONSENTRY_METRICS_PORT: "8787" })).toEqual([
      "CONSENTRY_METRICS_PORT must be another port than CONSENTRY_PORT",
    ]);
    expect(faultsOf({ CONSENTRY_METRICS_PORT: "0", CONSENTRY_PORT: "0" })).toEqual([]);
  });
});

describe("traces", () => {
  const traces = (env: Record<string, string>) => parseConfig(env).traces;
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318/" };

  test("are sent where OpenTelemetry's own variables say", () => {
    const sampling = { kind: "always_on", ratio: 1, followsParent: true };
    expect(traces(endpoint)).toEqual({
      url: "http://collector:4318/v1/traces",
      serviceName: "consentry",
      attributes: {},
      sampling,
    });
    const own = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "https://spans.example/in", OTEL_SERVICE_NAME: "b" };
    expect(traces({ ...endpoint, ...own })).toEqual({
      url: "https://spans.example/in",
      serviceName: "b",
      attributes: {},
      sampling,
    });
    expect(traces({ OTEL_SERVICE_NAME: "b" })).toBeNull();
  });

  test("say of this process what OpenTelemetry's variables say", () => {
    const said = (attributes: string, more: Record<string, string> = {}) =>
      traces({ ...endpoint, OTEL_RESOURCE_ATTRIBUTES: attributes, ...more });
    const text = "deployment.environment.name=prod, service.name=a%20b , k8s.pod.name=,x=a%2Cb%3Dc%C3%A9,";
    expect(said(text)).toMatchObject({
      serviceName: "a b",
      attributes: {
        "deployment.environment.name": "prod",
        "service.name": "a b",
        "k8s.pod.name": "",
        x: "a,b=c\u00e9",
      },
    });
    expect(said(text, { OTEL_SERVICE_NAME: "named" })?.serviceName).toBe("named");
    expect(said("service.name=")?.serviceName).toBe("consentry");
    const many = Array.from({ length: 129 }, (_, at) => `a${at}=1`).join();
    for (const wrong of [
      "canary",
      "=canary",
      "a=canary,b",
      "a=canary%ff",
      "a=canary b",
      'a="canary"',
      "a=caf\u00e9",
      "a=1,,b=2",
      many,
    ]) {
      const faults = faultsOf({ ...endpoint, OTEL_RESOURCE_ATTRIBUTES: wrong });
      expect(faults).toEqual([expect.stringMatching(/^OTEL_RESOURCE_ATTRIBUTES must be /)]);
      expect(faults.join()).not.toContain("canary");
    }
    // Where nothing is sent, nobody asks.
    expect(faultsOf({ OTEL_RESOURCE_ATTRIBUTES: "canary" })).toEqual([]);
  });

  test("can be switched off, and sampled", () => {
    expect(traces({ ...endpoint, OTEL_SDK_DISABLED: "true" })).toBeNull();
    expect(traces({ ...endpoint, OTEL_TRACES_EXPORTER: "none" })).toBeNull();
    const sampler = { OTEL_TRACES_SAMPLER: "traceidratio", OTEL_TRACES_SAMPLER_ARG: "0.1" };
    expect(traces({ ...endpoint, ...sampler })?.sampling).toEqual({
      kind: "traceidratio",
      ratio: 0.1,
      followsParent: false,
    });
  });

  test("are refused where they cannot be sent, without the value", () => {
    expect(faultsOf({ OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4317" })).toEqual([
      "OTEL_EXPORTER_OTLP_ENDPOINT must be an http(s) URL, such as http://collector:4318",
    ]);
    const secret = "https://user:canary@spans.example/";
    expect(faultsOf({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: secret }).join()).not.toContain("canary");
    expect(faultsOf({ ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" })).toHaveLength(1);
    expect(faultsOf({ ...endpoint, OTEL_TRACES_SAMPLER: "jaeger_remote" })).toHaveLength(1);
    expect(faultsOf({ ...endpoint, OTEL_TRACES_SAMPLER_ARG: "2" })).toHaveLength(1);
  });

  test("go to an operator's URL, which is printed", () => {
    expect(operatorUrls(parseConfig(endpoint))).toEqual([
      { name: "OTEL_EXPORTER_OTLP_ENDPOINT", url: "http://collector:4318/v1/traces" },
    ]);
  });
});

describe("databases and keyrings", () => {
  test("SQLite is a path, in every spelling", () => {
    const path = (url: string) => parseConfig({ CONSENTRY_DATABASE_URL: url }).database;
    expect(path("file:a.db")).toEqual({ kind: "sqlite", path: "a.db" });
    expect(path("file:/var/a.db")).toEqual({ kind: "sqlite", path: "/var/a.db" });
    expect(path("file:///var/a.db")).toEqual({ kind: "sqlite", path: "/var/a.db" });
  });

  test("PostgreSQL wants its keyring named, for there is no file beside it", () => {
    const url = "postgres://broker:secret@db.internal:5432/consentry?sslmode=require";
    expect(faultsOf({ CONSENTRY_DATABASE_URL: url })).toEqual([
      "CONSENTRY_KEYRING is required with a postgres database: there is no file to put one beside",
    ]);
    expect(parseConfig({ CONSENTRY_DATABASE_URL: url, CONSENTRY_KEYRING: "file:/run/keys" })).toMatchObject({
      database: { kind: "postgres", url },
      keyring: { kind: "file", path: "/run/keys", create: false },
    });
  });

  test("a keyring in a vault is Azure's identifier, in every spelling, without a version", () => {
    const secret = "https://team.vault.azure.net/secrets/consentry-keyring";
    for (const text of [secret, `${secret}/`, `@Microsoft.KeyVault(SecretUri=${secret})`]) {
      const config = parseConfig({ CONSENTRY_KEYRING: text });
      expect(config.keyring).toEqual({ kind: "vault", secret });
      expect(operatorUrls(config)).toEqual([{ name: "CONSENTRY_KEYRING", url: secret }]);
    }
    const version = "0123456789abcdef0123456789abcdef";
    for (const text of [`${secret}/${version}`, `@Microsoft.KeyVault(SecretUri=${secret}/${version})`])
      expect(faultsOf({ CONSENTRY_KEYRING: text })).toEqual([
        "CONSENTRY_KEYRING must name the secret without a version: the broker reads all that are enabled",
      ]);
    for (const text of ["http://v.example/secrets/k", "https://a@v.example/secrets/k", `${secret}?x=1`])
      expect(faultsOf({ CONSENTRY_KEYRING: text })).toHaveLength(1);
  });

  test("operator URLs are shown without passwords, users and queries", () => {
    const config = parseConfig({
      CONSENTRY_DATABASE_URL: "postgresql://broker:secret@db.internal/consentry?password=secret",
      CONSENTRY_KEYRING: KEYRING,
      CONSENTRY_MODEL_BASE_URL: "https://models.example.com/v1?api-version=secret",
    });
    expect(operatorUrls(config)).toEqual([
      { name: "CONSENTRY_DATABASE_URL", url: "postgresql://db.internal/consentry" },
      { name: "CONSENTRY_MODEL_BASE_URL", url: "https://models.example.com/v1" },
    ]);
  });
});

describe("the model", () => {
  test("is off until it has a base URL", () => {
    expect(parseConfig({ CONSENTRY_MODEL_BASE_URL: "http://127.0.0.1:11434/v1" }).model).toEqual({
      baseUrl: "http://127.0.0.1:11434/v1",
      apiKey: null,
      api: "chat",
    });
    expect(faultsOf({ CONSENTRY_MODEL_API_KEY: "sk-1" })).toEqual([
      "CONSENTRY_MODEL_BASE_URL is required with CONSENTRY_MODEL_API_KEY",
    ]);
  });
});

describe("faults", () => {
  test.each([
    ["CONSENTRY_HOST", "a b"],
    ["CONSENTRY_HOST", "127.0.0.1:80"],
    ["CONSENTRY_HOST", "http://localhost"],
    ["CONSENTRY_PORT", "65536"],
    ["CONSENTRY_PORT", "-1"],
    ["CONSENTRY_PORT", "0x10"],
    ["CONSENTRY_PORT", "80.5"],
    ["CONSENTRY_PUBLIC_URL", "broker.example.com"],
    ["CONSENTRY_PUBLIC_URL", "https://broker.example.com/path"],
    ["CONSENTRY_PUBLIC_URL", "https://broker.example.com/?"],
    ["CONSENTRY_PUBLIC_URL", "https://user@broker.example.com"],
    ["CONSENTRY_PUBLIC_URL", "ftp://broker.example.com"],
    ["CONSENTRY_DATABASE_URL", "mysql://localhost/x"],
    ["CONSENTRY_DATABASE_URL", "file:"],
    ["CONSENTRY_DATABASE_URL", "file:data/"],
    ["CONSENTRY_DATABASE_URL", "file::memory:"],
    ["CONSENTRY_DATABASE_URL", "file://data/x.db"],
    ["CONSENTRY_DATABASE_URL", "./consentry.db"],
    ["CONSENTRY_ADMIN_KEY", "short"],
    ["CONSENTRY_ADMIN_KEY", `${KEY} with blanks`],
    ["CONSENTRY_KEYRING", KEYRING.slice(3)],
    ["CONSENTRY_KEYRING", KEYRING.slice(0, 20)],
    ["CONSENTRY_KEYRING", `${KEYRING},`],
    ["CONSENTRY_KEYRING", "https://vault.example.net/keys/k"],
    ["CONSENTRY_MODEL_BASE_URL", "localhost:11434"],
    ["CONSENTRY_MODEL_BASE_URL", "https://key@models.example.com"],
    ["CONSENTRY_AZURE", "yes"],
    ["CONSENTRY_AZURE", "file:"],
    ["CONSENTRY_AZURE", '{"identity":{}}'],
    ["CONSENTRY_CONSENT_PROOF", "trust"],
    ["CONSENTRY_ALLOW_POSSESSION", "ok,../no"],
    ["CONSENTRY_AUDIT", "off"],
    ["CONSENTRY_TLS", "on"],
    ["CONSENTRY_TLS", "cert.pem"],
    ["CONSENTRY_TLS", "cert.pem,"],
    ["CONSENTRY_TLS", "cert.pem,key.pem,ca.pem"],
    ["CONSENTRY_LOG_LEVEL", "INFO"],
    ["CONSENTRY_ALLOWED_HOSTS", "https://x.example"],
    ["CONSENTRY_ALLOWED_HOSTS", "x.example/path"],
    ["CONSENTRY_RATE_LIMIT", "many"],
    ["CONSENTRY_SHUTDOWN_MS", "600001"],
    ["CONSENTRY_DRAIN_MS", "5s"],
  ])("%s=%s is refused by name, once", (name, value) => {
    const faults = faultsOf({ [name]: value });
    expect(faults.filter((fault) => fault.startsWith(`${name} `))).toHaveLength(1);
  });

  test("never show what may be a secret", () => {
    const faults = faultsOf({
      CONSENTRY_ADMIN_KEY: "canary-1 with blanks",
      CONSENTRY_KEYRING: "k1:canary-2",
      CONSENTRY_DATABASE_URL: "mysql://broker:canary-3@db/consentry",
      CONSENTRY_MODEL_BASE_URL: "https://canary-4@models.example.com",
      CONSENTRY_MODEL_API_KEY: "canary-5 ",
      CONSENTRY_DEV_IDENTITY: "ann=canary-6",
      CONSENTRY_MODEL_KEY: "canary-7",
      CONSENTRY_AZURE: '{"identities":{"main":{"type":"secret","clientSecret":"canary-8"}}}',
    });
    expect(faults).toHaveLength(9);
    expect(faults.join()).not.toContain("canary");
  });

  test("what this version cannot do yet is refused as such", () => {
    const faults = faultsOf({ CONSENTRY_DEV_IDENTITY: "ann=secret:admin" });
    expect(faults).toHaveLength(1);
    for (const fault of faults) expect(fault).toContain("is not supported by this version");
  });

  test("unknown names are refused, with the name that was perhaps meant", () => {
    expect(
      faultsOf({ CONSENTRY_PROT: "1", CONSENTRY_DATABASE: "file:x", CONSENTRY_COLOUR_SCHEME: "dark" }),
    ).toEqual([
      "CONSENTRY_PROT is unknown; did you mean CONSENTRY_PORT?",
      "CONSENTRY_DATABASE is unknown; did you mean CONSENTRY_DATABASE_URL?",
      "CONSENTRY_COLOUR_SCHEME is unknown",
    ]);
  });

  test("of all kinds come in one error, which reads as a list", () => {
    const env = {
      CONSENTRY_HOST: "0.0.0.0",
      CONSENTRY_PUBLIC_URL: "nonsense",
      CONSENTRY_PORT: "http",
      CONSENTRY_KEYRING: KEYRING,
      CONSENTRY_MODEL_API_KEY: "sk-1",
    };
    expect(() => parseConfig(env)).toThrow(
      [
        "The configuration has 4 faults:",
        "  CONSENTRY_PORT must be a whole number from 0 to 65535",
        "  CONSENTRY_PUBLIC_URL must be an http(s) origin without a path, such as https://broker.example.com",
        "  CONSENTRY_ADMIN_KEY is required off loopback (openssl rand -base64 32)",
        "  CONSENTRY_MODEL_BASE_URL is required with CONSENTRY_MODEL_API_KEY",
      ].join("\n"),
    );
  });
});

describe("docs/configuration.md", () => {
  const page = readFileSync(join(import.meta.dirname, "../docs/configuration.md"), "utf8");
  const rows = [...page.matchAll(/^\| `(CONSENTRY_\w+)` \| (.*?) \| (.*) \|$/gm)].map((row) => ({
    name: row[1] ?? "",
    text: row[2] ?? "",
    literal: /^`([^`]*)`/.exec(row[2] ?? "")?.[1] ?? null,
  }));
  const defaultOf = (name: string) => {
    const field = Object.entries(settings.shape).find(([key]) => key === name)?.[1];
    return field instanceof z.ZodPrefault ? field.def.defaultValue : null;
  };

  test("lists every setting, once, in the order of the schema", () => {
    expect(rows.map(({ name }) => name)).toEqual(Object.keys(settings.shape));
  });

  test("gives the defaults of the schema", () => {
    const isRight = ({ name, text }: { name: string; text: string }) => {
      const value = defaultOf(name);
      if (value === null) return text === "none" || /loopback.*(required|none|else)/.test(text);
      return text === (value === "" ? "none" : `\`${String(value)}\``);
    };
    expect(rows.filter((row) => !isRight(row))).toEqual([]);
  });

  test("gives defaults that make no difference when they are set", () => {
    const literals = rows.filter(({ literal }) => literal !== null);
    expect(literals.length).toBeGreaterThan(10);
    const model = { CONSENTRY_MODEL_BASE_URL: "https://api.openai.com/v1" };
    for (const { name, literal } of literals) {
      expect(parseConfig({ ...model, [name]: literal ?? "" })).toEqual(parseConfig(model));
    }
  });

  test("gives the defaults off loopback, too", () => {
    const elsewhere = rows.flatMap(({ name, text }) => {
      const literal = /else `([^`]+)`$/.exec(text)?.[1];
      return literal === undefined ? [] : [{ name, literal }];
    });
    expect(elsewhere).toHaveLength(4);
    for (const { name, literal } of elsewhere) {
      expect(parseConfig({ ...served, [name]: literal })).toEqual(parseConfig(served));
    }
  });
});
