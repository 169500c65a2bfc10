// docs/hosting.md, "From stdio to HTTP": the bridge as it stands, in front of a real stdio server that tells its process.
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { causeOf, createHost, outputOf, readHosting, startKeyIssuer, withToken } from "../helpers/hosting.ts";
import { createWorld, type TestWorld } from "../helpers/world.ts";

const hosting = await readHosting();
const bridge = hosting.block("// serverFor: a bridge");
const host = createHost();
let world: TestWorld;

beforeAll(async () => {
  world = await createWorld();
});
afterEach(host.stop);
afterAll(() => world.stop());

const behindBridge = (env: Record<string, string>, ...parts: string[]) =>
  host.run(
    { ...hosting.filesWith(bridge, ...parts), "stdio.mjs": STDIO_SERVER },
    { args: [process.execPath, "stdio.mjs"], env },
  );

test("its tools are listed and called; after its end the next request starts it again", async () => {
  const server = await behindBridge({});
  expect(await causeOf(world, server, { name: "bridged" })).toBe("none");
  const client = await world.runtime();
  const pid = () => outputOf(client, "bridged", { tool: "pid" });
  const first = await pid();
  expect(await pid()).toBe(first);
  process.kill(Number(first), "SIGKILL");
  await expect.poll(pid, { timeout: 20_000 }).toMatch(/^\d+$/);
  expect(await pid()).not.toBe(first);
});

test("it ends with the bridge", async () => {
  const server = await behindBridge({});
  await causeOf(world, server, { name: "bridged" });
  const pid = Number(await outputOf(await world.runtime(), "bridged", { tool: "pid" }));
  expect(await server.stop()).toBe(0);
  await expect.poll(() => isAlive(pid), { timeout: 20_000 }).toBe(false);
});

test("each caller that a token names has a process of their own, so that nobody meets the state of another", async () => {
  const issuer = host.later(await startKeyIssuer());
  const admit = hosting.block("// admit: the broker's own tokens\n");
  const server = await behindBridge({ BROKER_URL: issuer.url, AUDIENCE: "orders" }, admit);
  const client = await world.runtime();
  const pids = [];
  for (const sub of ["project:default", "project:default:agent:clerk", "project:default"]) {
    const token = await issuer.sign({ sub, aud: "orders", token_use: "workload" });
    const connection = { name: "bridged-for", properties: withToken(token) };
    expect(await causeOf(world, server, connection)).toBe("none");
    pids.push(await outputOf(client, "bridged-for", { tool: "pid" }));
  }
  expect(pids[0]).toMatch(/^\d+$/);
  expect(pids[2]).toBe(pids[0]);
  expect(pids[1]).not.toBe(pids[0]);
});

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

const STDIO_SERVER = `
import { McpServer } from "@modelcontextprotocol/server";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import { z } from "zod";
serveStdio(() => {
  const server = new McpServer({ name: "local", version: "1.0.0" });
  const pid = () => ({ content: [{ type: "text", text: String(process.pid) }] });
  server.registerTool("pid", { description: "Its process.", inputSchema: z.object({}) }, pid);
  return server;
});
`;
