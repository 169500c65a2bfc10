import { once } from "node:events";
import { createServer, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import { setTimeout as wait } from "node:timers/promises";
import type { OAuthClient } from "../../src/core/oauth.ts";
import type { JsonObject } from "../../src/core/json.ts";
import { walk } from "./auth-server-browser.ts";
import { createProvider, interact } from "./auth-server-provider.ts";

/** What goes wrong with one answer of the token endpoint. All but `error` happen after the request was carried out. */
export type TokenMishap =
  | "error" // HTTP 500, and nothing was done
  | "malformed_json"
  | "lost_response" // the connection is dropped
  | "malformed_id_token"
  | "no_token_type";

/** Where the static clients are sent back to unless a test says otherwise; nobody listens there. */
export const REDIRECT_URI = "http://127.0.0.1:9/oauth/callback";

export type TokenRequestSeen = {
  grantType: string;
  params: URLSearchParams;
  headers: IncomingMessage["headers"];
};

export type AuthServerKnobs = {
  /** Before a token request is carried out. */
  tokenLatencyMs: number;
  /** Of tokens made from now on. For what must be over, move the broker's clock: these are whole seconds of the real one. */
  accessTokenSeconds: number;
  /** Edits both metadata documents on their way out. */
  metadata: (document: Record<string, unknown>) => Record<string, unknown>;
  /** Claims of an account's ID token beside `sub`: `email` and `email_verified` by their scope, `oid` and `preferred_username`. */
  claimsOf: (account: string) => Record<string, unknown>;
  /** Sends browsers that come to the authorization endpoint through another origin first, and back from there. */
  detour: "none" | "second origin";
};

export type TestAuthServer = {
  /** Byte for byte what its metadata says. */
  issuer: string;
  /** To be changed at any time. */
  knobs: AuthServerKnobs;
  /** In the order in which they came. */
  tokenRequests: TokenRequestSeen[];
  /** Client metadata as it was sent for registration (RFC 7591). */
  registrations: JsonObject[];
  /** What was sent to the revocation endpoint (RFC 7009). */
  revocations: URLSearchParams[];
  /** The origin of the detour. */
  secondOrigin: string;
  /** Token requests of one grant type so far. */
  countTokenRequests: (grantType: string) => number;
  /** Token requests whose answer has left so far. */
  countTokenAnswers: () => number;
  /** The next token request meets this, the one after it the next, and so on. */
  mishaps: TokenMishap[];
  clients: Record<"basic" | "post" | "public" | "privateKeyJwt", OAuthClient>;
  /** The clients above may be sent back to these, too, from now on. */
  addRedirectUris: (...uris: string[]) => void;
  /**
   * Walks an authorization URL like a browser in which `account` is signed in, as far as the redirect out of the server.
   * Gives that callback URL, query and all; nothing is sent there. Throws when the server shows an error instead.
   */
  authorize: (url: string, account: string, answer?: "allow" | "decline") => Promise<URL>;
  /** RFC 7662, as the confidential client. */
  introspect: (token: string) => Promise<{ active: boolean } & Record<string, unknown>>;
  stop: () => Promise<void>;
};

export type AuthServerOptions = {
  redirectUris?: string[];
  /** Whether clients may register themselves (RFC 7591); `open` by default. */
  registration?: "open" | "off";
  /** Whether a client may be the URL of its metadata document; `off` by default. */
  metadataDocuments?: "on" | "off";
  /** The only values of `resource` that it knows; any by default. */
  resources?: string[];
  /** What `read` and `write` are called here. */
  scopes?: string[];
};

/**
 * A real authorization server (oidc-provider) on this machine: PKCE is required, access tokens are JWTs whose audience is
 * the resource, refresh tokens rotate and the reuse of an old one revokes the family, `iss` is in every response. The
 * provider listens on a port of its own; what the world sees is a front that counts, delays, breaks and edits.
 */
export async function startAuthServer(options: AuthServerOptions = {}): Promise<TestAuthServer> {
  const knobs: AuthServerKnobs = {
    tokenLatencyMs: 0,
    accessTokenSeconds: 3600,
    metadata: (document) => document,
    claimsOf: (account) => ({ email: `${account}@example.com`, email_verified: true }),
    detour: "none",
  };
  const redirectUris = [...(options.redirectUris ?? [REDIRECT_URI])];
  const tokenRequests: TokenRequestSeen[] = [];
  const registrations: JsonObject[] = [];
  const revocations: URLSearchParams[] = [];
  const mishaps: TokenMishap[] = [];
  const stopping = new AbortController();
  let tokenAnswers = 0;
  const inner = createServer();
  const innerPort = await listen(inner);

  const front = createServer((incoming, response) => {
    response.on("error", () => {});
    pass(incoming, response).catch(() => response.destroy());
  });
  const issuer = `http://127.0.0.1:${await listen(front)}`;
  const second = createServer((incoming, response) => {
    response.writeHead(302, { location: `${issuer}${incoming.url ?? "/"}&${BACK}=1` }).end();
  });
  const secondOrigin = `http://127.0.0.1:${await listen(second)}`;
  const { clients, publicKey } = await createClients();
  const provider = await createProvider({
    issuer,
    clients,
    publicKey,
    redirectUris,
    accessTokenSeconds: () => knobs.accessTokenSeconds,
    claimsOf: (account) => knobs.claimsOf(account),
    options: { scopes: ["read", "write"], registration: "open", metadataDocuments: "off", ...options },
  });
  const serve = provider.callback();
  inner.on("request", (incoming: IncomingMessage, response: ServerResponse) => {
    if (!incoming.url?.startsWith("/interaction/")) void serve(incoming, response);
    else interact(provider, incoming, response).catch(() => response.destroy());
  });

  async function pass(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await textOf(incoming);
    const { pathname: path, searchParams: query } = new URL(incoming.url ?? "/", issuer);
    if (path === "/auth" && knobs.detour === "second origin" && !query.has(BACK)) {
      response.writeHead(302, { location: `${secondOrigin}${incoming.url ?? ""}` }).end();
      return;
    }
    if (path === "/reg" && incoming.method === "POST") registrations.push(JSON.parse(body));
    if (path === "/token/revocation") revocations.push(new URLSearchParams(body));
    const mishap = path === "/token" ? await meetToken(incoming, body) : undefined;
    if (mishap === "error") {
      response.writeHead(500, { "content-type": "text/plain" }).end("out of order");
      return;
    }
    const answer = await forward(incoming, body, innerPort);
    if (mishap === "lost_response") {
      incoming.socket.destroy();
      return;
    }
    const text = path.startsWith("/.well-known/")
      ? edited(answer.text, knobs.metadata)
      : spoiled(answer.text, mishap);
    const { "transfer-encoding": _, ...headers } = answer.headers;
    response.writeHead(answer.status, { ...headers, "content-length": Buffer.byteLength(text) }).end(text);
    if (path === "/token") tokenAnswers++;
  }

  async function meetToken(incoming: IncomingMessage, body: string): Promise<TokenMishap | undefined> {
    const params = new URLSearchParams(body);
    tokenRequests.push({ grantType: params.get("grant_type") ?? "", params, headers: incoming.headers });
    const mishap = mishaps.shift();
    await wait(knobs.tokenLatencyMs, undefined, { signal: stopping.signal });
    return mishap;
  }

  return {
    issuer,
    knobs,
    tokenRequests,
    countTokenRequests: (grantType) =>
      tokenRequests.filter((request) => request.grantType === grantType).length,
    countTokenAnswers: () => tokenAnswers,
    registrations,
    revocations,
    secondOrigin,
    mishaps,
    clients,
    addRedirectUris: (...uris) => void redirectUris.push(...uris),
    authorize: (url, account, answer = "allow") =>
      walk(url, { origins: [issuer, secondOrigin], account, answer }),
    introspect: async (token) => {
      const { clientId, clientSecret } = clients.post;
      const body = new URLSearchParams({ token, client_id: clientId, client_secret: clientSecret ?? "" });
      const response = await fetch(`${issuer}/token/introspection`, { method: "POST", body });
      // Seam: the shape of RFC 7662, by a server that we know.
      return (await response.json()) as { active: boolean };
    },
    stop: async () => {
      stopping.abort();
      for (const server of [front, second, inner]) {
        server.closeAllConnections();
        server.close();
        await once(server, "close");
      }
    },
  };
}

async function createClients(): Promise<{ clients: TestAuthServer["clients"]; publicKey: JsonWebKey }> {
  const algorithm = { name: "ECDSA", namedCurve: "P-256" };
  const pair = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const {
    kty = "",
    crv = "",
    x = "",
    y = "",
    d = "",
  } = await crypto.subtle.exportKey("jwk", pair.privateKey);
  const privateKey: JsonObject = { kty, crv, x, y, d, kid: "client-key" };
  const confidential = (clientId: string, auth: "basic" | "post"): OAuthClient => ({
    clientId,
    // Characters that basic authentication must encode (RFC 6749, 2.3.1).
    clientSecret: `s:e+c/r%e t-${clientId}`,
    privateKey: null,
    auth,
  });
  return {
    clients: {
      basic: confidential("client-basic", "basic"),
      post: confidential("client-post", "post"),
      public: { clientId: "client-public", clientSecret: null, privateKey: null, auth: "none" },
      privateKeyJwt: { clientId: "client-jwt", clientSecret: null, privateKey, auth: "private_key_jwt" },
    },
    publicKey: await crypto.subtle.exportKey("jwk", pair.publicKey),
  };
}

type Forwarded = { status: number; headers: IncomingMessage["headers"]; text: string };

async function forward(incoming: IncomingMessage, body: string, port: number): Promise<Forwarded> {
  const { method, url: path, headers } = incoming;
  const outgoing = httpRequest({ host: "127.0.0.1", port, method, path, headers });
  outgoing.end(body);
  const [answer] = (await once(outgoing, "response")) as [IncomingMessage]; // Seam: what the event carries.
  return { status: answer.statusCode ?? 500, headers: answer.headers, text: await textOf(answer) };
}

async function textOf(stream: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer); // Seam: no encoding is set, so they are buffers.
  return Buffer.concat(chunks).toString();
}

async function listen(server: ReturnType<typeof createServer>): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

function edited(text: string, edit: AuthServerKnobs["metadata"]): string {
  return text.startsWith("{") ? JSON.stringify(edit(JSON.parse(text) as Record<string, unknown>)) : text;
}

function spoiled(text: string, mishap: TokenMishap | undefined): string {
  if (mishap === "malformed_json") return text.slice(0, -5);
  if (mishap === "malformed_id_token") return JSON.stringify({ ...JSON.parse(text), id_token: "not.a.jwt" });
  if (mishap === "no_token_type") return JSON.stringify({ ...JSON.parse(text), token_type: undefined });
  return text;
}

/** Marks a browser that has been to the second origin. */
const BACK = "back_from_second_origin";
