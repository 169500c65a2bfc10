import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import {
  createMcpHandler,
  fromJsonSchema,
  McpServer,
  type CallToolResult,
  type JsonSchemaType,
  type ServerContext,
  type ToolAnnotations,
} from "@modelcontextprotocol/server";

export { type EverythingServer, startEverything } from "../../demo/everything.ts";

/** A request as a server saw it. `body` is parsed where it is JSON. */
export type SeenRequest = { method: string; path: string; headers: Headers; body: SeenBody | null };
export type SeenBody = { id?: unknown; method?: string; params?: Record<string, unknown>; error?: unknown };

export type TestTool = {
  name: string;
  title?: string;
  description?: string;
  inputSchema: JsonSchemaType;
  outputSchema?: JsonSchemaType;
  annotations?: ToolAnnotations;
  run: (args: Record<string, unknown>, context: ServerContext) => Promise<CallToolResult> | CallToolResult;
};

export type ModernServer = {
  url: string;
  /** In the order in which they came. */
  requests: SeenRequest[];
  /** Requests whose JSON-RPC method is this one. */
  seen: (method: string) => SeenRequest[];
  /** Change it at any time: the next request sees it. */
  tools: TestTool[];
  /** Says to whoever subscribed that the tools changed. */
  changed: () => void;
  /** The tool `slow`: how often it began, was let finish, or was cancelled by its caller. */
  slow: { started: Promise<void>; cancelled: Promise<void>; release: () => void };
  stop: () => Promise<void>;
};

/**
 * An MCP server of our own on SDK v2, in this process: 2026-07-28, stateless. `header`: what every request must bring,
 * else 401. `legacy: "stateless"` serves the older revisions, too. `pageSize` splits the listing.
 */
