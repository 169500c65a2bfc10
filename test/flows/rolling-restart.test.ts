// A replica that is told to stop, behind a load balancer that goes by /readyz alone: nobody's call is lost.
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { type ModernServer, say, schemaOf, startModernServer } from "../helpers/mcp-servers.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { type Replicas, startReplicas } from "../helpers/replicas.ts";
import { call, itemsOf } from "../helpers/world.ts";

const tools = [{ type: "mcp" as const, server_label: "work", require_approval: "never" as const }];
const hasPostgres = inject("postgresUrl") !== "";
let server: ModernServer;
let replicas: Replicas;
/** Three processes that start at once, on a machine that is busy. */
const START_MS = 120_000;
/** What the tool `wait` waits for. */
let release = Promise.withResolvers<void>();

beforeAll(async () => {
  if (!hasPostgres) return;
  const wait = {
    name: "wait",
    inputSchema: schemaOf({}, []),
    run: async () => {
      await release.promise;
      return say("worked");
    },
  };
  server = await startModernServer({ tools: [wait] });
  replicas = await startReplicas(3, {
    databaseUrl: await createDatabase(),
    env: { CONSENTRY_DRAIN_MS: "700" },
  });
  await replicas.connect("work", { target: server.url });
}, START_MS);
afterAll(async () => {
  await replicas?.stop();
  await server?.stop();
});

test.skipIf(!hasPostgres)(
  "all three are restarted one after the other, and no call of a constant load is lost",
  async () => {
    release.resolve();
    let over = false;
    const outputs: (string | null | undefined)[] = [];
    const worker = async (name: number) => {
      for (let n = 0; !over; n++) {
        const stream = n % 2 === 0;
        const input = [call("work", "wait", {}, `c${name}-${n}`)];
        const client = replicas.client();
        const answer = stream
          ? await client.responses.stream({ tools, input } as never).finalResponse()
          : await client.responses.create({ tools, input });
        outputs.push(itemsOf(answer, "mcp_call")[0]?.output);
        await pause(20);
      }
    };
    const load = Promise.all([0, 1, 2, 3].map(worker));
    for (const place of [0, 1, 2]) {
      const stopping = replicas.all[place];
      const before = outputs.length;
      expect(await stopping?.stop()).toBe(0);
      await expect.poll(() => outputs.length).toBeGreaterThan(before);
      await replicas.restart(place);
    }
    over = true;
    await load;
    expect(replicas.balancer.lost).toEqual([]);
    expect(new Set(outputs)).toEqual(new Set(["worked"]));
    expect(new Set(replicas.balancer.served).size).toBe(3);
  },
  2 * START_MS,
);

test.skipIf(!hasPostgres)(
  "while it drains it answers everything, ends each connection, and says at /readyz that it stops",
  async () => {
    const [replica] = replicas.all;
    if (!replica) throw new Error("no replica");
    release = Promise.withResolvers();
    const input = [call("work", "wait", {}, "c")];
    const before = server.seen("tools/call").length;
    // Under way since before: its connection ends with its answer, too.
    const asked = replicas.client({ at: replica.at }).responses.create({ tools, input }).withResponse();
    await expect.poll(() => server.seen("tools/call").length).toBe(before + 1);
    const stopped = replica.stop();
    await expect.poll(() => fetch(`${replica.at}/readyz`).then(({ status }) => status)).toBe(503);
    const probe = await fetch(`${replica.at}/readyz`);
    expect(await probe.json()).toEqual({ status: "stopping" });
    expect(probe.headers.get("connection")).toBe("close");
    const late = await replicas.rest("GET", "/api/projects/default/whoami", undefined, replica.at);
    expect([late.status, late.headers.get("connection")]).toEqual([200, "close"]);
    release.resolve();
    const { data, response } = await asked;
    expect(itemsOf(data, "mcp_call")).toMatchObject([{ output: "worked" }]);
    expect(response.headers.get("connection")).toBe("close");
    expect(await stopped).toBe(0);
    await expect(fetch(`${replica.at}/readyz`)).rejects.toThrow();
  },
);
