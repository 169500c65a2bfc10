// The broker, whole and over HTTP: a connection to the suite's server, one person, and an agent without a model.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createBrowser, headingOf } from "../demo/browser.ts";
import { parseConfig } from "../src/config.ts";
import { isJsonObject, type Json, type JsonObject } from "../src/core/json.ts";
import { start } from "../src/node.ts";

export type Broker = {
  /** Makes the one connection, as an admin does. */
  connect: (properties: JsonObject) => Promise<void>;
  /** The tools of the server, as a model would read them; the person gives consent where it is asked for. */
  list: () => Promise<Tool[]>;
  /** Calls a tool likewise. Throws when the call fails; a tool's own error is a result. */
  call: (name: string, args: JsonObject) => Promise<void>;
  /** How often the person was asked so far. */
  consents: () => number;
  stop: () => Promise<void>;
};

export type Tool = { name: string; inputSchema: JsonObject };

export async function startBroker(): Promise<Broker> {
  const folder = await mkdtemp(join(tmpdir(), "consentry-conformance-"));
  const key = `csk_${crypto.randomUUID()}${crypto.randomUUID()}`.replaceAll("-", "");
  const config = parseConfig({
    CONSENTRY_PORT: "0",
    CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
    CONSENTRY_ADMIN_KEY: key,
  });
  const running = await start(config, { log: note, clientDocumentUrl: () => CLIENT_DOCUMENT });
  const browser = createBrowser();
  let calls = 0;
  let given = 0;

  async function send(method: string, path: string, body: JsonObject): Promise<JsonObject> {
    const response = await fetch(`${running.url}/api/projects/default/${path}`, {
      method,
      headers: {
        authorization: `Bearer ${key}`,
        "content-type": "application/json",
        "x-ms-user-identity": PERSON,
      },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(REQUEST_MS),
    });
    const answer: Json = JSON.parse(await response.text());
    if (!response.ok || !isJsonObject(answer)) {
      throw new Error(`${method} ${path}: HTTP ${response.status} ${JSON.stringify(answer)}`);
    }
    return answer;
  }

  /** One request of the agent; again after each consent. How often is the broker's to bound, so this is generous. */
  async function respond(input: JsonObject[]): Promise<JsonObject[]> {
    for (let asked = 0; asked <= MAX_CONSENTS; asked++) {
      const tools = [{ type: "mcp", server_label: CONNECTION, require_approval: "never" }];
      const { output } = await send("POST", "openai/v1/responses", { tools, input });
      const items = Array.isArray(output) ? output.filter(isJsonObject) : [];
      const consent = items.find(({ type }) => type === "oauth_consent_request");
      if (!consent) return items;
      await give(textOf(consent["consent_link"]));
    }
    throw new Error(`the broker asked for consent more than ${MAX_CONSENTS} times`);
  }

  async function give(link: string): Promise<void> {
    const page = await browser.open(link);
    const done = await browser.press(page, "allow");
    if (!done.url.startsWith(running.url)) throw new Error(`the browser ended at ${done.url}`);
    note("info", "person", { saw: headingOf(done), status: done.status });
    if (!CONNECTED.test(headingOf(done))) throw new Error(`consent: ${headingOf(done)}`);
    given++;
  }

  return {
    connect: async (properties) => {
      const body = { properties: { category: "RemoteTool", ...properties } };
      await send("PUT", `connections/${CONNECTION}`, body);
    },
    list: async () => {
      const item = (await respond([])).find(({ type }) => type === "mcp_list_tools");
      if (!item || item["error"] != null) throw new Error(`no list of tools: ${JSON.stringify(item)}`);
      const tools = Array.isArray(item["tools"]) ? item["tools"].filter(isJsonObject) : [];
      return tools.map(({ name, input_schema }) => ({
        name: textOf(name),
        inputSchema: isJsonObject(input_schema) ? input_schema : {},
      }));
    },
    call: async (name, args) => {
      const id = `call_${++calls}`;
      const call = { type: "mcp_call", id, status: "calling", server_label: CONNECTION, name };
      const items = await respond([{ ...call, arguments: JSON.stringify(args) }]);
      const item = items.find(({ type }) => type === "mcp_call");
      if (item?.["status"] !== "completed") throw new Error(`the call failed: ${JSON.stringify(item)}`);
    },
    consents: () => given,
    stop: async () => {
      await running.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

export function textOf(value: Json | undefined): string {
  if (typeof value === "string") return value;
  throw new Error(`${JSON.stringify(value)} is no text`);
}

/** Where somebody debugs a scenario, by CONFORMANCE_VERBOSE. Secrets are in no log anyway. */
export function note(level: string, event: string, fields: Record<string, unknown> = {}): void {
  if (process.env["CONFORMANCE_VERBOSE"]) console.error(level, event, JSON.stringify(fields));
}

const CONNECTION = "suite";
const PERSON = "ada";
// What the suite expects as the client's id. It need not resolve.
const CLIENT_DOCUMENT = "https://conformance-test.local/client-metadata.json";
const MAX_CONSENTS = 8;
const REQUEST_MS = 30_000;
const CONNECTED = /^Connected to /;