export async function startModernServer(
  options: {
    header?: { name: string; value: string };
    legacy?: "stateless" | "reject";
    responses?: "auto" | "sse" | "json";
    pageSize?: number;
    listTtlMs?: number;
    tools?: TestTool[];
  } = {},
): Promise<ModernServer> {
  const slow = createSlowTool();
  const tools = options.tools ?? [...standardTools(), slow.tool];
  const handler = createMcpHandler(() => serverWith(tools, options), {
    legacy: options.legacy ?? "reject",
    responseMode: options.responses ?? "auto",
  });
  const requests: SeenRequest[] = [];
  const server = createAdaptorServer({
    fetch: async (request: Request) => {
      const text = await request.clone().text();
      requests.push({
        method: request.method,
        path: new URL(request.url).pathname,
        headers: request.headers,
        body: parsed(text),
      });
      const { header } = options;
      if (header && request.headers.get(header.name) !== header.value) {
        return new Response("no", { status: 401, headers: { "www-authenticate": "Bearer" } });
      }
      return handler.fetch(request);
    },
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${portOf(server)}/mcp`,
    requests,
    seen: (method) => requests.filter(({ body }) => body?.method === method),
    tools,
    changed: () => handler.notify.toolsChanged(),
    slow,
    stop: async () => {
      await handler.close();
      await closed(server);
    },
  };
}

/**
 * The tools every modern test server has: echo, add, read_note (read-only), delete_note (destructive), fail (`isError`),
 * throw, everything (one block of every kind), measure (structured), region (a mirrored header).
 */
export function standardTools(): TestTool[] {
  return [
    {
      name: "echo",
      title: "Echo",
      description: "Says what it was told.",
      inputSchema: schemaOf({ text: { type: "string" } }, ["text"]),
      run: ({ text }) => say(String(text)),
    },
    {
      name: "add",
      description: "Adds two numbers.",
      inputSchema: schemaOf({ a: { type: "number" }, b: { type: "number" } }, ["a", "b"]),
      run: ({ a, b }) => say(String(Number(a) + Number(b))),
    },
    {
      name: "read_note",
      description: "Reads a note.",
      inputSchema: schemaOf({ id: { type: "string" } }, []),
      annotations: { readOnlyHint: true },
      run: ({ id }) => say(`note ${typeof id === "string" ? id : "1"}: buy milk`),
    },
    {
      name: "delete_note",
      description: "Deletes a note for good.",
      inputSchema: schemaOf({ id: { type: "string" } }, ["id"]),
      annotations: { readOnlyHint: false, destructiveHint: true },
      run: ({ id }) => say(`deleted ${String(id)}`),
    },
    {
      name: "fail",
      description: "Fails, and says so.",
      inputSchema: schemaOf({}, []),
      run: () => ({ ...say("the printer is on fire"), isError: true }),
    },
    {
      name: "throw",
      description: "Throws.",
      inputSchema: schemaOf({}, []),
      run: () => {
        throw new Error("a fault inside the tool");
      },
    },
    {
      name: "everything",
      description: "One block of every kind.",
      inputSchema: schemaOf({}, []),
      run: () => ({ content: everyBlock() }),
    },
    {
      name: "measure",
      description: "A measurement.",
      inputSchema: schemaOf({}, []),
      outputSchema: schemaOf({ celsius: { type: "number" } }, ["celsius"]),
      run: () => ({ ...say('{"celsius":21.5}'), structuredContent: { celsius: 21.5 } }),
    },
    {
      name: "region",
      description: "Is routed by a header that mirrors an argument.",
      inputSchema: schemaOf({ region: { type: "string", "x-mcp-header": "Region" } }, ["region"]),
      run: ({ region }) => say(`in ${String(region)}`),
    },
  ];
}

/** One content block of every kind that the revisions know. */
export function everyBlock(): CallToolResult["content"] {
  const pixel =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
  return [
    { type: "text", text: "words\u0000 and \u202e more", annotations: { audience: ["user"], priority: 0.5 } },
    { type: "image", data: pixel, mimeType: "image/png" },
    { type: "audio", data: "UklGRiQAAABXQVZF", mimeType: "audio/wav" },
    { type: "resource", resource: { uri: "note://1", mimeType: "text/plain", text: "buy milk" } },
    { type: "resource", resource: { uri: "note://2", mimeType: "application/pdf", blob: "JVBERi0=" } },
    { type: "resource_link", uri: "note://3", name: "note 3", description: "a link", size: 12 },
  ];
}

export type RawServer = {
  url: string;
  requests: SeenRequest[];
  seen: (method: string) => SeenRequest[];
  /** How many sockets are open now. */
  connections: () => Promise<number>;
  stop: () => Promise<void>;
};

/** A server that answers as `handler` says: for everything that no SDK would do. `body` is the parsed request. */
export async function startRawServer(
  handler: (
    request: SeenRequest,
    response: ServerResponse,
    incoming: IncomingMessage,
  ) => void | Promise<void>,
): Promise<RawServer> {
  const requests: SeenRequest[] = [];
  const server = createServer((incoming, response) => {
    incoming.on("error", () => {});
    response.on("error", () => {});
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      const request: SeenRequest = {
        method: incoming.method ?? "",
        path: incoming.url ?? "",
        headers: headersOf(incoming),
        body: parsed(Buffer.concat(chunks).toString()),
      };
      requests.push(request);
      void handler(request, response, incoming);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${portOf(server)}/mcp`,
    requests,
    seen: (method) => requests.filter(({ body }) => body?.method === method),
    connections: () =>
      new Promise((resolve, reject) =>
        server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
      ),
    stop: () => closed(server),
  };
}

/** Answers with JSON. */
export function answerJson(response: ServerResponse, body: unknown, status = 200): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

/** A JSON-RPC result for the request. */
export function answerResult(request: SeenRequest, response: ServerResponse, result: unknown): void {
  answerJson(response, { jsonrpc: "2.0", id: request.body?.id, result });
}

/** What a stateless 2026-07-28 server answers to `server/discover`. */
export const DISCOVERED = {
  resultType: "complete",
  supportedVersions: ["2026-07-28"],
  capabilities: { tools: {} },
  ttlMs: 0,
  cacheScope: "private",
};

/** What a 2025-11-25 server answers to `initialize`. */
export const INITIALIZED = {
  protocolVersion: "2025-11-25",
  capabilities: { tools: {} },
  serverInfo: { name: "raw", version: "1" },
};

export const say = (text: string): CallToolResult => ({ content: [{ type: "text", text }] });

/** An input schema of an object with these properties. */
export function schemaOf(
  properties: Record<string, Record<string, unknown>>,
  required: string[],
): JsonSchemaType {
  return { type: "object", properties, required };
}

function serverWith(tools: TestTool[], options: { pageSize?: number; listTtlMs?: number }): McpServer {
  const hints = { ttlMs: options.listTtlMs ?? 0, cacheScope: "private" as const };
  const server = new McpServer(
    { name: "modern", version: "1.0.0" },
    { capabilities: { tools: {} }, cacheHints: { "tools/list": hints } },
  );
  for (const { name, run, inputSchema, outputSchema, ...rest } of tools) {
    server.registerTool(
      name,
      {
        ...rest,
        inputSchema: fromJsonSchema<Record<string, unknown>>(inputSchema),
        ...(outputSchema && { outputSchema: fromJsonSchema(outputSchema) }),
      },
      async (args, context) => run(args, context),
    );
  }
  const { pageSize } = options;
  if (pageSize !== undefined) {
    server.server.setRequestHandler("tools/list", ({ params }) => {
      const from = Number(params?.cursor ?? 0);
      const page = tools.slice(from, from + pageSize).map(({ run: _run, ...definition }) => definition);
      const next = from + pageSize < tools.length ? { nextCursor: String(from + pageSize) } : {};
      // The SDK's type asks for literal "object" schemas; ours are written so by hand.
      return { tools: page as never, ...next };
    });
  }
  return server;
}

function createSlowTool() {
  const started = Promise.withResolvers<void>();
  const cancelled = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  const tool: TestTool = {
    name: "slow",
    description: "Waits until it is let finish.",
    inputSchema: schemaOf({}, []),
    run: async (_args, { mcpReq }) => {
      mcpReq.signal.addEventListener("abort", () => cancelled.resolve());
      started.resolve();
      await Promise.race([released.promise, cancelled.promise]);
      return say("done at last");
    },
  };
  return {
    tool,
    started: started.promise,
    cancelled: cancelled.promise,
    release: () => released.resolve(),
  };
}

function parsed(text: string): SeenBody | null {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function headersOf(incoming: IncomingMessage): Headers {
  const headers = new Headers();
  for (let at = 0; at < incoming.rawHeaders.length; at += 2) {
    headers.append(incoming.rawHeaders[at] ?? "", incoming.rawHeaders[at + 1] ?? "");
  }
  return headers;
}

type Listening = { address: () => string | AddressInfo | null };

function portOf(server: Listening): number {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The server does not listen.");
  return address.port;
}

async function closed(server: { close: (done: () => void) => unknown }): Promise<void> {
  if ("closeAllConnections" in server && typeof server.closeAllConnections === "function") {
    server.closeAllConnections();
  }
  await new Promise<void>((resolve) => server.close(() => resolve()));
}
