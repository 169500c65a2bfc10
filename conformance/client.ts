// The client that the official suite tests: `client <url of the suite's server>`, what to do in MCP_CONFORMANCE_SCENARIO.
// Ends with 0 where everything went well, else with 1 and why; some scenarios want exactly that.
import { createPrivateKey } from "node:crypto";
import { isJsonObject, type Json, type JsonObject } from "../src/core/json.ts";
import { type Broker, startBroker, textOf } from "./broker.ts";
import { runExtension } from "./extensions.ts";
import { runManaged } from "./managed.ts";
import { SDK_ONLY } from "./scenarios.ts";
import { createUpstream, type Upstream } from "./upstream.ts";

/** Through the whole broker. */
const BY_BROKER: Record<string, (broker: Broker) => Promise<void>> = {
  initialize: async (broker) => void (await broker.list()),
  tools_call: async (broker) => {
    await broker.list();
    await broker.call("add_numbers", { a: 5, b: 3 });
  },
  "sse-retry": async (broker) => void (await callFirst(broker)),
  "http-custom-headers": async (broker) => {
    await broker.list();
    const { toolCalls } = given();
    for (const call of Array.isArray(toolCalls) ? toolCalls.filter(isJsonObject) : []) {
      const { name, arguments: args } = call;
      await broker.call(textOf(name), isJsonObject(args) ? args : {});
    }
  },
  "http-invalid-tool-headers": async (broker) => {
    for (const { name } of await broker.list()) await broker.call(name, { region: "us-west1" });
  },
  "json-schema-ref-no-deref": async (broker) => void (await broker.list()),
  "json-schema-2020-12-preservation": async (broker) => {
    const tools = await broker.list();
    const schema = tools.find(({ name }) => name === "json_schema_2020_12_tool")?.inputSchema ?? {};
    await broker.call("json_schema_echo", { schema });
  },
};

/** Through the upstream alone. */
const BY_UPSTREAM: Record<string, (upstream: Upstream) => Promise<void>> = {
  "elicitation-sep1034-client-defaults": async (upstream) => {
    for (const { name } of await upstream.list()) await upstream.call(name);
  },
  "request-metadata": async (upstream) => void (await upstream.list()),
  "sep-2322-client-request-state": async (upstream) => {
    await upstream.list();
    await Promise.all([upstream.call("test_mrtr_echo_state"), upstream.call("test_mrtr_unrelated")]);
    await upstream.call("test_mrtr_no_state");
    await upstream.call("test_mrtr_no_result_type");
  },
  "http-standard-headers": async (upstream) => {
    for (const { name } of await upstream.list()) await upstream.call(name);
    for (const { uri } of entriesOf(await upstream.request("resources/list"), "resources")) {
      await upstream.request("resources/read", { uri: uri ?? null });
    }
    for (const { name } of entriesOf(await upstream.request("prompts/list"), "prompts")) {
      await upstream.request("prompts/get", { name: name ?? null });
    }
  },
};

const url = process.argv.at(-1) ?? "";
const scenario = process.env["MCP_CONFORMANCE_SCENARIO"] ?? "";
try {
  await run();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}

async function run(): Promise<void> {
  if (SDK_ONLY.includes(scenario)) return runExtension(scenario, { url, context: given() });
  if (scenario === "auth/enterprise-managed-authorization") return runManaged(url, given());
  const alone = BY_UPSTREAM[scenario];
  return alone ? byUpstream(alone) : byBroker();
}

async function byUpstream(steps: (upstream: Upstream) => Promise<void>): Promise<void> {
  const upstream = createUpstream(url);
  try {
    await steps(upstream);
  } finally {
    await upstream.stop();
  }
}

async function byBroker(): Promise<void> {
  const isAuth = scenario.startsWith("auth/");
  const steps = isAuth ? callTwice : BY_BROKER[scenario];
  if (!steps) throw new Error(`there is nothing to do for ${scenario}`);
  const broker = await startBroker();
  try {
    await broker.connect({ target: url, authType: isAuth ? "OAuth2" : "None", ...clientGiven() });
    await steps(broker);
  } finally {
    await broker.stop();
  }
}

/** The client that somebody registered beforehand, if the suite says one, and whether it is one for all people. */
function clientGiven(): JsonObject {
  const { client_id: clientId, client_secret: clientSecret, private_key_pem: pem } = given();
  if (clientId === undefined) return {};
  const grantType = scenario.startsWith("auth/client-credentials-") ? "client_credentials" : null;
  const proof =
    pem === undefined ? { clientSecret: clientSecret ?? null } : { privateKey: jwkOf(textOf(pem)) };
  return { grantType, credentials: { clientId, ...proof } };
}

function jwkOf(pem: string): JsonObject {
  const { kty = "", crv = "", x = "", y = "", d = "" } = createPrivateKey(pem).export({ format: "jwk" });
  return { kty, crv, x, y, d };
}

/** What a person has allowed once holds for later calls. */
async function callTwice(broker: Broker): Promise<void> {
  const name = await callFirst(broker);
  const consents = broker.consents();
  await broker.call(name, {});
  if (broker.consents() > consents) throw new Error("a later call asked the person again");
}

async function callFirst(broker: Broker): Promise<string> {
  const [first] = await broker.list();
  if (!first) throw new Error("the server has no tools");
  await broker.call(first.name, {});
  return first.name;
}

/** What the suite says beyond the scenario's name. */
function given(): JsonObject {
  const text = process.env["MCP_CONFORMANCE_CONTEXT"];
  const context: Json = text ? JSON.parse(text) : {};
  return isJsonObject(context) ? context : {};
}

function entriesOf(result: JsonObject, name: string): JsonObject[] {
  const entries = result[name];
  return Array.isArray(entries) ? entries.filter(isJsonObject) : [];
}
