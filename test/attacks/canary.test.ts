// Secrets are planted everywhere a secret can be, and then looked for everywhere one must not be (A16, upstream side).
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type ModernServer, say, schemaOf, startModernServer } from "../helpers/mcp-servers.ts";
import { type ScriptedModel, startModel } from "../helpers/model.ts";
import { call, clientOf, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

const canary = (name: string) => `canary-${name}-${crypto.randomUUID()}`;
const secrets = {
  connectionKey: canary("connection"),
  inlineToken: canary("inline"),
  inlineHeader: canary("header"),
  toolArgument: canary("argument"),
  toolResult: canary("result"),
  denialReason: canary("reason"),
  userWords: canary("words"),
  modelKey: canary("model"),
};

let world: TestWorld;
let keyed: ModernServer;
let open: ModernServer;
let model: ScriptedModel;
let runtimeKey: string;
const answers: string[] = [];

beforeAll(async () => {
  const secretive = {
    name: "tell",
    inputSchema: schemaOf({ word: { type: "string" } }, []),
    run: () => say(secrets.toolResult),
  };
  [keyed, open, model] = await Promise.all([
    startModernServer({
      header: { name: "authorization", value: `Bearer ${secrets.connectionKey}` },
      tools: [secretive],
    }),
    startModernServer({ tools: [secretive] }),
    startModel(() => ({ text: "ok" })),
  ]);
  world = await createWorld({
    model,
    env: { CONSENTRY_LOG_LEVEL: "debug", CONSENTRY_MODEL_API_KEY: secrets.modelKey },
  });
  const credentials = { keys: { Authorization: `Bearer ${secrets.connectionKey}` } };
  const made = await world.connect("keyed", { target: keyed.url, authType: "CustomKeys", credentials });
  answers.push(JSON.stringify(made.body));
  const key = await world.rest("POST", "/api/projects/default/keys", { name: "runtime", roles: ["runtime"] });
  runtimeKey = String(key.body["key"]);
  await drive();
});
afterAll(async () => {
  await world.stop();
  await Promise.all([keyed.stop(), open.stop(), model.close()]);
});

async function drive(): Promise<void> {
  const client = clientOf(world.url, runtimeKey, { project: "default" });
  const ask = async (body: object) => {
    const response = await client.responses.create(body as never);
    answers.push(JSON.stringify(response));
    return response as Awaited<ReturnType<typeof client.responses.create>> & { id: string };
  };
  const keyedTool = { type: "mcp", server_label: "keyed" };
  const inline = {
    type: "mcp",
    server_label: "inline",
    server_url: open.url,
    require_approval: "never",
    authorization: secrets.inlineToken,
    headers: { "X-Extra": secrets.inlineHeader },
  };
  const word = { word: secrets.toolArgument };
  const never = { ...keyedTool, require_approval: "never" };
  await ask({
    tools: [never, inline],
    input: [call("keyed", "tell", word, "a"), call("inline", "tell", word, "b")],
  });
  await ask({ model: "m", input: secrets.userWords, tools: [never, inline] });
  const asked = await ask({ tools: [keyedTool], input: [call("keyed", "tell", word, "c")] });
  const id = itemsOf(asked as never, "mcp_approval_request")[0]?.id;
  const decision = {
    type: "mcp_approval_response",
    approval_request_id: id,
    approve: false,
    reason: secrets.denialReason,
  };
  await ask({ previous_response_id: asked.id, input: [decision] });
  // Refusals and failures, which like to repeat what they were given.
  await world
    .rest("PUT", "/api/projects/default/connections/broken", {
      properties: {
        authType: "CustomKeys",
        category: "RemoteTool",
        target: "nonsense",
        credentials: { keys: { "bad name": secrets.connectionKey } },
      },
    })
    .then((answer) => answers.push(JSON.stringify(answer.body)));
  const wrongKey = { keys: { Authorization: secrets.connectionKey } };
  await world.connect("wrong", { target: keyed.url, authType: "CustomKeys", credentials: wrongKey });
  for (const path of ["connections/wrong:validate", "connections/keyed:validate"]) {
    const answer = await world.rest("POST", `/api/projects/default/${path}`, {});
    answers.push(JSON.stringify(answer.body));
  }
  for (const path of [
    "connections",
    "connections/keyed",
    "keys",
    "audit?limit=100",
    "users",
    "settings",
    "approvals",
  ]) {
    const answer = await world.rest("GET", `/api/projects/default/${path}`);
    if (path !== "approvals") answers.push(JSON.stringify(answer.body));
  }
  // Records of plain calls are written in batches.
  await vi.waitFor(async () => {
    const { body } = await world.rest("GET", "/api/projects/default/audit?event=tool_called");
    expect(body).toHaveProperty("value.1");
  });
}

const everySecret = () => [...Object.entries(secrets), ["runtimeKey", runtimeKey] as const];

test("no secret is in any log line", () => {
  expect(world.logs.length).toBeGreaterThan(10);
  const lines = world.logs.map((line) =>
    JSON.stringify(line, (_, value) => (value instanceof Error ? String(value.stack) : value)),
  );
  for (const [name, secret] of everySecret())
    expect([name, lines.filter((line) => line.includes(secret))]).toEqual([name, []]);
});

test("no secret is in the database in the clear", async () => {
  const bytes = await world.databaseBytes();
  expect(bytes.length).toBeGreaterThan(10_000);
  for (const [name, secret] of everySecret()) expect([name, bytes.includes(secret)]).toEqual([name, false]);
});

test("no credential is in any answer", () => {
  const all = answers.join("\n");
  for (const name of ["connectionKey", "inlineToken", "inlineHeader", "modelKey"] as const) {
    expect([name, all.includes(secrets[name])]).toEqual([name, false]);
  }
  expect(all).toContain(secrets.toolResult);
});

test("every server sees its own credential and nothing else of the caller's", () => {
  const seenBy = (server: ModernServer) =>
    server.requests.map(({ headers }) => [...headers].join("\n")).join("\n");
  expect(seenBy(keyed)).toContain(secrets.connectionKey);
  expect(seenBy(open)).toContain(secrets.inlineToken);
  expect(seenBy(open)).toContain(secrets.inlineHeader);
  expect(seenBy(open)).not.toContain(secrets.connectionKey);
  for (const server of [keyed, open]) expect(seenBy(server)).not.toContain(runtimeKey);
  const toModel = JSON.stringify(model.requests);
  expect(toModel).toContain(secrets.modelKey);
  for (const name of ["connectionKey", "inlineToken", "inlineHeader"] as const)
    expect(toModel).not.toContain(secrets[name]);
});
