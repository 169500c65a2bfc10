import type { ServerResponse } from "node:http";
import { setTimeout as delay } from "node:timers/promises";

/** A server as far as its requests can be heard of. */
type Heard = {
  prependListener: (
    event: "request",
    listener: (request: unknown, response: ServerResponse) => void,
  ) => unknown;
};

/** The first part of a stop, in which nobody is turned away. Part of the door `node.ts`. */
export type Draining = {
  /** `/readyz` says so: load balancers then send no more requests here. */
  isStopping: () => boolean;
  /** From now on the server's answers end their connections, once `begin` was called. */
  watch: (server: Heard) => void;
  /** Resolves when load balancers have had `forMs` to look elsewhere. */
  begin: (forMs: number) => Promise<void>;
};

/**
 * A server that closes its port at once refuses whoever has not yet heard of it, and one that closes an idle connection may do so
 * while a request is on its way there. So for a while everything is answered, each answer with `Connection: close`
 * (RFC 9112, 9.6): whoever has had one comes no more by that connection.
 */
export function createDraining(): Draining {
  let isStopping = false;
  const unanswered = new Set<ServerResponse>();
  const endConnection = (response: ServerResponse) => {
    if (!response.headersSent) response.setHeader("connection", "close");
  };
  return {
    isStopping: () => isStopping,
    watch: (server) => {
      server.prependListener("request", (_, response) => {
        if (isStopping) return endConnection(response);
        unanswered.add(response);
        response.once("close", () => unanswered.delete(response));
      });
    },
    begin: async (forMs) => {
      isStopping = true;
      for (const response of unanswered) endConnection(response);
      if (forMs > 0) await delay(forMs);
    },
  };
}
