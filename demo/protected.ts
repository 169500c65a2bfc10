import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import {
  bearerAuthChallengeResponse,
  createMcpHandler,
  McpServer,
  OAuthError,
  OAuthErrorCode,
} from "@modelcontextprotocol/server";
import { createRemoteJWKSet, jwtVerify } from "jose";
import { z } from "zod";

export type ProtectedServerKnobs = {
  /** Edits its metadata (RFC 9728) on the way out. Null: there is none, and the answer is 404. */
  prm: (document: Record<string, unknown>) => Record<string, unknown> | null;
  /** What a 401 says beside the scopes: where the metadata is (null: nothing). */
  resourceMetadata: string | null;
  /** The scopes that a 401 names. Null: none. */
  challengeScope: string | null;
  /** What a 401 asks of the token's issuer (Entra's claims challenge). Null: nothing. */
  challengeClaims: string | null;
  /** The scope that a call of a tool needs; without it 403 `insufficient_scope`. */
  needs: Record<string, string>;
  /** Whether a token that is valid may be used still. */
  accepts: (token: { sub: string; scope: string; token: string }) => boolean;
  /** Who else is let in, and as whom: those who come with a key, or with a token of another issuer. Null: nobody. */
  others: (headers: Headers) => Promise<string | null>;
  /** What `aud` of a token must be. Null: anything, as with servers that never heard of RFC 8707. */
  audience: string | null;
};

export type ProtectedServer = {
  /** The MCP endpoint, which is also the resource that tokens are for. */
  url: string;
  /** To be changed at any time: the next request sees it. */
  knobs: ProtectedServerKnobs;
  /** Calls of tools that were let in: whose token came with each, and what it may. */
  calls: { tool: string; sub: string; scope: string }[];
  /** Every request to the endpoint: its method in JSON-RPC, the credential as it came, and the status of the answer. */
  requests: { method: string; authorization: string | null; status: number }[];
  /** What people wrote, by the subject of their token. */
  notes: Map<string, string[]>;
  stop: () => Promise<void>;
};

/**
 * A remote MCP server (SDK v2) that lets nobody in without a token of this authorization server that was made for it. Its
 * tools are `whoami` (the token's subject), `read_notes` and `write_note`: each person has their own.
 *
 * `legacy: "stateless"` serves the older revisions, too. Tokens are JWTs; others are asked about, if `introspect` is given.
 */
