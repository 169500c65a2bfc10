import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { Socket } from "node:net";

export type HttpServer = {
  /** `http://127.0.0.1:port`, or https with a certificate. */
  url: string;
  port: number;
  /** In the order in which they came. */
  requests: { method: string; path: string; headers: IncomingMessage["headers"]; body: string }[];
  /** Connections made so far, open or not. */
  sockets: Socket[];
  /** Resolves when the first connection is closed, with the bytes that were written to it. */
  firstClosed: Promise<number>;
  stop: () => Promise<void>;
};

/** A server on this machine that answers as `handler` says. The request has been read when it is called. */
export async function startHttpServer(
  handler: (request: HttpServer["requests"][number], response: ServerResponse) => void,
  tls?: { key: string; cert: string },
): Promise<HttpServer> {
  const requests: HttpServer["requests"] = [];
  const sockets: Socket[] = [];
  const closed = Promise.withResolvers<number>();
  const onRequest = (incoming: IncomingMessage, response: ServerResponse) => {
    const chunks: Buffer[] = [];
    response.on("error", () => {});
    incoming.on("error", () => {});
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      const { method = "", url: path = "", headers } = incoming;
      const request = { method, path, headers, body: Buffer.concat(chunks).toString() };
      requests.push(request);
      handler(request, response);
    });
  };
  const server = tls ? createTlsServer(tls, onRequest) : createServer(onRequest);
  server.on("connection", (socket: Socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    socket.on("close", () => closed.resolve(socket.bytesWritten));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    url: `${tls ? "https" : "http"}://127.0.0.1:${address.port}`,
    port: address.port,
    requests,
    sockets,
    firstClosed: closed.promise,
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
