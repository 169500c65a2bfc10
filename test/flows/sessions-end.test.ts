// What becomes of sessions at servers when what they were begun with is changed or taken back.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { connectOdd, finishOdd, type OddServer, startOddServer } from "../helpers/odd-server.ts";
import { linkOf } from "../helpers/people.ts";
import { type SessionfulServer, startSessionfulServer } from "../helpers/sessionful-server.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
beforeEach(async () => {
  world = await createWorld();
});
afterEach(() => world.stop());

/** On a busy machine, too. */
const soon = (check: () => unknown) => vi.waitFor(check, { timeout: 10_000 });
const tool = (label: string) => ({
  type: "mcp" as const,
  server_label: label,
  require_approval: "never" as const,
});
async function callAs(user: string, label: string, name: string): Promise<string | null | undefined> {
  const client = await world.runtime({ user, rights: ["act_for_users"] });
  const response = await client.responses.create({ tools: [tool(label)], input: [call(label, name, {})] });
  return itemsOf(response, "mcp_call")[0]?.output;
}

describe("a connection with a key", () => {
  let server: SessionfulServer;
  const properties = (key: string) => ({
    target: server.url,
    authType: "CustomKeys",
    credentials: { keys: { "x-api-key": key } },
  });
  const ends = () =>
    server.requests
      .filter(({ method }) => method === "DELETE")
      .map(({ headers }) => headers.get("x-api-key"));

  beforeEach(async () => {
    server = await startSessionfulServer({ quiet: () => ({ content: [{ type: "text", text: "ok" }] }) });
    await world.connect("team", properties("the first key"));
    await callAs("ann", "team", "quiet");
    await callAs("bob", "team", "quiet");
    if (server.sessions().length !== 2) throw new Error("there are not two sessions");
  });
  afterEach(() => server.stop());

  test("that is changed ends its sessions with the key before, and none of them is used again", async () => {
    const before = server.sessions();
    await world.connect("team", properties("the second key"));
    await soon(() => expect(server.sessions()).toEqual([]));
    expect(ends()).toEqual(["the first key", "the first key"]);
    expect(await callAs("ann", "team", "quiet")).toBe("ok");
    expect(server.sessions()).toHaveLength(1);
    expect(before).not.toContain(server.sessions()[0]);
    expect(server.seen("tools/call").at(-1)?.headers.get("x-api-key")).toBe("the second key");
  });

  test("that is deleted ends its sessions", async () => {
    await world.rest("DELETE", "/api/projects/default/connections/team");
    await soon(() => expect(server.sessions()).toEqual([]));
  });

  test("keeps the sessions of others when a user is blocked", async () => {
    await world.rest("DELETE", "/api/projects/default/users/ann");
    await soon(() => expect(server.sessions()).toHaveLength(1));
    expect(await callAs("bob", "team", "quiet")).toBe("ok");
    expect(server.seen("initialize")).toHaveLength(2);
  });

  test("loses its sessions when the broker stops", async () => {
    await world.stop();
    expect(server.sessions()).toEqual([]);
    world = await createWorld();
  });
});

describe("a person's own account", () => {
  let odd: OddServer;
  beforeEach(async () => {
    odd = await startOddServer();
    odd.ways.sessions = true;
    await connectOdd(world, odd);
    const ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
    const asked = await ann.responses.create({ tools: [tool("odd")], input: [call("odd", "whoami", {})] });
    await finishOdd(linkOf(asked));
    if ((await callAs("ann", "odd", "whoami")) !== "Bearer a1") throw new Error("ann is not connected");
  });
  afterEach(() => odd.stop());

  test("that is disconnected ends its session with its token, before that is revoked", async () => {
    const order: string[] = [];
    odd.endedSessions.push = (ended) => order.push(ended);
    odd.revoked.push = (token) => order.push(token);
    await world.rest("DELETE", "/api/projects/default/connections/odd/grants/ann");
    await soon(() => expect(order).toHaveLength(2));
    expect(order).toEqual([expect.stringMatching(/^a1 session-\d$/), "r1"]);
  });

  test("that is connected again begins another session", async () => {
    await world.rest("DELETE", "/api/projects/default/connections/odd/grants/ann");
    const ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
    const asked = await ann.responses.create({ tools: [tool("odd")], input: [call("odd", "whoami", {})] });
    await finishOdd(linkOf(asked));
    expect(await callAs("ann", "odd", "whoami")).toBe("Bearer a2");
    await soon(() => expect(odd.endedSessions).toHaveLength(1));
  });
});
