import { afterAll, beforeAll, describe, expect, test } from "vitest";
import OpenAI from "openai";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import { type ChatRequest, type ScriptedModel, type ScriptedTurn, startModel } from "../helpers/model.ts";
import { ADMIN_KEY, createWorld, itemsOf, MODES, respond, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let notes: ModernServer;
let decoy: ModernServer;
let model: ScriptedModel;
let client: OpenAI;
let script: ScriptedTurn[] = [];

const ARM =
  "/subscriptions/0/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a/projects/default/connections/notes";
const agents = (method: string, path: string, body?: unknown) =>
  world.rest(method, `/api/projects/default/agents${path}?api-version=v1`, body);
const lastRequest = () => model.requests.at(-1)?.body as ChatRequest;

beforeAll(async () => {
  [notes, decoy, model] = await Promise.all([
    startModernServer(),
    startModernServer(),
    startModel(() => script.shift() ?? { status: 500, body: {} }),
  ]);
  world = await createWorld({ model });
  await world.connect("notes", { target: notes.url });
  client = await world.runtime();
  await agents("POST", "/keeper/versions", {
    definition: {
      kind: "prompt",
      model: "m",
      instructions: "You keep notes.",
      tools: [
        {
          type: "mcp",
          server_label: "n",
          server_url: decoy.url,
          project_connection_id: ARM,
          require_approval: "always",
        },
      ],
    },
  });
});
afterAll(async () => {
  await world.stop();
  await Promise.all([notes.stop(), decoy.stop(), model.close()]);
});

const reference = { agent_reference: { type: "agent_reference", name: "keeper" } };

describe.each(MODES)("an agent, %s", (mode) => {
  test.each([reference, { agent: reference.agent_reference }])(
    "named by %j gives model, instructions and tools",
    async (named) => {
      script = [{ calls: [{ name: "n__read_note", arguments: { id: "7" } }] }];
      const asked = await respond(client, { input: "read note 7", ...named } as never, mode);
      expect(asked).toMatchObject({
        model: "m",
        instructions: "You keep notes.",
        agent_reference: { type: "agent_reference", name: "keeper", version: "1" },
        agent: { type: "agent_id", name: "keeper", version: "1" },
      });
      const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";

      // The answer names no agent, no tools and no model: all of it is recovered.
      script = [{ text: "It says: buy milk." }];
      const answer = { type: "mcp_approval_response" as const, approval_request_id: id, approve: true };
      const done = await respond(client, { previous_response_id: asked.id, input: [answer] }, mode);
      expect(itemsOf(done, "mcp_call")).toMatchObject([{ server_label: "n", output: "note 7: buy milk" }]);
      expect(done).toMatchObject({ model: "m", agent_reference: { name: "keeper", version: "1" } });
      expect(lastRequest().messages[0]).toMatchObject({ role: "system", content: "You keep notes." });
      // The connection's target beats server_url.
      expect(decoy.requests).toEqual([]);
    },
  );
});

test("a version is pinned when it is named, and the latest otherwise", async () => {
  await agents("POST", "/poet/versions", {
    definition: { kind: "prompt", model: "m", instructions: "Rhyme." },
  });
  await agents("POST", "/poet/versions", {
    definition: { kind: "prompt", model: "m", instructions: "Do not rhyme." },
  });
  script = [{ text: "1" }, { text: "2" }];
  await client.responses.create({
    input: "x",
    agent_reference: { type: "agent_reference", name: "poet", version: "1" },
  } as never);
  expect(lastRequest().messages[0]?.content).toBe("Rhyme.");
  await client.responses.create({
    input: "x",
    agent_reference: { type: "agent_reference", name: "poet" },
  } as never);
  expect(lastRequest().messages[0]?.content).toBe("Do not rhyme.");
});

test("structured inputs fill instructions and tools, and a value cannot open another placeholder", async () => {
  await agents("POST", "/templated/versions", {
    definition: {
      kind: "prompt",
      model: "m",
      instructions: "Speak {{language}} to {{name}}.",
      structured_inputs: { language: { default_value: "French" }, name: { required: true } },
      tools: [
        { type: "mcp", server_label: "{{name}}", project_connection_id: "notes", require_approval: "never" },
      ],
    },
  });
  const ask = (inputs: object) =>
    client.responses.create({
      input: "x",
      agent_reference: { name: "templated" },
      structured_inputs: inputs,
    } as never);
  await expect(ask({})).rejects.toMatchObject({ status: 400, param: "structured_inputs.name" });
  script = [{ text: "ok" }];
  await ask({ name: "{{language}}" });
  expect(lastRequest().messages[0]?.content).toBe("Speak French to {{language}}.");
});

test("an agent that is unknown, disabled or lacks the version is a wrong field", async () => {
  const param = (agent: object) =>
    client.responses
      .create({ input: "x", agent_reference: agent } as never)
      .catch((error: { param: string }) => error.param);
  expect(await param({ name: "nobody" })).toBe("agent_reference.name");
  expect(await param({ name: "keeper", version: "99" })).toBe("agent_reference.version");
  await agents("POST", "/sleeper/versions", { definition: { kind: "prompt", model: "m" } });
  expect((await agents("POST", "/sleeper:disable")).status).toBe(204);
  expect(await param({ name: "sleeper" })).toBe("agent_reference.name");
});

test("a response goes on only while its agent is there and enabled", async () => {
  await agents("POST", "/mortal/versions", { definition: { kind: "prompt", model: "m" } });
  script = [{ text: "hello" }];
  const first = await client.responses.create({ input: "x", agent_reference: { name: "mortal" } } as never);
  const goOn = () => client.responses.create({ previous_response_id: first.id, input: "more" });
  await agents("POST", "/mortal:disable");
  await expect(goOn()).rejects.toMatchObject({ status: 400, param: "previous_response_id" });
  await agents("POST", "/mortal:enable");
  script = [{ text: "again" }];
  expect((await goOn()).output_text).toBe("again");
  await agents("DELETE", "/mortal", {});
  await expect(goOn()).rejects.toMatchObject({ status: 400, param: "previous_response_id" });
});

test("structured inputs are checked after they are filled in, and names of every object count as missing", async () => {
  await agents("POST", "/filled/versions", {
    definition: {
      kind: "prompt",
      model: "m",
      structured_inputs: { constructor: { required: true }, label: {} },
      tools: [{ type: "mcp", server_label: "{{label}}", project_connection_id: "notes" }],
    },
  });
  const ask = (inputs: object) =>
    client.responses.create({
      input: "x",
      agent_reference: { name: "filled" },
      structured_inputs: inputs,
    } as never);
  await expect(ask({ label: "n" })).rejects.toMatchObject({
    status: 400,
    param: "structured_inputs.constructor",
  });
  for (const label of ["", "x".repeat(300), "a\u202eb"]) {
    await expect(ask({ constructor: "c", label })).rejects.toMatchObject({
      status: 400,
      param: "structured_inputs",
    });
  }
});

test("the agent's own base URL fixes the agent", async () => {
  const own = new OpenAI({
    baseURL: `${world.url}/api/projects/default/agents/keeper/endpoint/protocols/openai`,
    apiKey: ADMIN_KEY,
    maxRetries: 0,
  });
  script = [{ text: "hello" }];
  const response = await own.responses.create({ input: "hi" });
  expect(response).toMatchObject({ output_text: "hello", agent_reference: { name: "keeper" } });
});

test("an endpoint with a trailing slash works", async () => {
  const slashed = new OpenAI({
    baseURL: `${world.url}/api/projects/default//openai/v1`,
    apiKey: ADMIN_KEY,
    maxRetries: 0,
  });
  script = [{ text: "hello" }];
  expect((await slashed.responses.create({ model: "m", input: "hi" })).output_text).toBe("hello");
});

test("/v1 means the key's project, else the header's, else default", async () => {
  await world.rest("POST", "/api/projects", { name: "other" });
  const at = (key: string, project?: string) =>
    new OpenAI({
      baseURL: `${world.url}/v1`,
      apiKey: key,
      maxRetries: 0,
      ...(project !== undefined && { project }),
    });
  const tools = [{ type: "mcp" as const, server_label: "notes" }];
  expect((await at(ADMIN_KEY).responses.create({ tools })).output).toHaveLength(1);
  await expect(at(ADMIN_KEY, "other").responses.create({ tools })).rejects.toMatchObject({
    param: "tools[0].server_label",
  });
  await expect(at(ADMIN_KEY, "nowhere").responses.create({ tools })).rejects.toMatchObject({ status: 404 });
  const made = await world.rest("POST", "/api/projects/other/keys", { name: "k", roles: ["runtime"] });
  const own = at(String(made.body["key"])).responses.create({ tools });
  await expect(own).rejects.toMatchObject({ param: "tools[0].server_label" });
});
