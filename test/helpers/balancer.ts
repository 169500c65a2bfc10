import { once } from "node:events";
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from "node:http";

/** A load balancer as one stands in front of replicas: every request goes to the next of them that is ready. */
export type Balancer = {
  url: string;
  /** Puts a replica behind it. Resolves when it is ready for the first time. */
  add: (replica: string) => Promise<void>;
  /** What answered each request, in the order in which they came. Probes are not among them. */
  served: string[];
  /** Requests that a replica did not answer to the end. */
  lost: string[];
  /** The replicas that are sent requests. */
  ready: () => string[];
  stop: () => Promise<void>;
};

/**
 * Keeps connections to its replicas open, asks `/readyz` every 50 ms and goes by that alone; nothing is sent twice. Who comes when no
 * replica is ready is told so by 502.
 */
export async function startBalancer(): Promise<Balancer> {
  const agent = new Agent({ keepAlive: true });
  const replicas = new Map<string, { isReady: boolean; probing: NodeJS.Timeout }>();
  const served: string[] = [];
  const lost: string[] = [];
  const ready = () => [...replicas].flatMap(([url, { isReady }]) => (isReady ? [url] : []));
  let turn = 0;

  const pass = (incoming: IncomingMessage, response: ServerResponse) => {
    const among = ready();
    const replica = among[turn++ % among.length];
    if (replica === undefined) return void response.writeHead(502).end();
    served.push(replica);
    const { method, url = "/", headers } = incoming;
    const lose = (why: string) => {
      lost.push(`${method} ${url} at ${replica}: ${why}`);
      if (response.headersSent) return response.destroy();
      response.writeHead(502).end();
    };
    const onward = request(new URL(url, replica), { agent, method, headers }, (answer) => {
      const { connection: _, "keep-alive": __, ...kept } = answer.headers;
      response.writeHead(answer.statusCode ?? 502, kept);
      answer.on("error", (error) => lose(error.message));
      answer.pipe(response);
    });
    onward.on("error", (error) => lose(error.message));
    response.on("close", () => !response.writableFinished && onward.destroy());
    incoming.pipe(onward);
  };

  const server = createServer(pass).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");

  const probe = async (replica: string) => {
    const answer = await fetch(`${replica}/readyz`).catch(() => null);
    await answer?.text();
    const known = replicas.get(replica);
    if (known) known.isReady = answer?.status === 200;
  };

  return {
    url: `http://127.0.0.1:${address.port}`,
    served,
    lost,
    ready,
    add: async (replica) => {
      clearInterval(replicas.get(replica)?.probing);
      replicas.set(replica, { isReady: false, probing: setInterval(() => void probe(replica), PROBE_MS) });
      while (!replicas.get(replica)?.isReady) await probe(replica);
    },
    stop: async () => {
      for (const { probing } of replicas.values()) clearInterval(probing);
      agent.destroy();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

const PROBE_MS = 50;
