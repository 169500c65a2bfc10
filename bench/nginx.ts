import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Server } from "./processes.ts";

const NGINX = "/usr/sbin/nginx";

/** nginx as a reverse proxy that adds one header: what any proxy costs at the least. Null: it is not installed. */
export async function startNginx(
  folder: string,
  target: string,
): Promise<(Server & { children: number[] }) | null> {
  if (!existsSync(NGINX)) return null;
  const port = await freePort();
  const { host, pathname } = new URL(target);
  const path = join(folder, `nginx-${port}.conf`);
  await writeFile(path, configOf({ folder, port, host, pathname }));
  const child = spawn(NGINX, ["-c", path, "-e", "stderr"], { stdio: "inherit" });
  const exited = once(child, "exit");
  const { pid } = child;
  if (pid === undefined) throw new Error("nginx did not start");
  await delay(STARTS_MS);
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8"))
    .trim()
    .split(" ")
    .map(Number);
  const stop = async () => {
    child.kill("SIGTERM");
    await exited;
  };
  return { url: `http://127.0.0.1:${port}/mcp`, pid, children, stop };
}

function configOf({
  folder,
  port,
  host,
  pathname,
}: Record<"folder" | "host" | "pathname", string> & { port: number }) {
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
  upstream bench { server ${host}; keepalive 64; keepalive_requests 10000000; }
  server {
    listen 127.0.0.1:${port};
    location /mcp {
      proxy_pass http://bench${pathname};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header X-Bench-Key secret;
    }
  }
}
`;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo; // Seam: it listens on a port.
  server.close();
  await once(server, "close");
  return port;
}

const STARTS_MS = 500;
