import { afterAll, beforeAll, expect, test } from "vitest";
import type OpenAI from "openai";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let server: ModernServer;
let client: OpenAI;

beforeAll(async () => {
  [world, server] = await Promise.all([
    createWorld(),
    startModernServer({ header: { name: "authorization", value: "Bearer token-1" } }),
  ]);
  client = await world.runtime();
});
afterAll(async () => {
  await world.stop();
  await server.stop();
});

const settings = (body: object) => world.rest("PATCH", "/api/projects/default/settings", body);
const inline = (rest: object = {}) => ({
  type: "mcp" as const,
  server_label: "inline",
  server_url: server.url,
  authorization: "token-1",
  require_approval: "never" as const,
  ...rest,
});
const echo = [call("inline", "echo", { text: "hi" })];

test("on loopback a server_url without a connection is called with the request's own token, which is never echoed", async () => {
  const response = await client.responses.create({ tools: [inline()], input: echo });
  expect(itemsOf(response, "mcp_call")[0]?.output).toBe("hi");
  expect(JSON.stringify(response)).not.toContain("token-1");
  expect(response.tools[0]).toMatchObject({ type: "mcp", server_label: "inline", headers: null });
});

test("a follow-up that omits its tools has the token again; a deleted response took it along", async () => {
  const first = await client.responses.create({ tools: [inline()], input: echo });
  const input = [call("inline", "add", { a: 1, b: 2 }, "c2")];
  const second = await client.responses.create({ previous_response_id: first.id, input });
  expect(itemsOf(second, "mcp_call")[0]?.output).toBe("3");
});

test("a held call keeps the token sealed, also with store:false", async () => {
  const asked = await client.responses.create({
    store: false,
    tools: [inline({ require_approval: "always" })],
    input: echo,
  });
  const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
  const done = await client.responses.create({
    store: false,
    input: [{ type: "mcp_approval_response", approval_request_id: id, approve: true }],
  });
  expect(itemsOf(done, "mcp_call")).toMatchObject([{ output: "hi" }]);
});

test("the wrong token is a failed item with the server's status", async () => {
  const response = await client.responses.create({
    tools: [inline({ authorization: "wrong" })],
    input: echo,
  });
  expect(itemsOf(response, "mcp_call")[0]?.error).toMatchObject({ type: "http_error", code: 401 });
});

test("the project decides which hosts may be named", async () => {
  await settings({ adhocServers: "deny" });
  await expect(client.responses.create({ tools: [inline()], input: echo })).rejects.toMatchObject({
    status: 400,
    param: "tools[0].server_url",
  });
  await settings({ adhocServers: ["elsewhere.example"] });
  await expect(client.responses.create({ tools: [inline()], input: echo })).rejects.toMatchObject({
    status: 400,
  });
  await settings({ adhocServers: ["127.0.0.1"] });
  expect(itemsOf(await client.responses.create({ tools: [inline()], input: echo }), "mcp_call")).toHaveLength(
    1,
  );
});

test("a URL that is a connection's target takes that connection's policy, and never its credentials", async () => {
  await settings({ adhocServers: "allow" });
  await world.connect("guarded", {
    target: server.url,
    authType: "CustomKeys",
    credentials: { keys: { Authorization: "Bearer token-1" } },
    requireApproval: "always",
    allowedTools: ["echo"],
  });
  const input = [...echo, call("inline", "add", { a: 1, b: 2 }, "c2")];
  const response = await client.responses.create({ tools: [inline()], input });
  expect(response.output.map(({ type }) => type)).toEqual(["mcp_approval_request", "mcp_call"]);
  expect(itemsOf(response, "mcp_call")[0]).toMatchObject({ status: "failed", error: { code: -32602 } });
  const { authorization: _, ...bare } = inline();
  const without = await client.responses.create({ tools: [bare], input: echo });
  expect(itemsOf(without, "mcp_call")[0]?.error).toMatchObject({ code: 401 });
});

test.each(["http://169.254.169.254/mcp", "http://10.0.0.1/mcp", "the broker itself", "ftp://x/y"])(
  "egress rules hold for it: %s",
  async (url) => {
    const tools = [inline({ server_url: url === "the broker itself" ? `${world.url}/mcp` : url })];
    const response = await client.responses.create({ tools, input: echo });
    expect(itemsOf(response, "mcp_call")).toMatchObject([
      { status: "failed", error: { type: "http_error", code: 502 } },
    ]);
  },
);
