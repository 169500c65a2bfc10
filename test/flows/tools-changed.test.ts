import type OpenAI from "openai";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type ModernServer, say, schemaOf, startModernServer } from "../helpers/mcp-servers.ts";
import { startSessionfulServer, type SessionfulServer } from "../helpers/sessionful-server.ts";
import { call, createWorld, itemsOf, respond, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let client: OpenAI;
let modern: ModernServer;
let older: SessionfulServer;

beforeAll(async () => {
  world = await createWorld();
  modern = await startModernServer({ listTtlMs: 3_600_000 });
  older = await startSessionfulServer({
    grow: async ({ sendNotification }, server) => {
      server.registerTool("grown", {}, () => ({ content: [] }));
      await sendNotification({ method: "notifications/tools/list_changed" });
      return { content: [] };
    },
  });
  await world.connect("modern", { target: modern.url });
  await world.connect("older", { target: older.url });
  client = await world.runtime();
});
afterAll(async () => {
  await world.stop();
  await Promise.all([modern.stop(), older.stop()]);
});

/** On a busy machine, too. */
const soon = (check: () => unknown) => vi.waitFor(check, { timeout: 10_000 });
const tool = (label: string) => ({
  type: "mcp" as const,
  server_label: label,
  require_approval: "never" as const,
});
async function names(label: string): Promise<string[]> {
  const listed = await respond(client, { tools: [tool(label)], input: [] });
  return itemsOf(listed, "mcp_list_tools").flatMap(({ tools }) => tools.map(({ name }) => name));
}

test("a listing that its server keeps for an hour is made anew when it says that its tools changed", async () => {
  expect(await names("modern")).not.toContain("fresh");
  await soon(() => expect(modern.seen("subscriptions/listen")).toHaveLength(1));
  modern.tools.push({ name: "fresh", inputSchema: schemaOf({}, []), run: () => say("fresh") });
  world.advance(1_000);
  expect(await names("modern")).not.toContain("fresh");
  await soon(async () => {
    modern.changed();
    expect(await names("modern")).toContain("fresh");
  });
  const listed = modern.seen("tools/list").length;
  await names("modern");
  expect(modern.seen("tools/list").length).toBeLessThanOrEqual(listed + 1);
});

test("a server that says so all the time is listed four times a second and no oftener", async () => {
  await names("modern");
  const listed = modern.seen("tools/list").length;
  const began = Date.now();
  for (let n = 0; n < 10; n++) {
    modern.changed();
    await names("modern");
  }
  expect(modern.seen("tools/list").length - listed).toBeLessThanOrEqual(1 + (Date.now() - began) / 250);
});

test("what a call changed is listed by the next request, in the older revisions", async () => {
  expect(await names("older")).toEqual(["grow"]);
  await respond(client, { tools: [tool("older")], input: [call("older", "grow", {})] });
  world.advance(300);
  expect(await names("older")).toEqual(["grow", "grown"]);
});
