import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";

/**
 * Where the search goes. Below what systems hand out of themselves (32768 on Linux, 49152 elsewhere): a port of those may be somebody's
 * connection by the time that it is listened on.
 */
const [LOWEST, HIGHEST] = [12_000, 32_000];

/** Of every process another place to begin at, so that two that search at once do not meet. */
let next = randomInt(LOWEST, HIGHEST);

/** Ports of this machine on which nobody listens, no two the same, for a program that must be told before it starts. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    const port = next;
    next = next + 1 < HIGHEST ? next + 1 : LOWEST;
    if (await isFree(port)) ports.push(port);
  }
  return ports;
}

export async function freePort(): Promise<number> {
  const [port = 0] = await freePorts(1);
  return port;
}

async function isFree(port: number): Promise<boolean> {
  const probe = createServer();
  const listening = once(probe, "listening").then(
    () => true,
    () => false,
  );
  probe.listen(port, "127.0.0.1");
  if (!(await listening)) return false;
  probe.close();
  await once(probe, "close");
  return true;
}
