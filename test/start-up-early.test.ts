import { mkdtemp, rm } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { expect, test } from "vitest";
import { freePort } from "./helpers/ports.ts";
import { startBroker } from "./helpers/process.ts";

/** Asks all the time, from before the port is open on: the status of the first answer, or null when it is no longer awaited. */
async function firstAnswer(port: number, isAwaited: () => boolean): Promise<number | null> {
  while (isAwaited()) {
    const status = await new Promise<number | null>((resolve) => {
      const asked = request({ port, host: "127.0.0.1", path: "/readyz" }, (answer) => {
        answer.resume();
        resolve(answer.statusCode ?? 0);
      });
      asked.on("error", () => resolve(null)).end();
    });
    if (status !== null) return status;
    await pause(1);
  }
  return null;
}

test("a request that comes while the broker still starts waits, and is answered", async () => {
  const folder = await mkdtemp(join(tmpdir(), "consentry-"));
  const port = await freePort();
  let isAwaited = true;
  const first = firstAnswer(port, () => isAwaited);
  try {
    const broker = await startBroker({
      CONSENTRY_PORT: String(port),
      CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
    });
    // Whoever balances without probes sends what it has as soon as the port is open.
    const status = await first;
    await broker.kill9();
    expect(status).toBe(200);
  } finally {
    isAwaited = false;
    await rm(folder, { recursive: true, force: true });
  }
});
