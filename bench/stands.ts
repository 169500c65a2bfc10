import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { ADMIN_KEY, startBroker } from "./broker.ts";
import type { Databases } from "./databases.ts";
import { type Setup, titleOf } from "./engines.ts";
import type { Entry } from "./entry.ts";
import { openFront } from "./front.ts";
import { freePort } from "../test/helpers/ports.ts";
import { childrenOf, type Server, startNode } from "./processes.ts";

/** What all brokers of a run share, so that any of them opens what another one has sealed. */
export const KEYRING = `k1:${Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64")}`;

/** What ends what was begun, in the order of beginning; whoever runs it goes backwards. */
export type Closing = (() => Promise<unknown>)[];

/** What stands are made of. */
export type Stage = { entry: Entry; folder: string; databases: Databases; closing: Closing };

/** Brokers behind a balancer. `url`: the balancer's. `server`: the brokers' processes together, without it and without the database. */
export type Stand = {
  name: string;
  url: string;
  /** Null: it is D1's, in workerd. */
  databaseUrl: string | null;
  server: { pid: number; children: number[] };
};

/** `database`: its name, of letters and digits. */
export async function startStand(
  setup: Setup & { database: string },
  { entry, folder, databases, closing }: Stage,
): Promise<Stand> {
  const front = await openFront(folder);
  closing.push(front.stop);
  const env = {
    CONSENTRY_ADMIN_KEY: ADMIN_KEY,
    CONSENTRY_KEYRING: KEYRING,
    CONSENTRY_PUBLIC_URL: front.url,
    CONSENTRY_EGRESS_ALLOW: "loopback",
  };
  const { engine, replicas, database } = setup;
  const databaseUrl = engine === "d1" ? null : await databases.create(engine, database);
  const brokers: Server[] = [];
  for (let at = 0; at < replicas; at++) {
    const broker =
      databaseUrl === null
        ? await startWorker(join(folder, database), env)
        : await startReplica(entry, { folder, env: { ...env, CONSENTRY_DATABASE_URL: databaseUrl } });
    closing.push(broker.stop);
    brokers.push(broker);
  }
  await front.lead(brokers.map(({ url }) => url));
  const [first, ...others] = brokers.map(({ pid }) => pid);
  if (first === undefined) throw new Error("a stand has no broker");
  const children = databaseUrl === null ? await childrenOf(first) : others;
  return { name: titleOf(setup), url: front.url, databaseUrl, server: { pid: first, children } };
}

/** At a port that is chosen here: what a broker says of itself is its public URL. */
async function startReplica(
  { path, env: ofEntry }: Entry,
  { folder, env }: { folder: string; env: Record<string, string> },
): Promise<Server> {
  const port = await freePort();
  const server = await startBroker(path, {
    folder,
    env: { ...ofEntry, ...env, CONSENTRY_PORT: String(port) },
  });
  return { ...server, url: `http://127.0.0.1:${port}` };
}

/** The built Worker; workerd is a child of the process. */
async function startWorker(folder: string, env: Record<string, string>): Promise<Server> {
  await run(process.execPath, [join(import.meta.dirname, "../bin/build-worker.mjs"), folder]);
  return startNode([join(import.meta.dirname, "workerd.ts"), join(folder, "worker.js"), folder], { env });
}

const run = promisify(execFile);
