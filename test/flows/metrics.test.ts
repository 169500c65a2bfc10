// Metrics from outside: what happens is counted, who may read it, and what is never in it.
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { expireConsents } from "../../src/core/consent-ends.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import { type ScriptedModel, startModel } from "../helpers/model.ts";
import { allow, linkOf, person } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { ADMIN_KEY, call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;
let plain: ModernServer;
let model: ScriptedModel;

beforeEach(async () => {
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  plain = await startModernServer();
  model = await startModel(() => ({ text: "done" }));
  world = await createWorld({ model, env: { CONSENTRY_METRICS_PORT: "0" } });
  const credentials = {};
  await world.connect("notes", { authType: "OAuth2", target: server.url, credentials });
  await world.connect("plain", { target: plain.url });
});
afterEach(async () => {
  await world.stop();
  await Promise.all([model.close(), server.stop(), plain.stop(), authServer.stop()]);
});

const listener = () => String(world.logs.find(({ event }) => event === "started")?.fields["metrics"]);
const scrape = async () => (await fetch(listener())).text();
const valueOf = async (series: string) => {
  const line = (await scrape()).split("\n").find((text) => text.startsWith(`consentry_${series} `));
  return line === undefined ? null : Number(line.split(" ").at(-1));
};
const mcp = (label: string, approval: "never" | "always" = "never") => ({
  type: "mcp" as const,
  server_label: label,
  require_approval: approval,
});

describe("what happens is counted", () => {
  test("calls, questions, requests and refusals", async () => {
    const client = await world.runtime({ user: "ann", rights: ["act_for_users"] });
    const tools = [mcp("plain")];
    await client.responses.create({ tools, input: [call("plain", "echo", { text: "hello" })] });
    await client.responses.create({ tools, input: [call("plain", "fail", {})] });
    await client.responses.create({ model: "m", input: "hello" });
    await client.responses.retrieve("resp_none").catch(() => {});
    await expect
      .poll(() => valueOf('tool_calls_total{project="default",connection="plain",outcome="ok"}'))
      .toBe(1);
    await expect
      .poll(() => valueOf('upstream_requests_total{ask="tools/list",outcome="ok"}'))
      .toBeGreaterThan(0);
    await expect.poll(() => valueOf('upstream_request_duration_seconds_count{ask="model"}')).toBe(1);
    await expect.poll(() => valueOf('upstream_requests_total{ask="model",outcome="ok"}')).toBe(1);
    await expect.poll(() => valueOf('refusals_total{code="response_not_found"}')).toBe(1);
    const route = "/api/projects/{project}/openai/v1/responses";
    await expect
      .poll(() => valueOf(`http_requests_total{method="POST",route="${route}",status="200"}`))
      .toBe(3);
  });

  test("consents, from the question to the account, and refreshes", async () => {
    const ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
    const tools = [mcp("notes")];
    const ask = () => ann.responses.create({ tools, input: [call("notes", "whoami", {})] });
    const asked = await ask();
    await ask();
    await expect.poll(() => valueOf('consents_total{outcome="opened"}')).toBe(1);
    await allow(person(authServer, "ann"), linkOf(asked));
    await expect.poll(() => valueOf('consents_total{outcome="connected"}')).toBe(1);
    world.advance(2 * 60 * 60_000);
    const [called] = itemsOf(await ask(), "mcp_call");
    expect(called?.error).toBeNull();
    await expect
      .poll(() => valueOf('refreshes_total{project="default",connection="notes",outcome="refreshed"}'))
      .toBe(1);
  });

  test("consents that nobody finishes, when they are asked for anew and when they are not", async () => {
    const [ann, bob] = await Promise.all(
      ["ann", "bob"].map((user) => world.runtime({ user, rights: ["act_for_users"] })),
    );
    const ask = (client = ann) => client?.responses.create({ tools: [mcp("notes")] });
    await Promise.all([ask(), ask(bob)]);
    await expect.poll(() => valueOf('consents_total{outcome="opened"}')).toBe(2);
    world.advance(2 * 60 * 60_000);
    await ask();
    await expect.poll(() => valueOf('consents_total{outcome="expired"}')).toBe(1);
    await expireConsents(world.world);
    await expireConsents(world.world);
    await expect.poll(() => valueOf('consents_total{outcome="expired"}')).toBe(2);
    expect(await valueOf('consents_total{outcome="opened"}')).toBe(3);
  });

  test("approvals", async () => {
    const client = await world.runtime();
    const tools = [mcp("plain", "always")];
    const held = await client.responses.create({ tools, input: [call("plain", "echo", { text: "x" })] });
    const [asked] = itemsOf(held, "mcp_approval_request");
    const answer = { type: "mcp_approval_response" as const, approve: false };
    await client.responses.create({
      previous_response_id: held.id,
      input: [{ ...answer, approval_request_id: asked?.id ?? "" }],
    });
    await expect.poll(() => valueOf('approvals_total{outcome="requested"}')).toBe(1);
    await expect.poll(() => valueOf('approvals_total{outcome="denied"}')).toBe(1);
    await expect.poll(() => valueOf('approvals_total{outcome="approved"}')).toBeNull();
  });
});

test("nobody's name, no argument, no answer and no address is in it", async () => {
  const ann = await world.runtime({ user: "canary-user", rights: ["act_for_users"], name: "canary-key" });
  const input = [
    call("plain", "echo", { text: "canary-argument" }, "canary-id"),
    call("plain", "canary-tool", {}),
  ];
  await ann.responses.create({ tools: [mcp("plain")], input });
  await ann.responses.create({ model: "canary-model", input: "canary-words" });
  await fetch(`${world.url}/canary-path?q=canary`, { method: "POST" });
  await world.rest("GET", "/api/projects/canary-project/keys");
  const text = await scrape();
  expect(text).toContain("consentry_tool_calls_total{");
  expect(text).not.toContain("canary");
  expect(text).not.toContain("127.0.0.1");
});

describe("who may read it", () => {
  test("at the broker itself the operator, and nobody else", async () => {
    const path = `${world.url}/metrics`;
    const made = await world.rest("POST", "/api/projects/default/keys", { name: "a", roles: ["admin"] });
    const statusOf = async (headers: Record<string, string>) => (await fetch(path, { headers })).status;
    expect(await statusOf({})).toBe(401);
    expect(await statusOf({ "api-key": String(made.body["key"]) })).toBe(403);
    const answer = await fetch(path, { headers: { "api-key": ADMIN_KEY } });
    expect([answer.status, answer.headers.get("content-type")]).toEqual([
      200,
      expect.stringContaining("text/plain; version=0.0.4"),
    ]);
    expect(await answer.text()).toContain("consentry_http_requests_total{");
  });

  test("its own listener serves nothing else", async () => {
    const { origin } = new URL(listener());
    for (const path of ["/", "/healthz", "/api/projects", "/metrics/x"])
      expect((await fetch(`${origin}${path}`)).status).toBe(404);
    expect((await fetch(listener(), { method: "POST" })).status).toBe(405);
  });

  test("on loopback a name that leads there is not enough: a page could have made it", async () => {
    const { port } = new URL(listener());
    const statusFor = (host: string) =>
      new Promise((resolve, reject) => {
        request({ port, path: "/metrics", headers: { host } }, (answer) => {
          resolve(answer.resume().statusCode);
        })
          .on("error", reject)
          .end();
      });
    expect(await statusFor(`attacker.example:${port}`)).toBe(403);
    expect(await statusFor(`localhost:${port}`)).toBe(200);
  });

  test("no connection leads there, though loopback is allowed", async () => {
    const refused = await world.connect("self", { target: listener() });
    expect([refused.status, JSON.stringify(refused.body)]).toEqual([
      400,
      expect.stringContaining("is this broker itself"),
    ]);
  });
});

test("a port that is taken is said, and nothing else is left listening", async () => {
  const other = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => other.once("listening", resolve));
  const { port } = other.address() as AddressInfo;
  await expect(createWorld({ env: { CONSENTRY_METRICS_PORT: String(port) } })).rejects.toThrow("EADDRINUSE");
  other.close();
});
