// deploy/compose: its three brokers are renewed one after the other, as roll.sh does it, and its nginx loses no call. With the recipe's own
// times, as they only fit together: three drains of five seconds.
import { setTimeout as pause } from "node:timers/promises";
import { parseEnv } from "node:util";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { type Composed, startComposed } from "../helpers/compose.ts";
import { recipe } from "../helpers/deploy.ts";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import { hasNginx } from "../helpers/nginx.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { call, itemsOf, streamed } from "../helpers/world.ts";

const canRun = hasNginx && inject("postgresUrl") !== "";
/** Three processes that start at once, on a machine that is busy. */
const START_MS = 180_000;
let composed: Composed;
let server: ModernServer;
let key: string;

beforeAll(async () => {
  if (!canRun) return;
  server = await startModernServer();
  composed = await startComposed({
    databaseUrl: await createDatabase(),
    dotEnv: { ...parseEnv(recipe("compose/.env.example")), CONSENTRY_EGRESS_ALLOW: "loopback" } as Record<
      string,
      string
    >,
  });
  const properties = { category: "RemoteTool", authType: "None", target: server.url };
  await composed.rest("PUT", "/api/projects/default/connections/notes", { properties });
  const made = await composed.rest("POST", "/api/projects/default/keys", {
    name: "runtime",
    roles: ["runtime"],
  });
  key = String((made.body as { key: string }).key);
}, START_MS);
afterAll(async () => {
  await composed?.stop();
  await server?.stop();
});

test.skipIf(!canRun)(
  "one replica after the other is renewed, and no call of a constant load is lost",
  async () => {
    let over = false;
    const outputs: (string | null | undefined)[] = [];
    const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];
    const worker = async (name: number) => {
      const client = composed.client(key);
      for (let n = 0; !over; n++) {
        const body = { tools, input: [call("notes", "echo", { text: "kept" }, `c${name}-${n}`)] as never };
        const response =
          n % 2 === 0 ? await client.responses.create(body) : (await streamed(client, body)).response;
        outputs.push(itemsOf(response, "mcp_call")[0]?.output);
        await pause(40);
      }
    };
    const load = Promise.all([0, 1].map(worker));
    for (const place of [0, 1, 2]) {
      const before = outputs.length;
      const code = await composed.roll(place, async () => {
        // While it is not there, and nginx still asks for it.
        await expect.poll(() => outputs.length, { timeout: 20_000 }).toBeGreaterThan(before + 6);
      });
      expect(code).toBe(0);
    }
    over = true;
    await load;
    expect(new Set(outputs)).toEqual(new Set(["kept"]));
    const calls = (await composed.proxy.logged()).split("\n").filter((line) => line.includes("/responses"));
    expect(calls.filter((line) => !line.includes('"status":200'))).toEqual([]);
    // nginx asked one that was gone, and then another.
    expect(calls.some((line) => line.includes('"upstream_status":"502, 200"'))).toBe(true);
  },
  2 * START_MS,
);
