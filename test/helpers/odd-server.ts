import { setTimeout as wait } from "node:timers/promises";
import { startHttpServer } from "./http-server.ts";
import { beginAuthorization, visit } from "./people.ts";
import type { TestWorld } from "./world.ts";

/** An MCP server and its authorization server that do what no real one would. `url` is their origin. */
export type OddServer = {
  url: string;
  /** Token requests, as they came. */
  tokens: URLSearchParams[];
  /** Tokens that were to be revoked. */
  revoked: string[];
  /** Sessions that were ended, and with which token: `a1 session-1`. */
  endedSessions: string[];
  /** Change them at any time. */
  ways: OddWays;
  stop: () => Promise<void>;
};

export type OddWays = {
  /** Of the tokens that are given. */
  expiresIn: number;
  tokenLatencyMs: number;
  /** The challenge of a 403 to `tools/call`. Null: the call is answered. */
  insufficient: string | null;
  /** Whether it gives sessions, `session-1`, `session-2`, … */
  sessions: boolean;
};

/** Every code is good, refresh tokens are `r1`, `r2`, … and the one tool, `whoami`, says the token that came. */
export async function startOddServer(): Promise<OddServer> {
  const ways: OddWays = { expiresIn: 3600, tokenLatencyMs: 0, insufficient: null, sessions: false };
  const tokens: URLSearchParams[] = [];
  const revoked: string[] = [];
  const endedSessions: string[] = [];
  let sessions = 0;
  const server = await startHttpServer(({ method: verb, path, body, headers }, response) => {
    const json = (status: number, value: unknown, more: Record<string, string> = {}) =>
      response.writeHead(status, { "content-type": "application/json", ...more }).end(JSON.stringify(value));
    const token = async () => {
      const nth = tokens.push(new URLSearchParams(body));
      const { expiresIn: expires_in } = ways;
      await wait(ways.tokenLatencyMs);
      json(200, { access_token: `a${nth}`, refresh_token: `r${nth}`, token_type: "bearer", expires_in });
    };
    const mcp = () => {
      if (verb === "DELETE") {
        const token = headers.authorization?.replace("Bearer ", "");
        endedSessions.push(`${token} ${String(headers["mcp-session-id"])}`);
        return void response.writeHead(200).end();
      }
      const { id, method } = JSON.parse(body) as { id?: unknown; method: string };
      const result = resultOf(method, headers.authorization ?? "");
      if (method === "tools/call" && ways.insufficient !== null) {
        const challenge = `Bearer error="insufficient_scope", scope="${ways.insufficient}"`;
        json(403, {}, { "www-authenticate": challenge });
      } else if (method === "initialize" && ways.sessions) {
        json(200, { jsonrpc: "2.0", id, result }, { "mcp-session-id": `session-${++sessions}` });
      } else if (id === undefined) response.writeHead(202).end();
      else if (result) json(200, { jsonrpc: "2.0", id, result });
      else json(200, { jsonrpc: "2.0", id, error: { code: -32601, message: "no such method" } });
    };
    if (path === "/token") return void token();
    if (path === "/mcp") return mcp();
    if (path === "/revoke") revoked.push(new URLSearchParams(body).get("token") ?? "");
    response.writeHead(path === "/revoke" ? 200 : 404).end();
  });
  return { url: server.url, tokens, revoked, endedSessions, ways, stop: server.stop };
}

function resultOf(method: string, authorization: string): object | null {
  switch (method) {
    case "initialize":
      return {
        protocolVersion: "2025-06-18",
        capabilities: { tools: {} },
        serverInfo: { name: "odd", version: "1" },
      };
    case "tools/list":
      return { tools: [{ name: "whoami", inputSchema: { type: "object" } }] };
    case "tools/call":
      return { content: [{ type: "text", text: authorization }] };
    default:
      return null;
  }
}

/** A connection to it, with an app of the admin's own. */
export async function connectOdd(
  world: Pick<TestWorld, "connect">,
  { url }: OddServer,
  name = "odd",
): Promise<void> {
  const answer = await world.connect(name, {
    authType: "OAuth2",
    target: `${url}/mcp`,
    credentials: { clientId: "client", clientSecret: "a-secret-of-a-client" },
    authorizationUrl: `${url}/authorize`,
    tokenUrl: `${url}/token`,
    revocationUrl: `${url}/revoke`,
  });
  if (answer.status !== 200) throw new Error(JSON.stringify(answer.body));
}

/** Allow, and back with a code, as if the person had allowed it there. */
export async function finishOdd(link: string): Promise<{ status: number; text: string }> {
  const { cookie, authorizationUrl } = await beginAuthorization(link);
  const back = new URL(authorizationUrl.searchParams.get("redirect_uri") ?? "");
  back.searchParams.set("code", "a-code");
  back.searchParams.set("state", authorizationUrl.searchParams.get("state") ?? "");
  return visit(back, cookie);
}
