import { afterAll, beforeAll, expect, test } from "vitest";
import { createAccessDesk } from "../../src/core/access.ts";
import { asItsAgent } from "../../src/core/approved.ts";
import { createBroker } from "../../src/core/broker.ts";
import type { Context } from "../../src/core/context.ts";
import { planTurn } from "../../src/core/plan.ts";
import { DEFAULT_SETTINGS } from "../../src/core/project.ts";
import { revokedSince } from "../../src/core/standing.ts";
import { serverOf, toolFor } from "../../src/core/servers.ts";
import { identityOf } from "../../src/core/workload.ts";
import { readAgentDefinition, readResponsesBody } from "../../src/http/wire/request.ts";
import { createTestApp, type TestApp } from "../helpers/app.ts";
import { aHeldCall, aResponse, stored } from "../store/things.ts";

let app: TestApp;
let context: Context;
beforeAll(async () => {
  app = await createTestApp();
  // Plans ask no model; they want to know that there is one.
  app.world.model = {
    stream: () => {
      throw new Error("not asked");
    },
  };
  const { caller } = await app.makeKey({ roles: ["runtime"] });
  context = {
    project: { name: "default", settings: DEFAULT_SETTINGS, version: 1, createdAt: 1 },
    caller,
    user: null,
    userToken: null,
    requestId: "req_1",
    signal: new AbortController().signal,
  };
  for (const [name, identity] of [
    ["keeper", "own"],
    ["plain", "shared"],
  ]) {
    const body = { name, identity, definition: { kind: "prompt", model: "m" } };
    await app.send("POST", "/api/projects/default/agents", { body });
  }
});
afterAll(() => app.stop());

const plan = async (body: object) => {
  const { request } = readResponsesBody({ input: "hello", ...body });
  const { desks } = createBroker(app.world, { readDefinition: readAgentDefinition });
  return (await planTurn(desks, context, request, readAgentDefinition)).context;
};
const named = (name: string) => ({ agent_reference: { type: "agent_reference", name } });
const own = { kind: "agent", project: "default", agent: "keeper" };
const shared = { kind: "agent", project: "default", agent: null };

test("a response that names an agent acts as that agent's identity", async () => {
  expect(identityOf("agent", await plan(named("keeper")))).toEqual(own);
  expect(identityOf("agent", await plan(named("plain")))).toEqual(shared);
  expect(identityOf("agent", await plan({ model: "m" }))).toEqual(shared);
});

test("a follow-up acts as the identity of the agent that it goes on with, as it is now", async () => {
  const owner = { user: null, principal: context.caller.principal };
  const agent = { name: "keeper", version: 1 };
  const first = stored(aResponse("default", { owner, agent }), { inputFrom: 0, outputFrom: 0, end: 0 });
  await app.world.store.responses.append(first, [], []);
  const follow = () => plan({ previous_response_id: first.response.id });
  expect(identityOf("agent", await follow())).toEqual(own);
  await app.send("PATCH", "/api/projects/default/agents/keeper", { body: { identity: "shared" } });
  expect(identityOf("agent", await follow())).toEqual(shared);
  await app.send("PATCH", "/api/projects/default/agents/keeper", { body: { identity: "own" } });
});

test("an approved call runs as the agent that asked for it, whatever the request names", async () => {
  const run = async (asked: Context, name: string | null) =>
    identityOf(
      "agent",
      await asItsAgent(
        app.world,
        asked,
        aHeldCall("default", {
          agent: name === null ? null : { name, version: 1 },
          createdAt: app.world.clock.now(),
        }),
      ),
    );
  const keeper = { ...context, agent: "keeper", agentIdentity: "own" as const, agentMadeAt: 1 };
  expect(await run(context, "keeper")).toEqual(own);
  expect(await run(keeper, "keeper")).toEqual(own);
  expect(await run(keeper, "plain")).toEqual(shared);
  expect(await run(keeper, null)).toEqual(shared);
  // An agent that is gone: an identity for which there are no tokens, and not what others share.
  expect(await run(context, "gone")).toEqual({ ...own, agent: "gone" });
});

test("an agent that was made again under its name goes on with no session and no listing of the one before", async () => {
  const properties = {
    category: "RemoteTool",
    authType: "AgenticIdentityToken",
    target: "http://127.0.0.1:9/mcp",
    audience: "api://ledger",
  };
  await app.send("PUT", "/api/projects/default/connections/ledger", { body: { properties } });
  const record = await app.world.store.connections.get("default", "ledger");
  if (!record) throw new Error("no connection");
  const access = createAccessDesk(app.world);
  const enter = async (agentMadeAt: number) => {
    const acting = { ...context, agent: "keeper", agentIdentity: "own" as const, agentMadeAt };
    const door = await access.open(acting, serverOf(toolFor("ledger"), record));
    return door.ok ? [door.access.partition, door.access.session] : [];
  };
  const [before, again] = [await enter(1), await enter(2)];
  expect(new Set([...before, ...again]).size).toBe(4);
  expect(await enter(1)).toEqual(before);
});

test("a turn under way stops acting as an agent that is disabled, deleted or made again meanwhile", async () => {
  const path = "/api/projects/default/agents/fleeting";
  const make = () =>
    app.send("POST", "/api/projects/default/agents", {
      body: { name: "fleeting", identity: "own", definition: { kind: "prompt", model: "m" } },
    });
  await make();
  const acting = await plan(named("fleeting"));
  const revoked = () => revokedSince(app.world, acting, 0);
  expect(await revoked()).toBeNull();
  await app.send("POST", `${path}:disable`, {});
  expect(await revoked()).toContain("agent fleeting");
  await app.send("POST", `${path}:enable`, {});
  expect(await revoked()).toBeNull();
  await app.send("DELETE", path, {});
  expect(await revoked()).toContain("agent fleeting");
  await make();
  expect(await revoked()).toContain("agent fleeting");
});
