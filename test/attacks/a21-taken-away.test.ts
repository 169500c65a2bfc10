// A21, A16: what was granted when a turn began, or when a call was approved, and was taken away since.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type OpenAI from "openai";
import { type ModernServer, say, schemaOf, startModernServer } from "../helpers/mcp-servers.ts";
import { type ScriptedModel, type ScriptedTurn, startModel } from "../helpers/model.ts";
import { call, clientOf, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let server: ModernServer;
let model: ScriptedModel;
let script: ScriptedTurn[] = [];
/** What happens while the tool `pause` runs. */
let meanwhile: () => Promise<unknown> = async () => {};

beforeAll(async () => {
  const pause = {
    name: "pause",
    inputSchema: schemaOf({}, []),
    run: async () => {
      await meanwhile();
      world.advance(1_000);
      return say("paused");
    },
  };
  const note = { name: "note", inputSchema: schemaOf({}, []), run: () => say("noted") };
  [server, model] = await Promise.all([
    startModernServer({ tools: [pause, note] }),
    startModel(() => script.shift() ?? { status: 500, body: {} }),
  ]);
  world = await createWorld({ model });
});
beforeEach(async () => {
  await world.connect("notes", { target: server.url });
  meanwhile = async () => {};
});
afterAll(async () => {
  await world.stop();
  await Promise.all([server.stop(), model.close()]);
});

const never = { type: "mcp" as const, server_label: "notes", require_approval: "never" as const };
const approve = (id: string) => ({
  type: "mcp_approval_response" as const,
  approval_request_id: id,
  approve: true,
});
const notesMade = () =>
  server.seen("tools/call").filter(({ body }) => body?.params?.["name"] === "note").length;

async function keyOf(rights: string[] = []) {
  const name = `k-${crypto.randomUUID().slice(0, 8)}`;
  const { body } = await world.rest("POST", "/api/projects/default/keys", {
    name,
    roles: ["runtime"],
    rights,
  });
  const as = (user?: string) =>
    clientOf(world.url, String(body["key"]), { project: "default", ...(user && { user }) });
  return { id: String(body["id"]), as };
}

describe("while a turn is under way", () => {
  const go = async (client: OpenAI) => {
    script = [
      { calls: [{ name: "notes__pause", arguments: {} }] },
      { calls: [{ name: "notes__note", arguments: {} }] },
      { text: "done" },
    ];
    const before = notesMade();
    const response = await client.responses.create({ model: "m", input: "go", tools: [never] });
    const second = response.output.filter((item) => "name" in item && item.name === "note");
    return { second, made: notesMade() - before };
  };

  test("nothing taken away: the second call is made", async () => {
    const { as } = await keyOf();
    expect(await go(as())).toMatchObject({ made: 1, second: [{ type: "mcp_call", output: "noted" }] });
  });

  test.each([
    ["the connection is deleted", () => world.rest("DELETE", "/api/projects/default/connections/notes")],
    [
      "the tool is taken off the list",
      () => world.connect("notes", { target: server.url, allowedTools: ["pause"] }),
    ],
  ])("%s: the next call fails", async (_, act) => {
    meanwhile = act;
    const { as } = await keyOf();
    expect(await go(as())).toMatchObject({ made: 0, second: [{ type: "mcp_call", status: "failed" }] });
  });

  test("the connection asks for approval now: the next call is held", async () => {
    meanwhile = () => world.connect("notes", { target: server.url, requireApproval: "always" });
    const { as } = await keyOf();
    expect(await go(as())).toMatchObject({ made: 0, second: [{ type: "mcp_approval_request" }] });
  });

  test("the user is blocked, or the key deleted: the next call fails", async () => {
    meanwhile = () => world.rest("DELETE", "/api/projects/default/users/mallory");
    const shared = await keyOf(["act_for_users"]);
    expect(await go(shared.as("mallory"))).toMatchObject({ made: 0, second: [{ status: "failed" }] });
    const own = await keyOf();
    meanwhile = () => world.rest("DELETE", `/api/projects/default/keys/${own.id}`);
    expect(await go(own.as())).toMatchObject({ made: 0, second: [{ status: "failed" }] });
  });
});

describe("after an approval", () => {
  const always = { type: "mcp" as const, server_label: "notes" };

  test.each([true, false])(
    "a blocked user's call does not run, also when the follow-up names nobody (store %s)",
    async (store) => {
      const user = `user-${store}`;
      const { as } = await keyOf(["act_for_users"]);
      const before = notesMade();
      const asked = await as(user).responses.create({
        store,
        tools: [always],
        input: [call("notes", "note", {})],
      });
      const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
      const decided = await world.rest("POST", `/api/projects/default/approvals/${id}:decide`, {
        approve: true,
      });
      expect(decided.status).toBe(200);
      await world.rest("DELETE", `/api/projects/default/users/${user}`);
      const bodies = [
        { input: [approve(id)] },
        { tools: [always], input: [approve(id), { role: "user" as const, content: "hi" }] },
        ...(store ? [{ previous_response_id: asked.id, input: [] }] : []),
      ];
      for (const body of bodies) {
        await expect(as().responses.create(body)).rejects.toMatchObject({
          status: 403,
          code: "user_blocked",
        });
      }
      expect(notesMade()).toBe(before);
    },
  );

  test("a follow-up that names nobody runs as the user who was asked, and belongs to that user", async () => {
    const { as } = await keyOf(["act_for_users"]);
    const asked = await as("ann").responses.create({
      store: false,
      tools: [always],
      input: [call("notes", "note", {})],
    });
    const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
    const done = await as().responses.create({ tools: [always], input: [approve(id)] });
    expect(itemsOf(done, "mcp_call")).toHaveLength(1);
    expect((await as("ann").responses.retrieve(done.id)).id).toBe(done.id);
    await expect(as("bea").responses.retrieve(done.id)).rejects.toMatchObject({ status: 404 });
  });

  test("answers for two users in one request are refused", async () => {
    const { as } = await keyOf(["act_for_users"]);
    const ids = [];
    for (const user of ["ann", "bea"]) {
      const asked = await as(user).responses.create({ tools: [always], input: [call("notes", "note", {})] });
      ids.push(itemsOf(asked, "mcp_approval_request")[0]?.id ?? "");
    }
    await expect(as().responses.create({ input: ids.map(approve) })).rejects.toMatchObject({
      status: 400,
      param: "input",
    });
  });

  test("it does not keep for ever: the person is asked again", async () => {
    const { as } = await keyOf();
    const before = notesMade();
    const asked = await as().responses.create({ tools: [always], input: [call("notes", "note", {})] });
    const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
    await world.rest("POST", `/api/projects/default/approvals/${id}:decide`, { approve: true });
    world.advance(25 * 60 * 60 * 1000);
    const late = await as().responses.create({ previous_response_id: asked.id, input: [] });
    expect(late.output.map(({ type }) => type)).toEqual(["mcp_approval_request"]);
    expect(notesMade()).toBe(before);
  });
});

test("an own approval does not count any more once the connection asks for somebody else's", async () => {
  const { as } = await keyOf();
  const before = notesMade();
  const always = { type: "mcp" as const, server_label: "notes" };
  const asked = await as().responses.create({ tools: [always], input: [call("notes", "note", {})] });
  const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
  const path = `${as().baseURL.replace("/openai/v1", "")}/approvals/${id}:decide`;
  const headers = { authorization: `Bearer ${as().apiKey}`, "content-type": "application/json" };
  const decided = await fetch(path, { method: "POST", headers, body: JSON.stringify({ approve: true }) });
  expect(decided.status).toBe(200);
  await world.connect("notes", { target: server.url, approvers: "role" });
  const late = await as().responses.create({ previous_response_id: asked.id, input: [] });
  expect(late.output.map(({ type }) => type)).toEqual(["mcp_approval_request"]);
  expect(notesMade()).toBe(before);
});

test("a held call's inline token goes to the server it was given for, whatever the answer's tools say", async () => {
  const good = await startModernServer();
  const other = await startModernServer();
  const { as } = await keyOf(["act_for_users"]);
  const tool = {
    type: "mcp" as const,
    server_label: "inline",
    server_url: good.url,
    authorization: "TOKEN-OF-THE-FIRST",
  };
  const asked = await as("ann").responses.create({
    tools: [tool],
    input: [call("inline", "echo", { text: "x" })],
  });
  const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
  const thief = await keyOf(["act_for_users"]);
  const moved = { type: "mcp" as const, server_label: "inline", server_url: other.url };
  const done = await thief.as("ann").responses.create({ tools: [moved], input: [approve(id)] });
  expect(itemsOf(done, "mcp_call")).toMatchObject([{ output: "x" }]);
  expect(good.seen("tools/call")).toHaveLength(1);
  expect(JSON.stringify(other.requests.map(({ headers }) => [...headers]))).not.toContain(
    "TOKEN-OF-THE-FIRST",
  );
  await Promise.all([good.stop(), other.stop()]);
});

test.each([
  ['{"to":9007199254740993}', '{"to":9007199254740992}'],
  ['{"to":"alice","to":"mallory"}', '{"to":"mallory"}'],
  ['{"amount":1e999}', '{"amount":null}'],
  ['{ "to" : "a  b" }', '{ "to" : "a  b" }'],
  ["", "{}"],
])("what is approved is what is sent: %s", async (given, shown) => {
  const { as } = await keyOf();
  const always = { type: "mcp" as const, server_label: "notes" };
  const explicit = { ...call("notes", "note", {}), arguments: given };
  const asked = await as().responses.create({ tools: [always], input: [explicit] });
  const [request] = itemsOf(asked, "mcp_approval_request");
  expect(request?.arguments).toBe(shown);
  await as().responses.create({ previous_response_id: asked.id, input: [approve(request?.id ?? "")] });
  expect(server.seen("tools/call").at(-1)?.body?.params?.["arguments"]).toEqual(JSON.parse(shown));
});

describe("an explicit call that is sent again beside its approval", () => {
  test.each([true, false])("runs once and is not asked about again (chained: %s)", async (chained) => {
    const { as } = await keyOf();
    const before = notesMade();
    const always = { type: "mcp" as const, server_label: "notes" };
    const explicit = call("notes", "note", {}, "c1");
    const asked = await as().responses.create({ tools: [always], input: [explicit] });
    const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
    for (const tool of [always, never]) {
      const body = {
        tools: [tool],
        input: [explicit, approve(id)],
        ...(chained && { previous_response_id: asked.id }),
      };
      const done = await as().responses.create(body);
      expect(itemsOf(done, "mcp_approval_request")).toEqual([]);
    }
    expect(notesMade()).toBe(before + 1);
  });
});
