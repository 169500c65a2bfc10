import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { startModel } from "../demo/model.ts";
import { startResponsesModel } from "../test/helpers/model-responses.ts";

/** Whom the broker calls in a soak. `forget` lets go of what the models remember of their requests. */
export type Stage = {
  mcp: string;
  chat: string;
  responses: string;
  forget: () => void;
  stop: () => Promise<void>;
};

/** So often a token is refused once, and has to be refreshed: one that is younger than half a minute would not be. */
const REFUSED_EVERY_MS = 35_000;
const SLOW_MS = 150;
const TEXT = "a short answer";
const METADATA = "/.well-known/oauth-protected-resource/oauth/mcp";

/** An MCP server of which each tool fails in a way of its own, and two models that call its `echo` once and then answer. */
export async function startStage(issuer: string): Promise<Stage> {
  const isRefused = refusing();
  const server = createServer((request, response) => {
    serve(request, response, { issuer, isRefused }).catch(() => response.destroy());
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo; // Seam: it listens on a port.
  const call = { name: "open__echo", arguments: { text: "hello" } };
  const chat = await startModel(({ messages }) =>
    messages.at(-1)?.role === "tool"
      ? { text: ["It ", "is ", "done."] }
      : { text: "Let me see.", calls: [call] },
  );
  const responses = await startResponsesModel(({ input }) =>
    input.at(-1)?.type === "function_call_output"
      ? { says: [{ text: "It is done." }] }
      : {
          says: [
            { reasoning: ["I look"], encrypted: "sealed" },
            { call: call.name, arguments: call.arguments },
          ],
        },
  );
  return {
    mcp: `http://127.0.0.1:${port}`,
    chat: chat.baseUrl,
    responses: responses.baseUrl,
    forget: () => {
      chat.requests.length = 0;
      responses.requests.length = 0;
    },
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await Promise.all([once(server, "close"), chat.close(), responses.close()]);
    },
  };
}

function refusing(): () => boolean {
  let last = -Infinity;
  return () => {
    const now = performance.now();
    if (now - last < REFUSED_EVERY_MS) return false;
    last = now;
    return true;
  };
}

type Message = { id?: unknown; method?: string; params?: { name?: string } };

async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  { issuer, isRefused }: { issuer: string; isRefused: () => boolean },
): Promise<void> {
  const { url = "/", headers } = request;
  const origin = `http://${headers.host}`;
  if (url === METADATA)
    return send(response, {
      resource: `${origin}/oauth/mcp`,
      authorization_servers: [issuer],
      scopes_supported: ["read"],
    });
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer); // Seam: no encoding is set, so they are buffers.
  const { id, method = "", params } = JSON.parse(Buffer.concat(chunks).toString()) as Message;
  const isRefusing =
    url.startsWith("/oauth") &&
    (headers.authorization === undefined || (method === "tools/call" && isRefused()));
  if (isRefusing) {
    const challenge = `Bearer resource_metadata="${origin}${METADATA}", scope="read"`;
    response.writeHead(401, { "www-authenticate": challenge }).end();
    return;
  }
  const hints = { resultType: "complete", ttlMs: 0, cacheScope: "private" };
  const answer = (result: object) => send(response, { jsonrpc: "2.0", id, result });
  switch (method) {
    case "server/discover":
      return answer({ ...hints, supportedVersions: ["2026-07-28"], capabilities: { tools: {} } });
    case "tools/list":
      return answer({ ...hints, tools: TOOLS.map((name) => ({ name, inputSchema: { type: "object" } })) });
    case "tools/call":
      return callTool(params?.name ?? "", { response, answer });
    default:
      return answer({});
  }
}

const TOOLS = ["echo", "complain", "break", "hang_up", "slow", "stuck"];

async function callTool(
  name: string,
  { response, answer }: { response: ServerResponse; answer: (result: object) => void },
): Promise<void> {
  const result = { resultType: "complete", content: [{ type: "text", text: TEXT }] };
  if (name === "complain") return answer({ ...result, isError: true });
  if (name === "break") return void response.writeHead(500).end("it is broken");
  if (name === "hang_up") {
    // In the middle of an answer that was begun.
    response.writeHead(200, { "content-type": "application/json", "content-length": 1_000 }).write("{");
    await new Promise((resolve) => setTimeout(resolve, 5));
    return void response.destroy();
  }
  // Until whoever called it has gone.
  if (name === "stuck") return void (await once(response, "close"));
  if (name === "slow") await new Promise((resolve) => setTimeout(resolve, SLOW_MS));
  return answer(result);
}

function send(response: ServerResponse, body: unknown): void {
  const text = Buffer.from(JSON.stringify(body));
  response.writeHead(200, { "content-type": "application/json", "content-length": text.length }).end(text);
}
