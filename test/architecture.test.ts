import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { describe, expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
const src = join(root, "src");

// Who may import which package (DESIGN: the house). A room's own files and core are always allowed; rooms never import
// each other, and nobody imports a door. `files` narrows a package to the files named.
const law: Record<string, { packages: Record<string, "any" | string[]>; node: "none" | string[] }> = {
  core: { packages: {}, node: "none" },
  http: {
    packages: {
      hono: "any",
      zod: ["http/wire/"],
      "@modelcontextprotocol/server": "any",
    },
    node: "none",
  },
  store: {
    packages: {
      "drizzle-orm": "any",
      "better-sqlite3": ["store/better-sqlite3"],
      pg: ["store/postgres"],
    },
    node: [
      "store/better-sqlite3.ts",
      "store/better-sqlite3-move.ts",
      "store/postgres-move.ts",
      "store/migrate.node.ts",
    ],
  },
  upstream: {
    packages: {
      "openid-client": "any",
      "@modelcontextprotocol/client": "any",
      openai: "any",
      undici: ["upstream/egress.node.ts", "upstream/egress-dispatch.node.ts"],
    },
    node: ["upstream/egress.node.ts", "upstream/egress-dispatch.node.ts"],
  },
  secrets: {
    packages: { "@azure": "any", jose: "any" },
    node: [
      "secrets/crypto.node.ts",
      "secrets/keyring.node.ts",
      "secrets/keyring-edit.node.ts",
      "secrets/files.node.ts",
      "secrets/operator-secrets.node.ts",
      "secrets/secret-files.node.ts",
    ],
  },
  telemetry: {
    packages: {
      "prom-client": ["telemetry/metrics.ts"],
      "@opentelemetry/api": ["telemetry/traces.ts"],
      "@opentelemetry/exporter-trace-otlp-http": ["telemetry/traces.ts"],
      "@opentelemetry/sdk-trace": ["telemetry/traces.ts", "telemetry/sampler.ts"],
    },
    node: "none",
  },
  authserver: { packages: { "oidc-provider": "any" }, node: "none" },
  "config.ts": { packages: { zod: "any" }, node: "none" },
};
// config-azure.ts and config-traces.ts are what config.ts says of some of its settings, config-texts.ts how
// some of them are read, config-worker.ts which of them Workers have.
const parts: Record<string, string> = {
  "config-azure.ts": "config.ts",
  "config-traces.ts": "config.ts",
  "config-texts.ts": "config.ts",
  "config-worker.ts": "config.ts",
};
// migrate-store.ts is a door of its own, and keys.ts that of `npm run keys`, with keys-desk.ts and keys-commands.ts; first-start.ts, draining.ts,
// lent-secrets.ts, log.ts, metrics-listener.ts, upkeep.ts, azure.ts and the tls files are parts of the door node.ts, own-key.ts, worker-world.ts and worker-life.ts
// of worker.ts, bootstrap.ts, sweeps.ts and system-clock.ts of both, database.ts of all on Node, in files of their own.
const doors = [
  "node.ts",
  "migrate-store.ts",
  "first-start.ts",
  "bootstrap.ts",
  "own-key.ts",
  "draining.ts",
  "lent-secrets.ts",
  "sweeps.ts",
  "log.ts",
  "upkeep.ts",
  "database.ts",
  "keys.ts",
  "keys-desk.ts",
  "keys-commands.ts",
  "system-clock.ts",
  "metrics-listener.ts",
  "azure.ts",
  "tls.ts",
  "tls-development.ts",
  "tls-certificate.ts",
  "worker.ts",
  "worker-world.ts",
  "worker-life.ts",
];

type Import = { file: string; room: string; specifier: string; isType: boolean };

function filesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(folder, name));
}

function importsOf(file: string): Import[] {
  const name = relative(src, file).split(sep).join("/");
  const room = roomOf(name);
  const text = readFileSync(file, "utf8");
  const found = text.matchAll(
    /(?:^|\n)\s*(?:import|export)\s+(?:type\s+)?(?:[\w*{}\s,$]+?\s+from\s+)?["']([^"']+)["']|import\(\s*["']([^"']+)["']\s*\)/g,
  );
  return [...found].map((match) => ({
    file: name,
    room,
    specifier: match[1] ?? match[2] ?? "",
    isType: /^\s*(import|export)\s+type\s/.test(match[0]),
  }));
}

