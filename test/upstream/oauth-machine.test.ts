import { decodeJwt } from "jose";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type OAuth,
  type OAuthClient,
  type OAuthOutcome,
  TOKEN_TYPES,
  tokenServerOf,
} from "../../src/core/oauth.ts";
import { parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import type { Egress } from "../../src/upstream/egress.ts";
import { createOAuth } from "../../src/upstream/oauth.ts";
import { startHttpServer } from "../helpers/http-server.ts";
import { type IdentityProvider, startIdentityProvider } from "../helpers/identity-provider.ts";

let egress: Egress;
let oauth: OAuth;
/** Where people sign in. */
let home: IdentityProvider;
/** The authorization server of a remote MCP server, which trusts `home`. */
let away: IdentityProvider;

beforeAll(async () => {
  home = await startIdentityProvider();
  away = await startIdentityProvider({ trusts: home.issuer });
  egress = createNodeEgress({ allow: parseEgressAllow("loopback"), own: [] });
  oauth = createOAuth({ egress, clientInfo: { name: "consentry-test", version: "1" }, urlFault: () => null });
});
afterAll(async () => {
  await egress.close();
  await home.stop();
  await away.stop();
});

test("a client's own credentials give a token for the resource, with the scopes that were asked for", async () => {
  const outcome = await oauth.clientCredentials({ ...at(home), scopes: ["read"] }, soon());
  const { accessToken, expiresAt, refreshToken } = valueOf(outcome);
  expect(decodeJwt(accessToken)).toMatchObject({ aud: RESOURCE, client_id: "broker", scope: "read" });
  expect(expiresAt).toBe(NOW + 3_600_000);
  expect(refreshToken).toBeNull();
});

test("a wrong secret is refused, and not repeated in what is said of it", async () => {
  const client = { ...clientAt(home), clientSecret: "wrong-secret-canary" };
  const outcome = await oauth.clientCredentials({ ...at(home), client, scopes: null }, soon());
  expect(outcome).toMatchObject({ ok: false, failure: { kind: "refused", error: "invalid_client" } });
  expect(JSON.stringify(outcome)).not.toContain("canary");
});

test("a person's token is exchanged for one of the same person, for another audience", async () => {
  const outcome = await oauth.exchangeToken(exchangeOf(await home.userToken("ann")), soon());
  expect(decodeJwt(valueOf(outcome).accessToken)).toMatchObject({
    sub: "ann",
    aud: "api://notes",
    act: { sub: "broker" },
  });
  expect(home.tokenRequests.at(-1)?.get("subject_token_type")).toBe(TOKEN_TYPES.access_token);
});

test("a token of somebody else's issuer is not exchanged, and never repeated", async () => {
  const foreign = await away.userToken("ann");
  const outcome = await oauth.exchangeToken(exchangeOf(foreign), soon());
  expect(outcome).toMatchObject({ ok: false, failure: { kind: "refused", error: "invalid_grant" } });
  expect(JSON.stringify(outcome)).not.toContain(foreign);
});

test("an ID-JAG of the person's issuer is taken once by the server's own authorization server", async () => {
  const jag = await oauth.exchangeToken(
    {
      ...exchangeOf(await home.userToken("ann")),
      audience: away.issuer,
      subjectTokenType: TOKEN_TYPES.id_token,
      requestedTokenType: TOKEN_TYPES.id_jag,
    },
    soon(),
  );
  const assertion = valueOf(jag).accessToken;
  expect(decodeJwt(assertion)).toMatchObject({ sub: "ann", aud: away.issuer, resource: RESOURCE });

  const taken = await oauth.assertionGrant({ ...at(away), assertion, scopes: null }, soon());
  expect(decodeJwt(valueOf(taken).accessToken)).toMatchObject({
    iss: away.issuer,
    sub: "ann",
    aud: RESOURCE,
  });
  const again = await oauth.assertionGrant({ ...at(away), assertion, scopes: null }, soon());
  expect(again).toMatchObject({ ok: false, failure: { kind: "refused", error: "invalid_grant" } });
  expect(JSON.stringify(again)).not.toContain(assertion);
});

test("a server that gives something else than an ID-JAG has broken a rule", async () => {
  const server = await startHttpServer((_request, response) => {
    response.writeHead(200, { "content-type": "application/json" }).end(
      JSON.stringify({
        access_token: "t",
        token_type: "Bearer",
        issued_token_type: TOKEN_TYPES.access_token,
      }),
    );
  });
  const outcome = await oauth.exchangeToken(
    {
      ...exchangeOf("subject"),
      server: tokenServerOf({
        issuer: server.url,
        issuerAssumed: false,
        tokenEndpoint: `${server.url}/token`,
      }),
      requestedTokenType: TOKEN_TYPES.id_jag,
    },
    soon(),
  );
  expect(outcome).toMatchObject({ ok: false, failure: { kind: "invalid" } });
  await server.stop();
});

test("a server that says all that it was sent is not repeated", async () => {
  const server = await startHttpServer(({ headers, body }, response) => {
    const said = { error: "invalid_grant", error_description: `${headers.authorization} ${body}` };
    response.writeHead(400, { "content-type": "application/json" }).end(JSON.stringify(said));
  });
  const to = tokenServerOf({
    issuer: server.url,
    issuerAssumed: false,
    tokenEndpoint: `${server.url}/token`,
  });
  const client = { ...clientAt(home), clientSecret: "canary-secret", auth: "post" as const };
  const asked = { ...at(home), server: to, client };
  const outcomes = await Promise.all([
    oauth.clientCredentials({ ...asked, scopes: null }, soon()),
    oauth.exchangeToken({ ...exchangeOf("canary-subject"), server: to, client }, soon()),
    oauth.assertionGrant({ ...asked, assertion: "canary-assertion", scopes: null }, soon()),
  ]);
  expect(server.requests.map(({ body }) => body.includes("canary"))).toEqual([true, true, true]);
  const said = JSON.stringify(outcomes);
  expect(said.match(/\[hidden\]/g)?.length).toBeGreaterThanOrEqual(3);
  expect(said).not.toContain("canary");
  await server.stop();
});

test("a redirect of a token endpoint takes neither secret nor token along", async () => {
  const thief = await startHttpServer((_request, response) => void response.writeHead(200).end("{}"));
  const server = await startHttpServer(
    (_request, response) => void response.writeHead(307, { location: `${thief.url}/token` }).end(),
  );
  const to = tokenServerOf({
    issuer: server.url,
    issuerAssumed: false,
    tokenEndpoint: `${server.url}/token`,
  });
  const outcomes = await Promise.all([
    oauth.clientCredentials({ ...at(home), server: to, scopes: null }, soon()),
    oauth.exchangeToken({ ...exchangeOf("subject"), server: to }, soon()),
    oauth.assertionGrant({ ...at(home), server: to, assertion: "assertion", scopes: null }, soon()),
  ]);
  expect(outcomes.map(({ ok }) => ok)).toEqual([false, false, false]);
  expect(thief.sockets).toEqual([]);
  await server.stop();
  await thief.stop();
});

const RESOURCE = "https://notes.example/mcp";
const NOW = 1_800_000_000_000;
const soon = () => AbortSignal.timeout(10_000);

function clientAt({ client }: IdentityProvider): OAuthClient {
  return { ...client, privateKey: null, auth: "basic" };
}

function at(provider: IdentityProvider) {
  const { issuer } = provider;
  return {
    server: tokenServerOf({ issuer, issuerAssumed: false, tokenEndpoint: `${issuer}/token` }),
    client: clientAt(provider),
    resource: RESOURCE,
    params: {},
    quirks: null,
    now: () => NOW,
  };
}

function exchangeOf(subjectToken: string): Parameters<OAuth["exchangeToken"]>[0] {
  return {
    ...at(home),
    subjectToken,
    subjectTokenType: TOKEN_TYPES.access_token,
    requestedTokenType: null,
    audience: "api://notes",
    scopes: null,
  };
}

function valueOf<T>(outcome: OAuthOutcome<T>): T {
  if (!outcome.ok) throw new Error(JSON.stringify(outcome.failure));
  return outcome.value;
}
