// The whole way from a refused call to one that is let in, with a real MCP server and a real authorization server.
import { afterEach, beforeEach, expect, test } from "vitest";
import type { AuthServer, OAuth, OAuthClient, OAuthOutcome, RawTokens } from "../../src/core/oauth.ts";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import type { Egress } from "../../src/upstream/egress.ts";
import { createOAuth } from "../../src/upstream/oauth.ts";
import { selfSigned } from "../helpers/certificate.ts";
import { REDIRECT_URI, startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { startHttpServer } from "../helpers/http-server.ts";
import { accessTo, callOf, createTestUpstream, type TestUpstream, within } from "../helpers/mcp-upstream.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";

let egress: Egress;
let oauth: OAuth;
let upstream: TestUpstream;
let as: TestAuthServer;
let server: ProtectedServer;

beforeEach(async () => {
  as = await startAuthServer({ metadataDocuments: "on" });
  server = await startProtectedServer({ authServer: as, needs: { write_note: "write" } });
  egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  oauth = createOAuth({ egress, clientInfo: { name: "consentry-test", version: "1" }, urlFault: () => null });
  upstream = createTestUpstream();
});
afterEach(async () => {
  await upstream.close();
  await egress.close();
  await server.stop();
  await as.stop();
});

test("a call without a token is told where to get one, and with Ada's it is Ada's", async () => {
  const { metadata, tokens } = await connect("ada", as.clients.post);
  expect(metadata).toMatchObject({ resource: server.url, authorizationServers: [as.issuer] });
  expect(await whoami(tokens.accessToken)).toEqual({ ok: true, text: "ada" });
  expect(server.calls).toEqual([{ tool: "whoami", sub: "ada", scope: "read" }]);
});

test("a token for another resource, of another server, or one that is not accepted any more, is refused", async () => {
  const other = await startProtectedServer({ authServer: as });
  const { tokens } = await connect("ada", as.clients.post);
  server.knobs.audience = other.url;
  expect(await whoami(tokens.accessToken)).toMatchObject({ ok: false, status: 401 });
  server.knobs.audience = server.url;
  server.knobs.accepts = ({ sub }) => sub !== "ada";
  expect(await whoami(tokens.accessToken)).toMatchObject({ ok: false, status: 401 });
  server.knobs.accepts = () => true;
  expect(await whoami(tokens.accessToken)).toMatchObject({ ok: true });
  await other.stop();
});

test("a tool that needs more than the token may says which scope it wants", async () => {
  const { tokens } = await connect("ada", as.clients.post);
  const refused = await call("write_note", tokens.accessToken);
  expect(refused).toMatchObject({ ok: false, status: 403 });
  const wider = await connect("ada", as.clients.post, { scopes: ["read", "write"] });
  expect(await call("write_note", wider.tokens.accessToken)).toEqual({ ok: true, text: "Noted for ada." });
  expect(server.notes).toEqual(new Map([["ada", ["hello"]]]));
});

test("a client may be the URL of its metadata document", async () => {
  const documents = await startHttpServer(({ headers, path }, response) => {
    const id = `https://${headers.host}${path}`;
    const document = { client_id: id, client_name: "Consentry", redirect_uris: [REDIRECT_URI] };
    const way = { token_endpoint_auth_method: "none", application_type: "native" };
    response.writeHead(200, { "content-type": "application/json" });
    response.end(
      JSON.stringify({ ...document, ...way, grant_types: ["authorization_code", "refresh_token"] }),
    );
  }, selfSigned("localhost"));
  const clientId = `https://localhost:${documents.port}/oauth/client/1`;
  const client: OAuthClient = { clientId, clientSecret: null, privateKey: null, auth: "none" };
  const { found, tokens } = await connect("ada", client);
  expect(found.takesMetadataDocument).toBe(true);
  expect(documents.requests.map(({ path }) => path)).toEqual(["/oauth/client/1"]);
  expect((await whoami(tokens.accessToken)).ok).toBe(true);
  await documents.stop();
});

test("a client may register itself", async () => {
  const found = valueOf(await oauth.authServer(as.issuer, forLong()));
  const wanted = { name: "Consentry", redirectUri: REDIRECT_URI, scopes: ["read"] };
  const { client } = valueOf(await oauth.register(found, wanted, forLong()));
  expect(as.registrations).toMatchObject([{ client_name: "Consentry", redirect_uris: [REDIRECT_URI] }]);
  const { tokens } = await connect("ada", client);
  expect((await whoami(tokens.accessToken)).ok).toBe(true);
});

test("a browser can be led through a second origin, and to a redirect that was added later", async () => {
  as.addRedirectUris("https://later.example/oauth/callback/1");
  as.knobs.detour = "second origin";
  const { tokens } = await connect("ben", as.clients.public, {
    redirectUri: "https://later.example/oauth/callback/1",
  });
  expect(await whoami(tokens.accessToken)).toMatchObject({ text: "ben" });
});

async function connect(
  account: string,
  client: OAuthClient,
  { scopes = ["read"], redirectUri = REDIRECT_URI } = {},
): Promise<{
  metadata: unknown;
  found: AuthServer;
  tokens: RawTokens;
}> {
  const metadata = valueOf(await oauth.protectedResource(server.url, null, forLong()));
  const found = valueOf(await oauth.authServer(metadata?.authorizationServers[0] ?? "", forLong()));
  const state = crypto.randomUUID();
  const verifier = "v".repeat(43);
  const resource = metadata?.resource ?? null;
  const common = { server: found, client, redirectUri, resource, params: {}, quirks: null, verifier };
  const callback = await as.authorize(await oauth.authorizationUrl({ ...common, state, scopes }), account);
  const code = callback.searchParams.get("code") ?? "";
  const rest = { now: () => 0, commit: async () => {} };
  const tokens = valueOf(await oauth.exchangeCode({ ...common, ...rest, code }, forLong()));
  return { metadata, found, tokens };
}

const whoami = (token: string) => call("whoami", token);

async function call(tool: string, token: string) {
  const access = accessTo(server.url, { headers: { authorization: `Bearer ${token}` } });
  const outcome = await upstream.callTool(access, callOf(tool, { text: "hello" }), within(10_000));
  if (outcome.ok) return { ok: true, text: textOf(outcome.result.content[0]) };
  return { ok: false, status: outcome.failure.kind === "http" ? outcome.failure.status : null };
}

function textOf(block: unknown): unknown {
  return typeof block === "object" && block !== null && "text" in block ? block.text : null;
}

function valueOf<T>(outcome: OAuthOutcome<T>): T {
  if (!outcome.ok) throw new Error(`it failed: ${JSON.stringify(outcome.failure)}`);
  return outcome.value;
}

const forLong = () => AbortSignal.timeout(30_000);
