import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import type {
  Response,
  ResponseCreateParamsNonStreaming,
  ResponseStreamEvent,
} from "openai/resources/responses/responses";
import { parseConfig } from "../../src/config.ts";
import type { Clock, World } from "../../src/core/ports.ts";
import { type Running, type Seams, start } from "../../src/node.ts";
import type { ScriptedModel } from "./model.ts";

export type LogLine = { level: string; event: string; fields: Record<string, unknown> };

/** A whole broker in this process, on a free port, with a database of its own. */
export type TestWorld = Running & {
  folder: string;
  logs: LogLine[];
  /** Moves the clock ahead without waiting. */
  advance: (ms: number) => void;
  /** A request with the bootstrap key, JSON in and out. */
  rest: (method: string, path: string, body?: unknown, headers?: Record<string, string>) => Promise<Answer>;
  /** Makes or replaces a connection of the project (`default`). */
  connect: (name: string, properties: Record<string, unknown>, project?: string) => Promise<Answer>;
  /** A key of a project, and the unmodified client that uses it. */
  runtime: (options?: RuntimeOptions) => Promise<OpenAI>;
  /** Every byte that the broker keeps. */
  databaseBytes: () => Promise<Buffer>;
};

export type Answer = { status: number; headers: Headers; body: Record<string, never> };
export type RuntimeOptions = {
  project?: string;
  name?: string;
  roles?: string[];
  rights?: string[];
  user?: string;
};

export async function createWorld(
  options: {
    model?: ScriptedModel;
    env?: Record<string, string>;
    clock?: Clock;
    clientDocumentUrl?: World["clientDocumentUrl"];
    vaults?: Seams["vaults"];
  } = {},
): Promise<TestWorld> {
  // The same sentences on the other door: `npm run test:workers`.
  if (process.env["CONSENTRY_TEST_DOOR"] === "workers") {
    const { createWorkerTestWorld } = await import("./worker.ts");
    return createWorkerTestWorld(options);
  }
  const folder = await mkdtemp(join(tmpdir(), "consentry-"));
  const logs: LogLine[] = [];
  let ahead = 0;
  const clock: Clock = options.clock ?? {
    now: () => Date.now() + ahead,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        const timer = setTimeout(resolve, ms);
        signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
      }),
  };
  const config = parseConfig({
    CONSENTRY_PORT: "0",
    CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
    CONSENTRY_ADMIN_KEY: ADMIN_KEY,
    ...(options.model && {
      CONSENTRY_MODEL_BASE_URL: options.model.baseUrl,
      CONSENTRY_MODEL_API_KEY: "model-key",
    }),
    ...options.env,
  });
  const running = await start(config, {
    clock,
    log: (level, event, fields = {}) => logs.push({ level, event, fields }),
    ...(options.clientDocumentUrl && { clientDocumentUrl: options.clientDocumentUrl }),
    ...(options.vaults && { vaults: options.vaults }),
  });

  return {
    ...running,
    ...faceOf(running.url),
    folder,
    logs,
    advance: (ms) => {
      ahead += ms;
    },
    databaseBytes: async () => {
      const names = await readdir(folder);
      return Buffer.concat(await Promise.all(names.map((name) => readFile(join(folder, name)))));
    },
    stop: async () => {
      await running.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** What an admin and a runtime do with a broker, wherever it runs. */
export function faceOf(url: string): Pick<TestWorld, "rest" | "connect" | "runtime"> {
  const rest: TestWorld["rest"] = async (method, path, body, headers = {}) => {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json", ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text === "" ? {} : JSON.parse(text) };
  };

  return {
    rest,
    connect: (name, properties, project = "default") =>
      rest("PUT", `/api/projects/${project}/connections/${name}`, {
        properties: { category: "RemoteTool", authType: "None", ...properties },
      }),
    runtime: async ({ project = "default", name, roles = ["runtime"], rights = [], user } = {}) => {
      const made = await rest("POST", `/api/projects/${project}/keys`, {
        name: name ?? `runtime-${crypto.randomUUID().slice(0, 8)}`,
        roles,
        rights,
      });
      return clientOf(url, String(made.body["key"]), {
        project,
        ...(user !== undefined && { user }),
      });
    },
  };
}

export const ADMIN_KEY = "csk_9fK2mQ7xWc4Rt8Zb3Yd6Hg1Jp5Ls0Nv-uEoAiXqTyBw";

/** The unmodified `openai` client, pointed at a project. Its own retries are off: a test wants to see each answer. */
export function clientOf(
  url: string,
  key: string,
  { project, user }: { project: string; user?: string },
): OpenAI {
  return new OpenAI({
    baseURL: `${url}/api/projects/${project}/openai/v1`,
    apiKey: key,
    maxRetries: 0,
    ...(user !== undefined && { defaultHeaders: { "x-ms-user-identity": user } }),
  });
}

export type Body = Omit<ResponseCreateParamsNonStreaming, "stream">;
export const MODES = ["one body", "streamed"] as const;
export type Mode = (typeof MODES)[number];

/**
 * Asks for a response, as one body or through `responses.stream()`, which throws on any slip of the protocol. Both give
 * the whole response.
 */
export async function respond(client: OpenAI, body: Body, mode: Mode = "one body"): Promise<Response> {
  if (mode === "one body") return client.responses.create(body);
  const { response } = await streamed(client, body);
  return response;
}

export async function streamed(
  client: OpenAI,
  body: Body,
): Promise<{ response: Response; events: ResponseStreamEvent[] }> {
  const stream = client.responses.stream(body as Parameters<typeof client.responses.stream>[0]);
  const events: ResponseStreamEvent[] = [];
  for await (const event of stream) events.push(event);
  const gap = events.findIndex((event, at) => event.sequence_number !== at);
  if (gap >= 0) throw new Error(`event ${gap} has the number ${events[gap]?.sequence_number}`);
  return { response: await stream.finalResponse(), events };
}

/** The output items of one type. */
export function itemsOf<T extends Response["output"][number]["type"]>(
  response: Response,
  type: T,
): Extract<Response["output"][number], { type: T }>[] {
  // The filter proves what the cast says.
  return response.output.filter((item) => item.type === type) as Extract<
    Response["output"][number],
    { type: T }
  >[];
}

/** An explicit call (no model). */
export function call(label: string, name: string, args: unknown, id = `call_${name}`) {
  return {
    type: "mcp_call" as const,
    id,
    server_label: label,
    name,
    arguments: JSON.stringify(args),
    status: "calling" as const,
  };
}