export async function startProtectedServer({
  authServer,
  path = "/mcp",
  scopes = ["read", "write"],
  needs = {},
  legacy = "reject",
  port: wanted = 0,
}: {
  authServer: {
    issuer: string;
    /** Where its keys are; `/jwks` of the issuer unless it says otherwise. */
    jwksUri?: string;
    introspect?: (token: string) => Promise<{ active: boolean } & Record<string, unknown>>;
  };
  path?: string;
  /** `scopes_supported` of its metadata. */
  scopes?: string[];
  needs?: Record<string, string>;
  legacy?: "stateless" | "reject";
  /** 0: any that is free. */
  port?: number;
}): Promise<ProtectedServer> {
  const metadataPath = `${WELL_KNOWN}${path.replace(/\/$/, "")}`;
  const keys = createRemoteJWKSet(new URL(authServer.jwksUri ?? `${authServer.issuer}/jwks`));
  const calls: ProtectedServer["calls"] = [];
  const requests: ProtectedServer["requests"] = [];
  const notes: ProtectedServer["notes"] = new Map();
  const handler = createMcpHandler(({ authInfo }) => serverOf(notes, String(authInfo?.extra?.["sub"])), {
    legacy,
  });

  const server = createAdaptorServer({
    fetch: async (request: Request) => {
      const { pathname } = new URL(request.url);
      if (pathname === metadataPath) return metadata();
      if (pathname !== path) return new Response("not here", { status: 404 });
      const message = messageOf(await request.clone().text());
      const response = await answer(request, message);
      const authorization = request.headers.get("authorization");
      requests.push({ method: message.method, authorization, status: response.status });
      return response;
    },
  });
  server.listen(wanted, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo; // Seam: it listens on a port.
  const origin = `http://127.0.0.1:${port}`;
  const url = `${origin}${path}`;
  const knobs: ProtectedServerKnobs = {
    prm: (document) => document,
    resourceMetadata: `${origin}${metadataPath}`,
    challengeScope: scopes[0] ?? null,
    challengeClaims: null,
    needs,
    accepts: () => true,
    others: async () => null,
    audience: url,
  };

  function metadata(): Response {
    const document = { resource: url, authorization_servers: [authServer.issuer], scopes_supported: scopes };
    const edited = knobs.prm(document);
    return edited ? Response.json(edited) : new Response("not here", { status: 404 });
  }

  async function answer(request: Request, { method, tool }: ReturnType<typeof messageOf>): Promise<Response> {
    const other = await knobs.others(request.headers);
    if (other !== null) {
      if (method === "tools/call" && tool !== null) calls.push({ tool, sub: other, scope: "" });
      return handler.fetch(request, {
        authInfo: { token: "", clientId: "", scopes: [], extra: { sub: other } },
      });
    }
    const token = /^Bearer (.+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
    const claims = token === undefined ? null : await claimsOf(token);
    if (token === undefined || !claims || !knobs.accepts({ ...claims, token })) {
      const why = new OAuthError(OAuthErrorCode.InvalidToken, "no token that is good here");
      return challenge(why, knobs.challengeScope);
    }
    const needed = tool === null ? undefined : knobs.needs[tool];
    if (needed !== undefined && !claims.scope.split(" ").includes(needed)) {
      return challenge(new OAuthError(OAuthErrorCode.InsufficientScope, `${tool} needs ${needed}`), needed);
    }
    if (method === "tools/call" && tool !== null) calls.push({ tool, ...claims });
    const { sub, scope } = claims;
    const authInfo = { token, clientId: "", scopes: scope.split(" "), extra: { sub } };
    return handler.fetch(request, { authInfo });
  }

  function challenge(why: OAuthError, scope: string | null): Response {
    const { resourceMetadata, challengeClaims } = knobs;
    if (challengeClaims !== null) {
      const header = `Bearer error="insufficient_claims", claims="${challengeClaims}"`;
      return new Response(null, { status: 401, headers: { "www-authenticate": header } });
    }
    return bearerAuthChallengeResponse(why, {
      ...(scope !== null && { requiredScopes: scope.split(" ") }),
      ...(resourceMetadata !== null && { resourceMetadataUrl: resourceMetadata }),
    });
  }

  async function claimsOf(token: string): Promise<{ sub: string; scope: string } | null> {
    const claims = token.split(".").length === 3 ? await verified(token) : await introspected(token);
    if (!claims || typeof claims["sub"] !== "string") return null;
    return { sub: claims["sub"], scope: typeof claims["scope"] === "string" ? claims["scope"] : "" };
  }

  async function verified(token: string): Promise<Record<string, unknown> | null> {
    const { audience } = knobs;
    const expected = { issuer: authServer.issuer, ...(audience !== null && { audience }) };
    return jwtVerify(token, keys, expected).then(
      ({ payload }) => payload,
      () => null,
    );
  }

  async function introspected(token: string): Promise<Record<string, unknown> | null> {
    const found = await authServer.introspect?.(token);
    if (!found?.active) return null;
    return knobs.audience === null || found["aud"] === knobs.audience ? found : null;
  }

  return {
    url,
    knobs,
    calls,
    requests,
    notes,
    stop: async () => {
      await handler.close();
      const closed = once(server, "close");
      server.close();
      if ("closeAllConnections" in server) server.closeAllConnections();
      await closed;
    },
  };
}

function serverOf(notes: Map<string, string[]>, sub: string): McpServer {
  const server = new McpServer({ name: "protected", version: "1.0.0" });
  const text = (value: string) => ({ content: [{ type: "text" as const, text: value }] });
  const readOnly = { annotations: { readOnlyHint: true } };
  server.registerTool(
    "whoami",
    { description: "Says whose token it was called with.", inputSchema: z.object({}), ...readOnly },
    () => text(sub),
  );
  server.registerTool(
    "read_notes",
    { description: "Reads your own notes.", inputSchema: z.object({}), ...readOnly },
    () => text((notes.get(sub) ?? []).join("\n")),
  );
  server.registerTool(
    "write_note",
    {
      description: "Writes a note of yours.",
      inputSchema: z.object({ text: z.string() }),
      annotations: { readOnlyHint: false, destructiveHint: false },
    },
    (args) => {
      notes.set(sub, [...(notes.get(sub) ?? []), args.text]);
      return text(`Noted for ${sub}.`);
    },
  );
  return server;
}

/** What a JSON-RPC request asks for, as far as it can be seen. */
function messageOf(body: string): { method: string; tool: string | null } {
  try {
    const { method, params } = MESSAGE.parse(JSON.parse(body));
    return { method, tool: method === "tools/call" ? (params?.name ?? null) : null };
  } catch {
    return { method: "", tool: null };
  }
}

const MESSAGE = z.object({
  method: z.string(),
  params: z.object({ name: z.string().optional() }).optional(),
});
const WELL_KNOWN = "/.well-known/oauth-protected-resource";
