import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type OpenAI from "openai";
import type { Response, ResponseStreamEvent } from "openai/resources/responses/responses";
import type { Clock } from "../../src/core/ports.ts";
import { systemClock } from "../../src/system-clock.ts";
import { type ModernServer, say, schemaOf, startModernServer } from "./mcp-servers.ts";
import { type Script, type ScriptedModel, startModel } from "./model.ts";
import { type BrokerProcess, startBroker } from "./process.ts";
import { ADMIN_KEY, type Body, call, clientOf, createWorld, itemsOf, type TestWorld } from "./world.ts";

/** Several brokers on one SQLite file, a model, and a server whose tool `work` counts. Change `during` and `script` at any time. */
export type BackgroundStage = {
  server: ModernServer;
  model: ScriptedModel;
  /** How often the tool ran, by what it was told. */
  runs: Map<string, number>;
  /** What the tool does before it answers. */
  during: (text: string) => Promise<void> | void;
  script: Exclude<Script, unknown[]>;
  /** A replica in this process, which has the server as `work`. */
  replica: (clock?: Clock) => Promise<TestWorld>;
  /** The same in a process of its own. */
  processReplica: () => Promise<BrokerProcess>;
  stop: () => Promise<void>;
};

export async function createBackgroundStage(): Promise<BackgroundStage> {
  const folder = await mkdtemp(join(tmpdir(), "consentry-background-"));
  const ending: (() => Promise<unknown>)[] = [];
  const work = {
    name: "work",
    inputSchema: schemaOf({ text: { type: "string" } }, ["text"]),
    run: async ({ text }: Record<string, unknown>) => {
      const name = String(text);
      stage.runs.set(name, (stage.runs.get(name) ?? 0) + 1);
      await stage.during(name);
      return say(`worked ${name}`);
    },
  };
  const [server, model] = await Promise.all([
    startModernServer({ tools: [work] }),
    startModel((request) => stage.script(request)),
  ]);
  const env = {
    CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
    CONSENTRY_KEYRING: `k1:${Buffer.alloc(32, 7).toString("base64")}`,
  };
  const stage: BackgroundStage = {
    server,
    model,
    runs: new Map(),
    during: () => {},
    script: () => ({ text: "done" }),
    replica: async (clock) => {
      const world = await createWorld({ env, model, ...(clock && { clock }) });
      ending.push(() => world.stop());
      await world.connect("work", { target: server.url, timeoutMs: 5_000 });
      return world;
    },
    processReplica: async () => {
      const broker = await startBroker({
        ...env,
        CONSENTRY_ADMIN_KEY: ADMIN_KEY,
        CONSENTRY_MODEL_BASE_URL: model.baseUrl,
        CONSENTRY_MODEL_API_KEY: "model-key",
      });
      ending.push(() => broker.kill9());
      await fetch(`${broker.url}/api/projects/default/connections/work`, {
        method: "PUT",
        headers: { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json" },
        body: JSON.stringify({ properties: { authType: "None", target: server.url, timeoutMs: 5_000 } }),
      });
      return broker;
    },
    stop: async () => {
      await Promise.all(ending.map((end) => end()));
      await Promise.all([server.stop(), model.close()]);
      await rm(folder, { recursive: true, force: true });
    },
  };
  return stage;
}

export const client = (url: string) => clientOf(url, ADMIN_KEY, { project: "default" });
export const tools = [{ type: "mcp" as const, server_label: "work", require_approval: "never" as const }];

/** By its clock every lease of now has ended. */
export const ahead: Clock = { now: () => Date.now() + 60_000, sleep: systemClock.sleep };

/** The response when it is over, as OpenAI's guide polls. */
export async function polled(url: string, id: string): Promise<Response> {
  for (;;) {
    const response = await client(url).responses.retrieve(id);
    if (response.status !== "queued" && response.status !== "in_progress") return response;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Reads it to its end by the client's own helper, which checks every event. */
export async function followed(url: string, id: string) {
  const events: ResponseStreamEvent[] = [];
  const stream = client(url).responses.stream({ response_id: id });
  for await (const event of stream) events.push(event);
  const gap = events.findIndex((event, at) => event.sequence_number !== at);
  if (gap >= 0) throw new Error(`event ${gap} has the number ${events[gap]?.sequence_number}`);
  return { events, response: await stream.finalResponse() };
}

export async function metricOf({ url }: TestWorld, name: string): Promise<string | undefined> {
  const scraped = await fetch(`${url}/metrics`, { headers: { authorization: `Bearer ${ADMIN_KEY}` } });
  return new RegExp(`^${name} (.*)$`, "m").exec(await scraped.text())?.[1];
}

/** What is asked for in the background, each with one call in it. */
export const scenarios: Record<string, (openai: OpenAI, name: string) => Promise<Body> | Body> = {
  model: (_, name) => ({ model: "m", tools, input: `go ${name}` }),
  explicit: (_, name) => ({ tools, input: [call("work", "work", { text: name }, "c1")] }),
  approved: async (openai, name) => {
    const asked = await openai.responses.create({
      tools: [{ type: "mcp", server_label: "work" }],
      input: [call("work", "work", { text: name }, "c1")],
    });
    const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
    return {
      previous_response_id: asked.id,
      input: [{ type: "mcp_approval_response", approval_request_id: id, approve: true }],
    };
  },
};
