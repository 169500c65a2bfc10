import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

/** A way to a port of this machine that can go silent: nothing is closed, and nothing comes through any more. */
export type Line = {
  port: number;
  freeze: () => void;
  thaw: () => void;
  /** Whether something was said towards the port while it was silent. */
  isAsked: () => boolean;
  stop: () => Promise<void>;
};

export async function openLine(to: number): Promise<Line> {
  const sockets = new Set<Socket>();
  let isFrozen = false;
  let isAsked = false;
  const server = createServer((near) => {
    const far = connect(to, "127.0.0.1");
    for (const [from, into] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on("error", () => {});
      from.on("data", (chunk) => {
        if (!isFrozen) into.write(chunk);
        else if (from === near) isAsked = true;
      });
      from.on("close", () => {
        sockets.delete(from);
        if (!isFrozen) into.destroy();
      });
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    port: address.port,
    freeze: () => {
      isFrozen = true;
    },
    thaw: () => {
      isFrozen = false;
    },
    isAsked: () => isAsked,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
