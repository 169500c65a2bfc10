import { randomUUID } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import {
  type EventStore,
  StreamableHTTPServerTransport,
} from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import type { RequestHandlerExtra } from "@modelcontextprotocol/sdk/shared/protocol.js";
import {
  type CallToolResult,
  isInitializeRequest,
  type ServerNotification,
  type ServerRequest,
} from "@modelcontextprotocol/sdk/types.js";
import { z } from "zod";
import { type SeenRequest, startRawServer } from "./mcp-servers.ts";

export type Extra = RequestHandlerExtra<ServerRequest, ServerNotification>;
export type SessionfulTool = (extra: Extra, server: McpServer) => CallToolResult | Promise<CallToolResult>;

export type SessionfulServer = {
  url: string;
  requests: SeenRequest[];
  seen: (method: string) => SeenRequest[];
  /** The ids of sessions that have not been ended. */
  sessions: () => string[];
  /** Of the session's server: what it sends without being asked goes to its standing stream. */
  serverOf: (session: string) => McpServer;
  stop: () => Promise<void>;
};

/**
 * A server on the SDK of the older revisions, with sessions, whose streams can be taken up again; `retryMs` is what it
 * wants a client to wait. Its tools take no arguments.
 */
export async function startSessionfulServer(
  tools: Record<string, SessionfulTool>,
  { retryMs = 100 }: { retryMs?: number } = {},
): Promise<SessionfulServer> {
  const sessions = new Map<string, { transport: StreamableHTTPServerTransport; server: McpServer }>();

  async function begin(): Promise<StreamableHTTPServerTransport> {
    const server = new McpServer(
      { name: "sessionful", version: "1.0.0" },
      { capabilities: { tools: { listChanged: true } } },
    );
    for (const [name, run] of Object.entries(tools)) {
      server.registerTool(name, { description: name }, (extra) => run(extra, server));
    }
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: createEventStore(),
      retryInterval: retryMs,
      onsessioninitialized: (id) => void sessions.set(id, { transport, server }),
      onsessionclosed: (id) => void sessions.delete(id),
    });
    // Its own type and the SDK's disagree about optional members only.
    await server.connect(transport as Parameters<typeof server.connect>[0]);
    return transport;
  }

  const raw = await startRawServer(async (request, response, incoming) => {
    const session = request.headers.get("mcp-session-id");
    const known = session === null ? null : sessions.get(session);
    if (known) return known.transport.handleRequest(incoming, response, request.body ?? undefined);
    if (session === null && isInitializeRequest(request.body)) {
      return (await begin()).handleRequest(incoming, response, request.body);
    }
    const status = session === null ? 400 : 404;
    const error = { code: -32000, message: "Bad Request: No valid session ID provided" };
    response
      .writeHead(status, { "content-type": "application/json" })
      .end(JSON.stringify({ jsonrpc: "2.0", error, id: null }));
  });

  return {
    url: raw.url,
    requests: raw.requests,
    seen: raw.seen,
    sessions: () => [...sessions.keys()],
    serverOf: (id) => {
      const found = sessions.get(id);
      if (!found) throw new Error(`there is no session ${id}`);
      return found.server;
    },
    stop: raw.stop,
  };
}

/** Events in the order in which they came; that of the SDK's examples loses some that come in one millisecond. */
function createEventStore(): EventStore {
  const events: { stream: string; message: Parameters<EventStore["storeEvent"]>[1] }[] = [];
  return {
    storeEvent: async (stream, message) => `e${events.push({ stream, message })}`,
    replayEventsAfter: async (last, { send }) => {
      const seen = Number(last.slice(1));
      const stream = events[seen - 1]?.stream ?? "";
      for (const [at, event] of events.entries()) {
        // What only gives a first event its id has nothing to say.
        if (at < seen || event.stream !== stream || !("jsonrpc" in event.message)) continue;
        await send(`e${at + 1}`, event.message);
      }
      return stream;
    },
  };
}

/** Tells its progress so often, as far as anybody wants to know, and is done. */
export function telling(steps: number, everyMs: number): SessionfulTool {
  return async ({ _meta, sendNotification }) => {
    for (let progress = 1; progress <= steps; progress++) {
      const progressToken = _meta?.progressToken;
      if (progressToken !== undefined) {
        const params = { progressToken, progress, total: steps, message: `step ${progress}` };
        await sendNotification({ method: "notifications/progress", params });
      }
      await wait(everyMs);
    }
    return says(`done in ${steps} steps`);
  };
}

/** Asks its client for something, whatever that has declared, and says what came back. */
export function asking(
  method: "elicitation/create" | "sampling/createMessage" | "roots/list",
): SessionfulTool {
  return async ({ sendRequest }) => {
    const params = PARAMS[method];
    try {
      // Whatever the result may be, nobody here reads it.
      const answer = await sendRequest(
        { method, ...(params && { params }) } as ServerRequest,
        z.looseObject({}),
      );
      return says(`was given ${JSON.stringify(answer)}`);
    } catch (error) {
      return { ...says(`could not go on: ${error instanceof Error ? error.message : "?"}`), isError: true };
    }
  };
}

const says = (text: string): CallToolResult => ({ content: [{ type: "text", text }] });

const PARAMS = {
  "elicitation/create": { message: "Who are you?", requestedSchema: { type: "object", properties: {} } },
  "sampling/createMessage": { messages: [], maxTokens: 10 },
  "roots/list": null,
};
