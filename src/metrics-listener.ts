import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { isLoopback } from "./config-texts.ts";
import type { Exposition } from "./telemetry/metrics.ts";

// Metrics on a port of their own, for scrapers inside the network. Part of the door `node.ts`.

export type MetricsListener = { host: string; port: number; url: string; stop: () => Promise<void> };

/** Serves `/metrics`, and nothing else, to whoever reaches the port. Rejects when it cannot listen. */
export async function listenForMetrics(
  { host, port }: { host: string; port: number },
  read: () => Promise<Exposition>,
): Promise<MetricsListener> {
  const isHome = (request: IncomingMessage) => !isLoopback(host) || namesLoopback(request.headers.host);
  const server = createServer({ requestTimeout: REQUEST_MS }, (request, response) => {
    if (request.method !== "GET" && request.method !== "HEAD") return end(response, 405);
    if (request.url?.split("?")[0] !== "/metrics") return end(response, 404);
    // A page that lets its own name lead to this machine (rebinding) is not one of it.
    if (!isHome(request)) return end(response, 403);
    read().then(
      ({ type, text }) => end(response, 200, { type, text }),
      () => end(response, 500),
    );
  });
  server.maxConnections = MAX_CONNECTIONS;
  // Also for an answer that nobody reads.
  server.setTimeout(REQUEST_MS);
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => resolve());
  });
  // A TCP server that listens has an address with a port.
  const { port: bound } = server.address() as AddressInfo;
  const authority = `${host.includes(":") ? `[${host}]` : host}:${bound}`;
  return {
    host,
    port: bound,
    url: `http://${authority}/metrics`,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

const REQUEST_MS = 10_000;
const MAX_CONNECTIONS = 64;

function namesLoopback(authority: string | undefined): boolean {
  const url = URL.parse(`http://${authority ?? ""}`);
  return url !== null && isLoopback(url.hostname);
}

function end(response: ServerResponse, status: number, { type, text }: Exposition = PLAIN): void {
  response.writeHead(status, { "content-type": type, "x-content-type-options": "nosniff" }).end(text);
}

const PLAIN: Exposition = { type: "text/plain; charset=utf-8", text: "" };
