// Model upstreams of a project whose keys are kept elsewhere.
import { inspect } from "node:util";
import type OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { failed } from "../helpers/azure-vault.ts";
import { type AzureHere, startAzure } from "../helpers/broker-identity.ts";
import { type ScriptedModel, startModel } from "../helpers/model.ts";
import { type Answer, createWorld, type TestWorld } from "../helpers/world.ts";

const MINUTE = 60_000;
const CANARY = "sk-canary-kept-elsewhere";

let azure: AzureHere;
let world: TestWorld;
let model: ScriptedModel;
let client: OpenAI;

beforeAll(async () => {
  vi.stubEnv("WEB_MODEL_KEY", `${CANARY}-variable`);
  [azure, model] = await Promise.all([startAzure(), startModel(() => ({ text: "hello" }))]);
  world = await createWorld({
    vaults: azure.vaults,
    env: {
      CONSENTRY_SECRET_SOURCES: `default=keyvault:${azure.vault.url}/secrets/web-*,default=env:WEB_*`,
    },
  });
  client = await world.runtime();
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await world.stop();
  await Promise.all([model.close(), azure.stop()]);
});
beforeEach(async () => {
  model.requests.length = 0;
  azure.vault.knobs.answer = () => null;
  await write({ models: [] });
});

const vaultRef = (name: string) => `keyvault:${azure.vault.url}/secrets/${name}`;
const path = (project = "default") => `/api/projects/${project}/settings`;
const write = (body: object, method = "PATCH") => world.rest(method, path(), body);
const entry = (apiKey?: unknown, more: object = {}) => ({
  name: "local",
  baseUrl: model.baseUrl,
  api: "chat",
  ...(apiKey !== undefined && { apiKey }),
  ...more,
});
const shown = async () => (await world.rest("GET", path())).body["models"];
const ask = () => client.responses.create({ model: "local/m", input: "hi" });
const keySent = async () => {
  await ask();
  return model.requests.at(-1)?.headers.authorization;
};
const faultsOf = ({ body }: Answer) => {
  const { details } = body["error"] as unknown as { details: { target: string; message: string }[] };
  return details.map(({ target, message }) => `${target}: ${message}`);
};

test("a key is sent from where it is kept, in one body with others, and the reference is shown", async () => {
  azure.vault.put("web-model", `${CANARY}-1`);
  const other = entry("sk-plain", { name: "other" });
  expect((await write({ models: [entry({ ref: vaultRef("web-model") }), other] })).status).toBe(200);
  expect(await keySent()).toBe(`Bearer ${CANARY}-1`);
  const { apiKey: _, ...plain } = other;
  expect(await shown()).toEqual([entry({ ref: vaultRef("web-model") }), plain]);
  // What was read may be written back, and a key that is left out stays.
  expect((await write({ models: await shown() })).status).toBe(200);
  expect((await write({ models: [entry(), plain] })).status).toBe(200);
  expect(await shown()).toEqual([entry({ ref: vaultRef("web-model") }), plain]);
  expect(await keySent()).toBe(`Bearer ${CANARY}-1`);
  expect((await write({ models: [entry({ ref: "env:WEB_MODEL_KEY" })] })).status).toBe(200);
  expect(await keySent()).toBe(`Bearer ${CANARY}-variable`);
  expect((await write({ models: [entry("sk-plain-now")] })).status).toBe(200);
  expect([await keySent(), await shown()]).toEqual(["Bearer sk-plain-now", [entry()]]);
  expect((await world.databaseBytes()).includes(CANARY)).toBe(false);
  expect(inspect(world.logs, { depth: 20 })).not.toContain(CANARY);
});

test("what is not lent, or is no reference, is refused when it is written, with every other fault", async () => {
  const made = await write({
    models: [
      entry({ ref: vaultRef("others-model"), prefix: "Bearer " }),
      entry({ ref: "env:HOME" }, { name: "b" }),
      entry({ ref: "nowhere" }, { name: "c d" }),
      entry("@Microsoft.KeyVault(VaultName=x)", { name: "e" }),
    ],
  });
  expect(made.status).toBe(400);
  expect(faultsOf(made).map((fault) => fault.split(":")[0])).toEqual([
    "models[0].apiKey.ref",
    "models[0].apiKey.prefix",
    "models[1].apiKey.ref",
    "models[2].name",
    "models[2].apiKey.ref",
    "models[3].apiKey.ref",
  ]);
  const elsewhere = await world.rest("POST", "/api/projects", {
    name: "other",
    settings: { models: [entry({ ref: "env:WEB_MODEL_KEY" })] },
  });
  expect(faultsOf(elsewhere)).toEqual([expect.stringMatching(/^settings\.models\[0\]\.apiKey\.ref: /)]);
});

test("a kept reference goes nowhere but where it was given for", async () => {
  await write({ models: [entry({ ref: "env:WEB_MODEL_KEY" })] });
  const moved = entry(undefined, { baseUrl: `${model.baseUrl}/elsewhere` });
  expect(faultsOf(await write({ models: [moved] }))).toEqual([
    expect.stringContaining("models[0].apiKey: must be given again"),
  ]);
  expect(faultsOf(await write({ models: [entry()] }, "PUT"))).toHaveLength(1);
  expect(await keySent()).toBe(`Bearer ${CANARY}-variable`);
});

test("a rotated key is used within five minutes; one that cannot be had is said by its reference, and nothing is sent", async () => {
  azure.vault.put("web-turning", `${CANARY}-1`);
  await write({ models: [entry({ ref: vaultRef("web-turning") })] });
  expect(await keySent()).toBe(`Bearer ${CANARY}-1`);
  azure.vault.put("web-turning", `${CANARY}-2`);
  world.advance(6 * MINUTE);
  expect(await keySent()).toBe(`Bearer ${CANARY}-2`);
  const before = model.requests.length;
  for (const [break_, said] of [
    [() => azure.vault.put("web-turning", "has a blank"), "is no key for a model upstream"],
    [
      () => (azure.vault.knobs.answer = () => failed(403, "Forbidden", "ForbiddenByRbac")),
      vaultRef("web-turning"),
    ],
  ] as const) {
    break_();
    world.advance(6 * MINUTE);
    const error: unknown = await ask().catch((cause: unknown) => cause);
    expect(error).toMatchObject({ status: 503, message: expect.stringContaining(said) });
    expect(String(error)).not.toContain("has a blank");
  }
  expect(model.requests).toHaveLength(before);
});