function roomOf(name: string): string {
  return parts[name] ?? (name.includes("/") ? (name.split("/")[0] ?? name) : name);
}

const imports = filesOf(src).flatMap(importsOf);

function faultOf({ file, room, specifier }: Omit<Import, "isType">): string | null {
  if (doors.includes(room)) return null;
  const rules = law[room];
  if (!rules) return `${file}: the law has no room "${room}"`;
  if (specifier.startsWith(".")) {
    const target = relative(src, join(src, dirname(file), specifier))
      .split(sep)
      .join("/");
    const targetRoom = roomOf(target);
    if (targetRoom === room || (targetRoom === "core" && room !== "config.ts")) return null;
    return `${file} imports ${target}`;
  }
  if (specifier.startsWith("node:")) {
    if (rules.node !== "none" && rules.node.includes(file)) return null;
    return `${file} imports ${specifier}`;
  }
  const name = specifier.startsWith("@azure/") ? "@azure" : packageOf(specifier);
  const allowed = rules.packages[name];
  if (allowed === "any") return null;
  if (allowed?.some((place) => file.startsWith(place))) return null;
  return `${file} imports ${specifier}`;
}

function packageOf(specifier: string): string {
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}

/** Our files and others' packages that this file leads to, in any number of steps. Types lead nowhere. */
function reachedFrom(start: string, reached = new Set<string>()): Set<string> {
  for (const { file, specifier } of imports.filter((found) => found.file === start && !found.isType)) {
    const target = specifier.startsWith(".")
      ? relative(src, join(src, dirname(file), specifier))
          .split(sep)
          .join("/")
      : specifier;
    if (reached.has(target)) continue;
    reached.add(target);
    reachedFrom(target, reached);
  }
  return reached;
}

describe("the house", () => {
  test("rooms import only what the law allows", () => {
    expect(imports.length).toBeGreaterThan(20);
    expect(imports.map(faultOf).filter((fault) => fault !== null)).toEqual([]);
  });

  test("the law would notice a breach", () => {
    const breach = (file: string, specifier: string) =>
      faultOf({ file, room: file.split("/")[0] ?? "", specifier });
    expect(breach("core/turn.ts", "node:crypto")).not.toBeNull();
    expect(breach("core/turn.ts", "zod")).not.toBeNull();
    expect(breach("core/turn.ts", "../store/tables.ts")).not.toBeNull();
    expect(breach("http/responses.ts", "zod")).not.toBeNull();
    expect(breach("http/app.ts", "../upstream/mcp.ts")).not.toBeNull();
    expect(breach("upstream/mcp.ts", "undici")).not.toBeNull();
    expect(breach("http/app.ts", "../node.ts")).not.toBeNull();
  });

  test("what a Worker is made of reaches nothing that only Node has, and Node nothing of D1", () => {
    const fromWorker = reachedFrom("worker.ts");
    expect(
      [...fromWorker].filter((name) => /^(better-sqlite3|pg|undici|pino|@azure\/|@hono\/node)/.test(name)),
    ).toEqual([]);
    // Its one: which request is being answered.
    expect([...fromWorker].filter((name) => name.startsWith("node:"))).toEqual(["node:async_hooks"]);
    expect(fromWorker).toContain("store/d1.ts");
    expect(reachedFrom("node.ts")).not.toContain("store/d1.ts");
  });

  test("statements use only what three engines share", () => {
    const adapters = [
      "better-sqlite3.ts",
      "better-sqlite3-move.ts",
      "postgres.ts",
      "postgres-move.ts",
      "d1.ts",
      "migrate.node.ts",
    ];
    const faults = filesOf(join(src, "store"))
      .filter((file) => !adapters.some((name) => file.endsWith(`${sep}${name}`)))
      .flatMap((file) => {
        const found = readFileSync(file, "utf8").match(/\.(get|all|run|values|transaction)\(\)/g) ?? [];
        return found.map((call) => `${relative(src, file)}: ${call}`);
      });
    expect(faults).toEqual([]);
  });

  test("no file has grown into two", () => {
    const long = filesOf(src)
      .map((file) => ({ file: relative(src, file), lines: readFileSync(file, "utf8").split("\n").length }))
      .filter(({ lines }) => lines > 400);
    expect(long).toEqual([]);
  });
});
