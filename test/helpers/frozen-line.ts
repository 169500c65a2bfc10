import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

/** A way to a port of this machine that can go silent: nothing is closed, and nothing comes through any more. */
export type Line = {
  port: number;
  freeze: () => void;
  /** Goes silent when these words would go to the port, and does not let them through. */
  freezeAt: (words: string) => void;
  /** What was said to the port first, on the last connection. */
  greeting: () => string;
  thaw: () => void;
  /** Whether something was said towards the port while it was silent. */
  isAsked: () => boolean;
  stop: () => Promise<void>;
};

export async function openLine(to: number): Promise<Line> {
  const sockets = new Set<Socket>();
  let isFrozen = false;
  let isAsked = false;
  let last: string | null = null;
  let greeting = "";
  const server = createServer((near) => {
    const far = connect(to, "127.0.0.1");
    for (const [from, into] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on("error", () => {});
      if (from === near) from.once("data", (chunk) => (greeting = chunk.toString()));
      from.on("data", (chunk) => {
        if (from === near && last !== null && chunk.includes(last)) isFrozen = true;
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
    freezeAt: (words) => {
      last = words;
    },
    greeting: () => greeting,
    thaw: () => {
      isFrozen = false;
      last = null;
    },
    isAsked: () => isAsked,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
