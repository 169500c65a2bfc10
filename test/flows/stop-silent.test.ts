// A broker that is told to stop while its database says nothing any more.
import { expect, inject, test } from "vitest";
import { openLine } from "../helpers/frozen-line.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { startBroker } from "../helpers/process.ts";
import { ADMIN_KEY } from "../helpers/world.ts";

test.skipIf(inject("postgresUrl") === "")(
  "it ends soon after its time, whatever is on the way to the database",
  async () => {
    const url = new URL(await createDatabase());
    const line = await openLine(Number(url.port));
    url.port = String(line.port);
    const broker = await startBroker({
      CONSENTRY_DATABASE_URL: url.href,
      CONSENTRY_KEYRING: `k1:${Buffer.alloc(32, 7).toString("base64")}`,
      CONSENTRY_ADMIN_KEY: ADMIN_KEY,
      CONSENTRY_DRAIN_MS: "0",
      CONSENTRY_SHUTDOWN_MS: "1000",
    });
    line.freeze();
    const asked = fetch(`${broker.url}/api/projects`, {
      headers: { authorization: `Bearer ${ADMIN_KEY}` },
    }).catch(() => null);
    await expect.poll(() => line.isAsked()).toBe(true);
    const began = Date.now();
    expect(await broker.stop()).toBe(0);
    // One answer is waited for for 35 seconds, which is longer than all of this.
    expect(Date.now() - began).toBeLessThan(30_000);
    expect(broker.output()).toContain('"event":"stopped"');
    await asked;
    await line.stop();
  },
  60_000,
);
