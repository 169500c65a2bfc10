import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { say, schemaOf, startModernServer } from "./mcp-servers.ts";
import { type BrokerProcess, startBroker } from "./process.ts";
import { ADMIN_KEY } from "./world.ts";

/** A broker that is a process of its own, on a database of its own, and its connection `work`, to a server with a tool of that name. */
export type Killed = {
  broker: BrokerProcess;
  /** How often the tool ran. */
  runs: number;
  /** What it does before it answers. */
  during: () => Promise<void> | void;
  /** Of this broker, and of whoever comes after it. */
  env: { CONSENTRY_DATABASE_URL: string; CONSENTRY_ADMIN_KEY: string };
  databasePath: string;
  /** Kills it, whatever it is doing. */
  stop: () => Promise<void>;
};

export async function startKilled(): Promise<Killed> {
  const work = {
    name: "work",
    inputSchema: schemaOf({}, []),
    run: async () => {
      stage.runs++;
      await stage.during();
      return say("worked");
    },
  };
  const folder = await mkdtemp(join(tmpdir(), "consentry-killed-"));
  const databasePath = join(folder, "consentry.db");
  const env = { CONSENTRY_DATABASE_URL: `file:${databasePath}`, CONSENTRY_ADMIN_KEY: ADMIN_KEY };
  const [server, broker] = await Promise.all([startModernServer({ tools: [work] }), startBroker(env)]);
  const stage: Killed = {
    broker,
    runs: 0,
    during: () => {},
    env,
    databasePath,
    stop: async () => {
      await stage.broker.kill9();
      await server.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
  const made = await fetch(`${broker.url}/api/projects/default/connections/work`, {
    method: "PUT",
    headers: { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json" },
    body: JSON.stringify({ properties: { authType: "None", target: server.url } }),
  });
  if (!made.ok) throw new Error(`the connection was not made: ${made.status}`);
  return stage;
}
