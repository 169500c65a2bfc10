import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import OpenAI from "openai";
import { deploy, readCompose, recipe, type Service } from "./deploy.ts";
import { environmentOf, readDockerfile } from "./dockerfile.ts";
import { type Proxy, proxyPorts, PUBLIC_HOST, startNginx } from "./nginx.ts";
import { freePorts } from "./ports.ts";
import { type BrokerProcess, childEnv, startBroker } from "./process.ts";

const run = promisify(execFile);

/** Secrets as the recipe makes them. */
export type Secrets = {
  folder: string;
  make: () => Promise<string>;
  read: (name: string) => Promise<string>;
};

/** A folder with the recipe's script; `make` runs it, and gives what it says. */
export async function createSecrets(): Promise<Secrets> {
  const folder = await mkdtemp(join(tmpdir(), "consentry-deploy-"));
  await cp(join(deploy, "compose/make-secrets.sh"), join(folder, "make-secrets.sh"));
  return {
    folder,
    make: async () => (await run(join(folder, "make-secrets.sh"), { env: childEnv() })).stdout,
    read: (name) => readFile(join(folder, "secrets", name), "utf8"),
  };
}

/** The three brokers of compose.yaml as processes, behind its nginx. */
export type Composed = {
  proxy: Proxy;
  replicas: BrokerProcess[];
  /** What each has in its environment. */
  environments: Record<string, string>[];
  metricsPorts: number[];
  adminKey: string;
  /** Ends one as Compose does, and starts it again. `meanwhile`: while it is gone. Gives its exit code. */
  roll: (place: number, meanwhile?: () => Promise<void>) => Promise<number | null>;
  /** With the admin key, or another one. */
  rest: (
    method: string,
    path: string,
    body?: unknown,
    key?: string,
  ) => Promise<{ status: number; body: unknown }>;
  client: (key: string) => OpenAI;
  stop: () => Promise<void>;
};

export const BROKERS = ["broker-1", "broker-2", "broker-3"] as const;

/**
 * Starts them with exactly what compose.yaml and the Dockerfile give them, in which hosts, ports and paths alone are others. `dotEnv`: what an
 * operator writes into `.env`.
 */
export async function startComposed(options: {
  databaseUrl: string;
  dotEnv: Record<string, string>;
}): Promise<Composed> {
  const secrets = await createSecrets();
  await secrets.make();
  const ports = await proxyPorts();
  const [listening, metricsPorts] = [await freePorts(3), await freePorts(3)];
  const publicUrl = `https://${PUBLIC_HOST}:${ports.https}`;
  const { services } = readCompose({ ...options.dotEnv, CONSENTRY_PUBLIC_URL: publicUrl });
  const here = (text: string) => text.replace("/run/secrets/", `${secrets.folder}/secrets/`);
  const environments = BROKERS.map((name, at) => ({
    ...imageEnvironment(),
    ...Object.fromEntries(
      Object.entries(services[name]?.environment ?? {}).map(([key, value]) => [key, here(value)]),
    ),
    CONSENTRY_HOST: "127.0.0.1",
    CONSENTRY_PORT: String(listening[at]),
    CONSENTRY_DATABASE_URL: options.databaseUrl,
    CONSENTRY_METRICS_HOST: "127.0.0.1",
    CONSENTRY_METRICS_PORT: String(metricsPorts[at]),
  }));
  const start = (at: number) =>
    startBroker(environments[at] ?? {}, nodeArgsOf(services[BROKERS[at] ?? ""]).map(here));
  const replicas = await Promise.all([0, 1, 2].map(start));
  const proxy = await startNginx(listening, { ports });
  const adminKey = /^CONSENTRY_ADMIN_KEY=(.+)$/m.exec(await secrets.read("broker.env"))?.[1] ?? "";
  return {
    proxy,
    replicas,
    environments,
    metricsPorts,
    adminKey,
    roll: async (place, meanwhile = async () => {}) => {
      const code = await replicas[place]?.stop();
      await meanwhile();
      replicas[place] = await start(place);
      return code ?? null;
    },
    rest: async (method, path, body, key = adminKey) => {
      const answer = await proxy.fetch(`${proxy.url}${path}`, {
        method,
        headers: { "api-key": key, "content-type": "application/json" },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      });
      return { status: answer.status, body: await answer.json() };
    },
    client: (key) =>
      new OpenAI({
        baseURL: `${proxy.url}/api/projects/default/openai/v1`,
        apiKey: key,
        maxRetries: 0,
        // Seam: undici's own fetch, whose types are not those of Node's.
        fetch: proxy.fetch as unknown as typeof fetch,
      }),
    stop: async () => {
      await Promise.all(replicas.map((replica) => replica.kill9()));
      await proxy.stop();
      await rm(secrets.folder, { recursive: true, force: true });
    },
  };
}

/** What the image itself sets, but for what is where only the image has it. */
export function imageEnvironment(): Record<string, string> {
  const stages = readDockerfile(recipe("../Dockerfile"));
  const names = Object.entries(Object.assign({}, ...stages.map(environmentOf)) as Record<string, string>);
  return Object.fromEntries(names.filter(([name]) => name.startsWith("CONSENTRY_")));
}

/** `node`, what Node is told, and the command of the image. Throws for another command. */
export function nodeArgsOf(service: Service | undefined): string[] {
  const [node, ...words] = service?.command ?? [];
  const door = words.pop() ?? "";
  if (node !== "node" || basename(door) !== "consentry.mjs") throw new Error("it is not started by Node");
  return words;
}
