import { inspect } from "node:util";
import type OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import { type ScriptedModel, type ScriptedTurn, startModel } from "../helpers/model.ts";
import { type ResponsesModel, startResponsesModel } from "../helpers/model-responses.ts";
import { modelRequest } from "../helpers/model-request.ts";
import { createWorld, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let notes: ModernServer;
let operators: ScriptedModel;
let chat: ScriptedModel;
let responses: ResponsesModel;
let client: OpenAI;
let turn: (() => ScriptedTurn | Promise<ScriptedTurn>) | null = null;

const SECRET = "sk-of-the-project-alone";
const path = "/api/projects/default/settings";
const settings = (body: object, method = "PATCH") => world.rest(method, path, body);
/** The models as an admin reads them. */
const shown = async (): Promise<{ name: string }[]> => (await world.rest("GET", path)).body["models"] ?? [];
const entry = (name: string, rest: object = {}) => ({
  name,
  baseUrl: chat.baseUrl,
  api: "chat",
  apiKey: SECRET,
  ...rest,
});
const ask = async (model: string) =>
  (await client.responses.create({ model, input: "who are you?" })).output_text;

beforeAll(async () => {
  [notes, operators, chat, responses] = await Promise.all([
    startModernServer(),
    startModel(() => ({ text: "the operator's" })),
    startModel(() => turn?.() ?? { text: "the project's by chat" }),
    startResponsesModel(() => ({ says: [{ text: "the project's by responses" }] })),
  ]);
  world = await createWorld({ model: operators });
  await world.connect("notes", { target: notes.url });
  client = await world.runtime();
});
beforeEach(async () => {
  turn = null;
  for (const model of [operators, chat, responses]) model.requests.length = 0;
  await settings({ models: [] });
});
afterAll(async () => {
  await world.stop();
  await Promise.all([notes.stop(), operators.close(), chat.close(), responses.close()]);
});

describe("a request's model picks the upstream", () => {
  test("by the name before the slash; what stands behind it is the model", async () => {
    const more = entry("acme", { baseUrl: responses.baseUrl, api: "responses", apiKey: null });
    expect((await settings({ models: [entry("local"), more] })).status).toBe(200);
    expect(await ask("local/meta-llama/llama-3")).toBe("the project's by chat");
    expect(chat.requests[0]?.body.model).toBe("meta-llama/llama-3");
    expect(chat.requests[0]?.headers.authorization).toBe(`Bearer ${SECRET}`);
    expect(await ask("acme/gpt-5")).toBe("the project's by responses");
    expect(responses.requests[0]?.body.model).toBe("gpt-5");
    expect(responses.requests[0]?.headers.authorization).toBeUndefined();
  });

  test("and everything else is the environment's, as it stands", async () => {
    await settings({ models: [entry("local")] });
    for (const model of ["m", "openai/gpt-5", "local/", "/m", "Local/m"]) {
      expect(await ask(model)).toBe("the operator's");
      expect(operators.requests.at(-1)?.body.model).toBe(model);
    }
    expect(operators.requests[0]?.headers.authorization).toBe("Bearer model-key");
  });

  test("until the project has a default of its own", async () => {
    await settings({ models: [entry("default"), entry("other")] });
    expect(await ask("openai/gpt-5")).toBe("the project's by chat");
    expect(chat.requests[0]?.body.model).toBe("openai/gpt-5");
    expect(await ask("default/m")).toBe("the project's by chat");
    expect(chat.requests[1]?.body.model).toBe("m");
    expect(operators.requests).toHaveLength(0);
  });

  test("the answer names the model as it was asked for, and a conversation goes on with it", async () => {
    await settings({ models: [entry("local")] });
    const first = await client.responses.create({ model: "local/m", input: "hi" });
    expect(first.model).toBe("local/m");
    const next = await client.responses.create({ previous_response_id: first.id, input: "on" });
    expect([next.model, next.output_text]).toEqual(["local/m", "the project's by chat"]);
  });

  test("of the project alone", async () => {
    await settings({ models: [entry("local")] });
    await world.rest("POST", "/api/projects", { name: "other" });
    const other = await world.runtime({ project: "other" });
    await other.responses.create({ model: "local/m", input: "hi" });
    expect(operators.requests[0]?.body.model).toBe("local/m");
    expect(chat.requests).toHaveLength(0);
  });

  test("a project that is made with its models has their keys", async () => {
    const made = { name: "made", settings: { models: [entry("local")] } };
    expect((await world.rest("POST", "/api/projects", made)).status).toBe(201);
    const own = await world.runtime({ project: "made" });
    await own.responses.create({ model: "local/m", input: "hi" });
    expect(chat.requests[0]?.headers.authorization).toBe(`Bearer ${SECRET}`);
  });
});

test("without a model of the operator's, a model that no upstream is named for is 400", async () => {
  const own = await createWorld();
  try {
    const runtime = await own.runtime();
    const body = { models: [entry("local")] };
    expect((await own.rest("PATCH", "/api/projects/default/settings", body)).status).toBe(200);
    await expect(runtime.responses.create({ model: "m", input: "hi" })).rejects.toMatchObject({
      status: 400,
      code: "no_model",
    });
    const answer = await runtime.responses.create({ model: "local/m", input: "hi" });
    expect(answer.output_text).toBe("the project's by chat");
  } finally {
    await own.stop();
  }
});

describe("a key", () => {
  test("is never shown, and kept sealed", async () => {
    const answers = [
      await settings({ models: [entry("local")] }),
      await world.rest("GET", path),
      await settings({ consentEvent: false }),
      await world.rest("GET", "/api/projects/default"),
      await world.rest("GET", "/api/projects/default/audit"),
    ];
    expect(answers[1]?.body["models"]).toEqual([{ name: "local", baseUrl: chat.baseUrl, api: "chat" }]);
    for (const { status, body } of answers) {
      expect(status).toBe(200);
      expect(JSON.stringify(body)).not.toContain(SECRET);
    }
    expect(JSON.stringify(answers[4]?.body)).toContain('"secretsChanged":true');
    expect((await world.databaseBytes()).includes(SECRET)).toBe(false);
    expect(JSON.stringify(world.logs)).not.toContain(SECRET);
  });

  test("stays with its upstream while other things change", async () => {
    await settings({ models: [entry("local")] });
    await settings({ consentEvent: true });
    const { apiKey: _, ...known } = entry("local");
    await settings({ models: [known, entry("other", { apiKey: null })] });
    await ask("local/m");
    await ask("other/m");
    expect(chat.requests.map(({ headers }) => headers.authorization)).toEqual([
      `Bearer ${SECRET}`,
      undefined,
    ]);
  });

  test("goes to no other place than the one it was given for", async () => {
    await settings({ models: [entry("local")] });
    const { apiKey: _, ...moved } = entry("local", { baseUrl: operators.baseUrl });
    for (const method of ["PATCH", "PUT"]) {
      const refused = await settings({ models: [moved] }, method);
      expect([refused.status, refused.body["error"]]).toMatchObject([
        400,
        { details: [{ target: "models[0].apiKey" }] },
      ]);
    }
    expect((await settings({ models: [{ ...moved, apiKey: null }] })).status).toBe(200);
    await ask("local/m");
    expect(operators.requests[0]?.headers.authorization).toBeUndefined();
    // What is gone does not come back with its name.
    const { apiKey: _none, ...again } = entry("local");
    await settings({ models: [again] });
    await ask("local/m");
    expect(chat.requests[0]?.headers.authorization).toBeUndefined();
  });

  test("is in nothing that the upstream says of its failure", async () => {
    await settings({ models: [entry("local")] });
    turn = () => ({ status: 500, body: { error: { message: `who is ${SECRET}?`, code: SECRET } } });
    const error: unknown = await client.responses
      .create({ model: "local/m", input: "x" })
      .catch((e: unknown) => e);
    expect(error).toMatchObject({ status: 502 });
    expect(JSON.stringify(error) + String(error)).not.toContain(SECRET);
    expect(world.logs.some(({ event }) => event === "model_failed")).toBe(true);
    expect(inspect(world.logs, { depth: 20 })).not.toContain(SECRET);
  });

  test("follows no redirect", async () => {
    await settings({ models: [entry("local")] });
    const location = `${operators.baseUrl}/chat/completions`;
    turn = () => ({ status: 307, headers: { location } });
    await expect(client.responses.create({ model: "local/m", input: "x" })).rejects.toMatchObject({
      status: 502,
    });
    expect(operators.requests).toHaveLength(0);
  });
});

test("an upstream that is taken away while its model works is not asked again", async () => {
  await settings({ models: [entry("local")] });
  turn = async () => {
    await settings({ models: [] });
    return { calls: [{ name: "notes__read_note", arguments: { id: "7" } }] };
  };
  const response = await client.responses.create({
    model: "local/m",
    input: "x",
    tools: [{ type: "mcp", server_label: "notes", require_approval: "never" }],
  });
  expect(response.status).toBe("failed");
  expect(response.error?.message).toContain("the model upstream local");
  expect(response.output.map(({ type }) => type)).toEqual(["mcp_list_tools", "mcp_call"]);
  expect(chat.requests).toHaveLength(1);
});

test("every admin's settings at once leave each key with its upstream", async () => {
  const writes = Array.from({ length: 8 }, (_, at) =>
    settings({ models: [entry(`m${at}`, { apiKey: `key-${at}` })] }),
  );
  expect((await Promise.all(writes)).map(({ status }) => status)).toEqual(writes.map(() => 200));
  const name = (await shown())[0]?.name ?? "";
  await ask(`${name}/m`);
  expect(chat.requests[0]?.headers.authorization).toBe(`Bearer key-${name.slice(1)}`);
});

describe("what is refused", () => {
  const faultsOf = async (models: unknown) => {
    const { status, body } = await settings({ models });
    expect(status).toBe(400);
    const error: { details: { target: string; message: string }[] } = body["error"] ?? { details: [] };
    return error.details.map(({ target, message }) => `${target} ${message}`);
  };

  test("every fault is said at once, and no key", async () => {
    const faults = await faultsOf([
      entry("a b", { baseUrl: "ftp://x" }),
      entry("twice", { baseUrl: "https://u:p@x.example/v1" }),
      entry("twice", { apiKey: "has a blank" }),
      entry("q", { baseUrl: "https://x.example/v1?api-version=1" }),
    ]);
    expect(faults).toEqual([
      expect.stringContaining("models[0].baseUrl must be an absolute"),
      expect.stringContaining("models[0].name must have 1 to 64"),
      expect.stringContaining("models[1].baseUrl must not hold a user"),
      expect.stringContaining("models[2].apiKey must have"),
      expect.stringContaining("models[2].name is the name of another entry"),
      expect.stringContaining("models[3].baseUrl must not have a query"),
    ]);
    expect(faults.join()).not.toContain(SECRET);
  });

  test("more than twenty, an API that there is not, and fields that nobody knows", async () => {
    const many = Array.from({ length: 21 }, (_, at) => entry(`m${at}`));
    expect(await faultsOf(many)).toEqual([expect.stringContaining("at most 20")]);
    expect(await faultsOf([entry("a", { api: "completions" })])).toHaveLength(1);
    expect(await faultsOf([entry("a", { api_key: "k" })])).toHaveLength(1);
  });

  test("places that calls out may not reach, when they are written and when they are called", async () => {
    for (const baseUrl of ["http://169.254.169.254/v1", "http://10.0.0.1/v1", `${world.url}/v1`])
      expect(await faultsOf([entry("a", { baseUrl })])).toEqual([
        expect.stringContaining("models[0].baseUrl"),
      ]);
    const model = world.world.modelAt({ baseUrl: "http://169.254.169.254/v1", api: "chat", apiKey: SECRET });
    const asked = (async () => {
      for await (const _ of model.stream(modelRequest(), new AbortController().signal));
    })();
    await expect(asked).rejects.toMatchObject({
      code: "model_failed",
      details: { message: expect.stringContaining("could not be called") },
    });
  });
});
