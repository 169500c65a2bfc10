// An MCP server to measure against: `sdk`, a real one (SDK v2, 2026-07-28), or `canned`, which costs nearly nothing. What is below
// /oauth wants a token, and says whose (RFC 9728). /last of the canned one is the first call of a tool as it came.
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import { createMcpHandler, McpServer } from "@modelcontextprotocol/server";
import { z } from "zod";

const [kind, issuer = ""] = process.argv.slice(2);
const TEXT = "a short answer";
const METADATA = "/.well-known/oauth-protected-resource/oauth/mcp";

const server = kind === "canned" ? cannedServer() : sdkServer();
server.listen(0, "127.0.0.1", () => console.log(`ready ${origin()}`));
process.once("SIGTERM", () => process.exit());

function origin(): string {
  const { port } = server.address() as AddressInfo; // Seam: it listens on a port.
  return `http://127.0.0.1:${port}`;
}

const metadata = () => ({
  resource: `${origin()}/oauth/mcp`,
  authorization_servers: [issuer],
  scopes_supported: ["read"],
});
const challenge = () => ({
  "www-authenticate": `Bearer resource_metadata="${origin()}${METADATA}", scope="read"`,
});
const isStranger = (path: string, authorization: unknown) =>
  path.startsWith("/oauth") && authorization == null;

function sdkServer(): Server {
  const handler = createMcpHandler(() => {
    const mcp = new McpServer({ name: "bench", version: "1.0.0" });
    const content = [{ type: "text" as const, text: TEXT }];
    mcp.registerTool("echo", { description: "Answers shortly", inputSchema }, async () => ({ content }));
    return mcp;
  });
  const inputSchema = z.object({ text: z.string() });
  const made = createAdaptorServer({
    fetch: async (request: Request) => {
      const { pathname } = new URL(request.url);
      if (pathname === METADATA) return Response.json(metadata());
      if (isStranger(pathname, request.headers.get("authorization")))
        return new Response(null, { status: 401, headers: challenge() });
      return handler.fetch(request);
    },
  });
  return made as Server; // Seam: without options it is a server of node:http.
}

/** Knows what is asked by one look, and has every answer ready. */
function cannedServer(): Server {
  let last: { headers: IncomingHttpHeaders; body: string } | null = null;
  const inputSchema = { type: "object", properties: { text: { type: "string" } }, required: ["text"] };
  const hints = { resultType: "complete", ttlMs: 0, cacheScope: "private" };
  const results: Record<string, object> = {
    "server/discover": { ...hints, supportedVersions: ["2026-07-28"], capabilities: { tools: {} } },
    "tools/list": { ...hints, tools: [{ name: "echo", inputSchema }] },
    "tools/call": { resultType: "complete", content: [{ type: "text", text: TEXT }] },
  };
  return createServer((request, response) => {
    const { url = "/", headers } = request;
    const answer = (body: unknown) => {
      const text = Buffer.from(JSON.stringify(body));
      response
        .writeHead(200, { "content-type": "application/json", "content-length": text.length })
        .end(text);
    };
    if (url === "/last") return answer(last);
    if (url === METADATA) return answer(metadata());
    if (isStranger(url, headers.authorization)) return response.writeHead(401, challenge()).end();
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks).toString();
      const { id, method = "" } = JSON.parse(body) as { id?: unknown; method?: string };
      if (method === "tools/call") last ??= { headers, body };
      answer({ jsonrpc: "2.0", id, result: results[method] ?? {} });
    });
  });
}
