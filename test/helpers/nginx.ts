import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import type { ClientRequest, IncomingMessage } from "node:http";
import { request, type RequestOptions } from "node:https";
import type { LookupFunction } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { Agent, fetch as undiciFetch } from "undici";
import { selfSigned } from "./certificate.ts";
import { recipe } from "./deploy.ts";
import { freePorts } from "./ports.ts";

/** What the certificate is for. */
export const PUBLIC_HOST = "broker.example.com";

/** Whether nginx is on this machine; Debian has it in `nginx-light`. */
export const hasNginx = spawnSync("nginx", ["-v"]).status === 0;
if (!hasNginx) console.warn("The tests of deploy/compose/nginx.conf are left out: there is no nginx here.");

export type Proxy = {
  /** By the public name: only `fetch` and `agent` find it. */
  url: string;
  httpPort: number;
  /** Trusts its certificate, and comes from this address of the machine. */
  agent: (localAddress?: string) => Agent;
  fetch: typeof undiciFetch;
  /** The status of what is asked under another name, which `fetch` would not let stand in `Host`. */
  statusAs: (host: string, path: string) => Promise<number>;
  /** The head of a request whose body never comes. `status`: of what is answered nevertheless. */
  begin: (
    method: string,
    path: string,
    headers: Record<string, string>,
  ) => { status: Promise<number>; leave: () => void };
  /** Everything that it has written: the access log and the faults. */
  logged: () => Promise<string>;
  /** As Compose stops it: resolves when it has ended. */
  quit: () => Promise<void>;
  stop: () => Promise<void>;
};

/** nginx.conf of the recipe, in which ports, paths and the replicas' addresses are others, and `differs`: what stands there, and instead. */
export async function startNginx(
  replicas: readonly number[],
  { ports, differs = [] }: { ports?: Ports; differs?: [string, string][] } = {},
): Promise<Proxy> {
  const { https, http } = ports ?? (await proxyPorts());
  const folder = await mkdtemp(join(tmpdir(), "consentry-nginx-"));
  // Its workers are nobody's where the tests are root's.
  await chmod(folder, 0o755);
  const { key, cert } = selfSigned(PUBLIC_HOST);
  await writeFile(join(folder, "certificate-key.pem"), key, { mode: 0o600 });
  await writeFile(join(folder, "certificate.pem"), cert);
  const file = join(folder, "nginx.conf");
  await writeFile(file, configuration({ folder, https, http, replicas, differs }));
  const child = spawn("nginx", ["-e", join(folder, "stderr"), "-c", file, "-g", "daemon off;"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
  const exited = once(child, "exit");
  const read = (name: string) => readFile(join(folder, name), "utf8").catch(() => "");
  while (!existsSync(join(folder, "nginx.pid")) || !(await answers(http))) {
    if (child.exitCode !== null) throw new Error(`nginx ended: ${said}${await read("stderr")}`);
    await pause(20);
  }
  const agents: Agent[] = [];
  const agent = (localAddress = "127.0.0.1") => {
    const made = new Agent({
      localAddress,
      connect: { ca: cert, lookup: toThisMachine },
    });
    agents.push(made);
    return made;
  };
  const shared = agent();
  const ask = (path: string, options: RequestOptions) =>
    request(`https://${PUBLIC_HOST}:${https}${path}`, {
      ca: cert,
      servername: PUBLIC_HOST,
      lookup: toThisMachine,
      ...options,
    });
  return {
    url: `https://${PUBLIC_HOST}:${https}`,
    httpPort: http,
    agent,
    fetch: (input, init) => undiciFetch(input, { dispatcher: shared, ...init }),
    statusAs: async (host, path) => statusOf(ask(path, { headers: { host } }).end()),
    begin: (method, path, headers) => {
      const asked = ask(path, { method, headers });
      asked.flushHeaders();
      return { status: statusOf(asked), leave: () => void asked.destroy() };
    },
    logged: async () => `${await read("stdout")}${await read("stderr")}`,
    quit: async () => {
      child.kill("SIGQUIT");
      await exited;
    },
    stop: async () => {
      await Promise.all(agents.map((one) => one.destroy()));
      // Nothing to end, where it has ended.
      child.kill("SIGTERM");
      await exited;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function statusOf(asked: ClientRequest): Promise<number> {
  const [answer] = (await once(asked, "response")) as [IncomingMessage]; // Seam: Node's events are untyped.
  answer.resume();
  return answer.statusCode ?? 0;
}

type Ports = { https: number; http: number };

export async function proxyPorts(): Promise<Ports> {
  const [https = 0, http = 0] = await freePorts(2);
  return { https, http };
}

type Places = Ports & { folder: string; replicas: readonly number[]; differs: [string, string][] };

function configuration({ folder, https, http, replicas, differs }: Places): string {
  // The first one first: the folder is in /tmp.
  const places: [string, string][] = [
    ...differs,
    ["/tmp/", `${folder}/`],
    ["/run/secrets/", `${folder}/`],
    ["/dev/", `${folder}/`],
    ["listen 8443", `listen 127.0.0.1:${https}`],
    ["listen 8080", `listen 127.0.0.1:${http}`],
    ...replicas.map((port, at): [string, string] => [`172.30.87.1${at + 1}:8787`, `127.0.0.1:${port}`]),
  ];
  return places.reduce((text, [from, to]) => {
    if (!text.includes(from)) throw new Error(`nginx.conf does not say ${from}`);
    return text.replaceAll(from, to);
  }, recipe("compose/nginx.conf"));
}

const HERE = { address: "127.0.0.1", family: 4 };
const toThisMachine: LookupFunction = (_name, { all }, found) =>
  all ? found(null, [HERE]) : found(null, HERE.address, HERE.family);

async function answers(port: number): Promise<boolean> {
  const answer = await fetch(`http://127.0.0.1:${port}/`, { redirect: "manual" }).catch(() => null);
  await answer?.body?.cancel();
  return answer !== null;
}
