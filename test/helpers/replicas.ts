import { tmpdir } from "node:os";
import { join } from "node:path";
import type OpenAI from "openai";
import { type Balancer, startBalancer } from "./balancer.ts";
import { freePorts } from "./ports.ts";
import { type BrokerProcess, startBroker } from "./process.ts";
import { ADMIN_KEY, type Answer, clientOf } from "./world.ts";

/** A process of the broker, and where it listens by itself. */
export type Replica = BrokerProcess & { at: string };

/** Brokers as processes of their own, on one database, behind a balancer. */
export type Replicas = {
  /** What the world calls them: the balancer. */
  url: string;
  balancer: Balancer;
  all: Replica[];
  env: Record<string, string>;
  /** Starts the replica of this place again, on its port. */
  restart: (place: number) => Promise<Replica>;
  rest: (method: string, path: string, body?: unknown, at?: string) => Promise<Answer>;
  /** The unmodified client with the bootstrap key, in front of all, or of one (`at`). */
  client: (options?: { user?: string; at?: string | undefined }) => OpenAI;
  connect: (name: string, properties: Record<string, unknown>) => Promise<Answer>;
  stop: () => Promise<void>;
};

export async function startReplicas(
  count: number,
  { databaseUrl, env: more = {} }: { databaseUrl: string; env?: Record<string, string> },
): Promise<Replicas> {
  const balancer = await startBalancer();
  const env = {
    CONSENTRY_DATABASE_URL: databaseUrl,
    CONSENTRY_KEYRING: `k1:${Buffer.alloc(32, 7).toString("base64")}`,
    CONSENTRY_ADMIN_KEY: ADMIN_KEY,
    CONSENTRY_PUBLIC_URL: balancer.url,
    CONSENTRY_EGRESS_ALLOW: "loopback",
    // Many starts of the same sources.
    NODE_COMPILE_CACHE: join(tmpdir(), "consentry-compile-cache"),
    ...more,
  };
  const start = async (port: number): Promise<Replica> => {
    const process = await startBroker({ ...env, CONSENTRY_PORT: String(port) });
    const at = `http://127.0.0.1:${port}`;
    await balancer.add(at);
    return { ...process, at };
  };
  const ports = await freePorts(count);
  const all = await Promise.all(ports.map(start));

  const rest: Replicas["rest"] = async (method, path, body, at = balancer.url) => {
    const response = await fetch(`${at}${path}`, {
      method,
      headers: { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json" },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text === "" ? {} : JSON.parse(text) };
  };
  return {
    url: balancer.url,
    balancer,
    all,
    env,
    restart: async (place) => {
      const port = ports[place];
      if (port === undefined) throw new Error(`there is no replica ${place}`);
      const replica = await start(port);
      all[place] = replica;
      return replica;
    },
    rest,
    client: ({ user, at = balancer.url } = {}) =>
      clientOf(at, ADMIN_KEY, { project: "default", ...(user !== undefined && { user }) }),
    connect: (name, properties) =>
      rest("PUT", `/api/projects/default/connections/${name}`, {
        properties: { category: "RemoteTool", authType: "None", ...properties },
      }),
    stop: async () => {
      await Promise.all(all.map((replica) => replica.kill9()));
      await balancer.stop();
    },
  };
}
