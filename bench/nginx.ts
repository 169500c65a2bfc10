import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { freePort } from "../test/helpers/ports.ts";
import { childrenOf, type Server } from "./processes.ts";

const NGINX = "/usr/sbin/nginx";

/** Whether nginx is on this machine; Debian has it in `nginx-light`. */
export const hasNginx = existsSync(NGINX);

type Nginx = Server & { children: number[] };

/** nginx as a reverse proxy that adds one header: what any proxy costs at the least. Null: it is not installed. */
export async function startNginx(folder: string, target: string): Promise<Nginx | null> {
  if (!hasNginx) return null;
  const { host, pathname } = new URL(target);
  const nginx = await runNginx({
    folder,
    port: await freePort(),
    servers: [host],
    location: `location /mcp {
      proxy_pass http://bench${pathname};
      ${KEPT_ALIVE}
      proxy_set_header X-Bench-Key secret;
    }`,
  });
  return { ...nginx, url: `${nginx.url}/mcp` };
}

/** nginx in front of brokers, each of which has its turn: as in deploy/compose, without TLS and a log. `port`: where it listens. */
export function startBalancing(
  folder: string,
  { port, brokers }: { port: number; brokers: string[] },
): Promise<Nginx> {
  return runNginx({
    folder,
    port,
    servers: brokers.map((url) => new URL(url).host),
    location: `location / {
      proxy_pass http://bench;
      ${KEPT_ALIVE}
      proxy_set_header Host $http_host;
    }`,
  });
}

async function runNginx(options: Configured): Promise<Nginx> {
  const { folder, port } = options;
  const path = join(folder, `nginx-${port}.conf`);
  await writeFile(path, configOf(options));
  const child = spawn(NGINX, ["-c", path, "-e", "stderr"], { stdio: "inherit" });
  const exited = once(child, "exit");
  const { pid } = child;
  if (pid === undefined) throw new Error("nginx did not start");
  await delay(STARTS_MS);
  const stop = async () => {
    child.kill("SIGTERM");
    await exited;
  };
  return { url: `http://127.0.0.1:${port}`, pid, children: await childrenOf(pid), stop };
}

type Configured = { folder: string; port: number; servers: string[]; location: string };

// Idle connections are given up before a broker does so, which is after 5 seconds: else a request could meet its end.
function configOf({ folder, port, servers, location }: Configured) {
  return `daemon off;
worker_processes 1;
pid ${folder}/nginx-${port}.pid;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path ${folder}/nginx-body;
  proxy_temp_path ${folder}/nginx-proxy;
  fastcgi_temp_path ${folder}/nginx-fastcgi;
  uwsgi_temp_path ${folder}/nginx-uwsgi;
  scgi_temp_path ${folder}/nginx-scgi;
  keepalive_requests 10000000;
  proxy_http_version 1.1;
  upstream bench {
    ${servers.map((server) => `server ${server};`).join(" ")}
    keepalive 64; keepalive_requests 10000000; keepalive_timeout 3s;
  }
  server {
    listen 127.0.0.1:${port};
    ${location}
  }
}
`;
}

/** In each location that sets a header: one that does inherits none. */
const KEPT_ALIVE = 'proxy_set_header Connection "";';

const STARTS_MS = 500;
