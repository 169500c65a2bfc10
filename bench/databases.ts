import { join } from "node:path";
import pg from "pg";
import { startCluster } from "../test/helpers/postgres-cluster.ts";
import type { Engine } from "./engines.ts";

/** Empty databases of a run. D1's are in their workerd. */
export type Databases = {
  create: (engine: Exclude<Engine, "d1">, name: string) => Promise<string>;
  stop: () => Promise<void>;
};

/**
 * SQLite's are files in the folder. PostgreSQL's are in one cluster, which begins with the first of them: commits are written before they
 * are answered (`synchronous_commit`), though the disk is not waited for (`fsync` is off).
 */
export function openDatabases(folder: string): Databases {
  let cluster: ReturnType<typeof startCluster> | null = null;
  return {
    create: async (engine, name) => {
      switch (engine) {
        case "sqlite":
          return `file:${join(folder, `${name}.db`)}`;
        case "postgres": {
          cluster ??= startCluster({ durable: true });
          const url = new URL((await cluster).url);
          const client = new pg.Client({ connectionString: url.href });
          await client.connect();
          await client.query(`create database ${name}`);
          await client.end();
          url.pathname = `/${name}`;
          return url.href;
        }
      }
    },
    stop: async () => {
      await (await cluster?.catch(() => null))?.stop();
    },
  };
}
