// The upstream alone, for what the broker's own surfaces do not ask of servers yet: requests other than those of
// tools, and a client that answers when a server asks back.
import { isJsonObject, type Json, type JsonObject } from "../src/core/json.ts";
import type { CallLimits, Clock } from "../src/core/ports.ts";
import type { Answering } from "../src/upstream/mcp-answering.ts";
import { parseEgressAllow } from "../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../src/upstream/egress.node.ts";
import { createMcpUpstream } from "../src/upstream/mcp.ts";
import { note, type Tool } from "./broker.ts";

export type Upstream = {
  list: () => Promise<Tool[]>;
  call: (name: string, args?: JsonObject) => Promise<void>;
  request: (method: string, params?: JsonObject) => Promise<JsonObject>;
  stop: () => Promise<void>;
};

/** `headers`: what it takes to be let in. */
export function createUpstream(url: string, headers: Record<string, string> = {}): Upstream {
  const egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  const clientInfo = { name: "consentry", version: "0.0.0" };
  const upstream = createMcpUpstream({ egress, clock, log: note, clientInfo, answering });
  const holder = { project: "suite", connection: "suite", owner: "ada" };
  const access = { url, headers, partition: "suite:1", session: "suite:1:ada", holder };

  async function list(): Promise<Tool[]> {
    const listed = await upstream.listTools(access, within());
    if (!listed.ok) throw new Error(listed.failure.message);
    return listed.tools;
  }

  return {
    list,
    call: async (name, args = {}) => {
      const called = await upstream.callTool(access, { name, arguments: args, definition: null }, within());
      if (!called.ok) throw new Error(called.failure.message);
    },
    request: async (method, params = {}) => {
      const asked = await upstream.request(access, { method, params }, within());
      if (!asked.ok) throw new Error(`${method}: ${asked.failure.message}`);
      return asked.result;
    },
    stop: async () => {
      await upstream.close();
      await egress.close();
    },
  };
}

/** A person who accepts every form as it is filled in, and confirms where there is something to confirm. */
const answering: Answering = {
  capabilities: { elicitation: { form: { applyDefaults: true } }, roots: {}, sampling: {} },
  answer: async ({ method, params }) => {
    switch (method) {
      case "elicitation/create":
        return { action: "accept", content: filledIn(params["requestedSchema"]) };
      case "roots/list":
        return { roots: [] };
      default:
        return null;
    }
  },
};

function filledIn(schema: Json | undefined): JsonObject {
  const properties = isJsonObject(schema) && isJsonObject(schema["properties"]) ? schema["properties"] : {};
  const content: JsonObject = {};
  for (const [name, property] of Object.entries(properties)) {
    if (!isJsonObject(property)) continue;
    const value = property["default"] ?? (property["type"] === "boolean" ? true : undefined);
    if (value !== undefined) content[name] = value;
  }
  return content;
}

const clock: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const timer = setTimeout(resolve, ms);
      signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
    }),
};

const within = (): CallLimits => ({ timeoutMs: 30_000, signal: new AbortController().signal });
