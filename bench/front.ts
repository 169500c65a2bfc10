import { startBalancer } from "../test/helpers/balancer.ts";
import { hasNginx, startBalancing } from "./nginx.ts";
import { freePort } from "../test/helpers/ports.ts";

/** What stands before brokers. They are told its URL before they start, so it is known before them. */
export type Front = {
  url: string;
  /** Sends requests to these, each in its turn. */
  lead: (brokers: string[]) => Promise<void>;
  stop: () => Promise<void>;
};

/** nginx, or where there is none a balancer in this process, which costs more. */
export async function openFront(folder: string): Promise<Front> {
  if (!hasNginx) {
    const { url, add, stop } = await startBalancer();
    return {
      url,
      lead: async (brokers) => {
        await Promise.all(brokers.map(add));
      },
      stop,
    };
  }
  const port = await freePort();
  let stop = async () => {};
  return {
    url: `http://127.0.0.1:${port}`,
    lead: async (brokers) => {
      ({ stop } = await startBalancing(folder, { port, brokers }));
    },
    stop: () => stop(),
  };
}
