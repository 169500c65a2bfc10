// A7, from outside: an MCP server begins to name somebody else's authorization server. What people and admins gave for the
// old one never reaches the new one.
import type OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { type HttpServer, startHttpServer } from "../helpers/http-server.ts";
import { allow, beginAuthorization, consentsOf, linkOf, person, visit } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;
/** The attacker's: an authorization server that gives everybody a client and tokens, and keeps what it gets. */
let evil: HttpServer;
let ann: OpenAI;
let bob: OpenAI;

beforeEach(async () => {
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  evil = await startHttpServer(({ path }, response) => {
    response.writeHead(path === "/reg" ? 201 : 200, { "content-type": "application/json" });
    response.end(JSON.stringify(evilAnswer(path)));
  });
  world = await createWorld({ env: { CONSENTRY_AUDIT: "sync" } });
  ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
  bob = await world.runtime({ user: "bob", rights: ["act_for_users"] });
});
afterEach(async () => {
  await world.stop();
  await evil.stop();
  await server.stop();
  await authServer.stop();
});

function evilAnswer(path: string): Record<string, unknown> {
  if (path === "/reg") return { client_id: "evil-client", token_endpoint_auth_method: "none" };
  if (path === "/token")
    return {
      access_token: "evil-access",
      refresh_token: "evil-refresh",
      token_type: "bearer",
      expires_in: 60,
    };
  return {
    issuer: evil.url,
    authorization_endpoint: `${evil.url}/auth`,
    token_endpoint: `${evil.url}/token`,
    registration_endpoint: `${evil.url}/reg`,
    response_types_supported: ["code"],
    code_challenge_methods_supported: ["S256"],
    token_endpoint_auth_methods_supported: ["none"],
  };
}

const discovered = { authType: "OAuth2", credentials: {} };
const whoami = (client: OpenAI) =>
  client.responses.create({
    tools: [{ type: "mcp", server_label: "notes", require_approval: "never" }],
    input: [call("notes", "whoami", {})],
  });
const callOf = (response: Parameters<typeof itemsOf>[0]) => itemsOf(response, "mcp_call")[0];
const connect = async (client: OpenAI, account: string) => {
  await allow(person(authServer, account), linkOf(await whoami(client)));
  if (callOf(await whoami(client))?.output !== account) throw new Error(`${account} is not connected`);
};
const nameServers = (...servers: string[]) => {
  server.knobs.prm = (document) => ({ ...document, authorization_servers: servers });
};
const hostOf = (url: string) => new URL(url).host;
const turnAllDown = () => {
  server.knobs.accepts = () => false;
};

/** All that the true authorization server was ever given, or gave, and whoever else has it may use. */
function secretsOfTheOld(): string[] {
  const sent = authServer.tokenRequests.flatMap(({ params, headers }) => [
    ...["code", "code_verifier", "refresh_token", "client_secret"].flatMap((name) => params.getAll(name)),
    headers.authorization ?? [],
  ]);
  const told = authServer.revocations.map((params) => params.get("token") ?? []);
  const shown = server.requests.flatMap(({ authorization }) => authorization?.split(" ")[1] ?? []);
  return [...sent, ...told, ...shown].flat().filter((one) => one !== "evil-access");
}
const evilSaw = () =>
  evil.requests
    .map((one) => [one.path, JSON.stringify(one.headers), decodeURIComponent(one.body), one.body].join("\n"))
    .join("\n");

describe("with a client of the admin's own", () => {
  beforeEach(async () => {
    const { clientId, clientSecret } = authServer.clients.post;
    const credentials = { clientId, clientSecret };
    const own = { ...discovered, target: server.url, credentials, clientAuth: "post" };
    const made = await world.connect("notes", own);
    authServer.addRedirectUris(String(made.body["redirectUrl"]));
    await connect(ann, "ann");
  });

  test("the authorization server that is named when it is saved is the only one", async () => {
    const { body } = await world.rest("GET", "/api/projects/default/connections/notes");
    expect(body["properties"]).toMatchObject({ issuer: authServer.issuer });
  });

  test("nothing at all is sent there, by those who have a grant and those who have none", async () => {
    nameServers(evil.url);
    turnAllDown();
    expect(callOf(await whoami(ann))?.status).toBe("failed");
    world.advance(2 * 60 * 60_000);
    expect(callOf(await whoami(ann))?.status).toBe("failed");
    const refused = await whoami(bob);
    expect(consentsOf(refused)).toEqual([]);
    expect(callOf(refused)?.error).toMatchObject({
      message: expect.stringMatching(`${evil.url}.*${authServer.issuer}.*until an admin changes issuer`),
    });
    await world.rest("POST", "/api/projects/default/connections/notes:validate", {});
    expect(evil.requests).toEqual([]);
  });

  test("an open consent of before goes to the old one, or nowhere", async () => {
    const link = linkOf(await whoami(bob));
    nameServers(evil.url);
    world.advance(6 * 60_000);
    const page = await person(authServer, "bob").open(link);
    expect(page.html).not.toContain(hostOf(evil.url));
    await whoami(bob);
    expect(evil.requests).toEqual([]);
  });

  test("several named at the time of saving: the admin must say which", async () => {
    nameServers(authServer.issuer, evil.url);
    const { clientId, clientSecret } = authServer.clients.post;
    const credentials = { clientId, clientSecret };
    const answer = await world.connect("other", { ...discovered, target: server.url, credentials });
    expect(answer.status).toBe(400);
    expect(JSON.stringify(answer.body)).toContain("properties.issuer");
    expect(evil.requests).toEqual([]);
  });
});

describe("with a client that was registered", () => {
  beforeEach(async () => {
    await world.connect("notes", { ...discovered, target: server.url });
  });

  test("the person is asked anew, sees the new host, and nothing of the old one reaches it", async () => {
    await connect(ann, "ann");
    world.advance(2 * 60 * 60_000);
    await whoami(ann);
    world.advance(6 * 60_000);
    nameServers(evil.url);
    turnAllDown();
    const link = linkOf(await whoami(ann));
    const page = await person(authServer, "ann").open(link);
    expect(page.html).toContain(hostOf(evil.url));
    expect(page.html).not.toContain(hostOf(authServer.issuer));
    expect(await grantsOf("app:ann")).toMatchObject([{ status: "needs_consent", reason: "issuer_changed" }]);

    const { browser, state } = await beginInNewBrowser();
    const requests = authServer.tokenRequests.length;
    const callback = new URL(state.get("redirect_uri") ?? "");
    for (const [name, value] of [
      ["state", state.get("state") ?? ""],
      ["code", "evil-code"],
    ] as const)
      callback.searchParams.set(name, value);
    expect((await visit(callback, browser)).text).toContain("Connected");
    await whoami(bob);
    world.advance(2 * 60 * 60_000);
    await whoami(bob);
    const got = evilSaw();
    expect(got).toContain("evil-refresh");
    expect(secretsOfTheOld().length).toBeGreaterThan(5);
    for (const secret of secretsOfTheOld()) expect(got).not.toContain(secret);
    // Nor the other way round.
    expect(authServer.tokenRequests).toHaveLength(requests);
  });

  test("a code for the old one goes to nobody when the new one took over meanwhile", async () => {
    await connect(bob, "bob");
    const { cookie, authorizationUrl } = await beginAuthorization(linkOf(await whoami(ann)));
    const callback = await authServer.authorize(authorizationUrl.href, "ann");
    nameServers(evil.url);
    turnAllDown();
    expect(consentsOf(await whoami(bob))).toHaveLength(1);
    const exchanges = authServer.countTokenRequests("authorization_code");
    const page = await visit(callback, cookie);
    expect(page.text).toContain("The connection was changed while you were on your way");
    expect(evilSaw()).not.toContain(callback.searchParams.get("code"));
    expect(authServer.countTokenRequests("authorization_code")).toBe(exchanges);
    expect(await grantsOf("app:ann")).toEqual([]);
  });

  test("as long as the old one is still named, another beside it changes nothing", async () => {
    await connect(ann, "ann");
    nameServers(evil.url, authServer.issuer);
    world.advance(2 * 60 * 60_000);
    await connect(bob, "bob");
    expect(callOf(await whoami(ann))?.output).toBe("ann");
    expect(evil.requests).toEqual([]);
  });

  /** bob's, for ann's page is shown to one browser alone. */
  async function beginInNewBrowser(): Promise<{ browser: string; state: URLSearchParams }> {
    const { cookie, authorizationUrl } = await beginAuthorization(linkOf(await whoami(bob)));
    expect(authorizationUrl.origin).toBe(evil.url);
    return { browser: cookie, state: authorizationUrl.searchParams };
  }
});

describe("before anybody has a client", () => {
  test("metadata of another origin, named by the challenge, are not even asked for", async () => {
    server.knobs.resourceMetadata = `${evil.url}/prm`;
    await world.connect("notes", { ...discovered, target: server.url });
    const refused = await whoami(ann);
    expect(consentsOf(refused)).toEqual([]);
    expect(callOf(refused)?.error).toMatchObject({ message: expect.stringContaining(evil.url) });
    expect(evil.requests).toEqual([]);
  });

  test("several named: nobody is asked, and the message names them; with issuer set, only that one is used", async () => {
    nameServers(evil.url, authServer.issuer);
    await world.connect("notes", { ...discovered, target: server.url });
    const refused = callOf(await whoami(ann));
    expect(refused?.error).toMatchObject({ message: expect.stringContaining(authServer.issuer) });
    expect(refused?.error).toMatchObject({ message: expect.stringContaining(evil.url) });
    await world.rest("PATCH", "/api/projects/default/connections/notes", {
      properties: { issuer: authServer.issuer },
    });
    await connect(ann, "ann");
    expect(evil.requests).toEqual([]);
  });

  test("an issuer that calls itself another is not used", async () => {
    server.knobs.prm = (document) => ({ ...document, authorization_servers: [`${evil.url}/tenant`] });
    await world.connect("notes", { ...discovered, target: server.url });
    expect(callOf(await whoami(ann))?.error).toMatchObject({
      message: expect.stringContaining("about another issuer"),
    });
    expect(evil.requests.map(({ path }) => path)).not.toContain("/reg");
  });
});

test("a connection that is pointed elsewhere while a consent is on its way stores nothing for the new place", async () => {
  await world.connect("notes", { ...discovered, target: server.url });
  const { cookie, authorizationUrl } = await beginAuthorization(linkOf(await whoami(ann)));
  const callback = await authServer.authorize(authorizationUrl.href, "ann");
  await world.rest("PATCH", "/api/projects/default/connections/notes", {
    properties: { target: `${evil.url}/mcp` },
  });
  expect((await visit(callback, cookie)).text).not.toContain("Connected");
  expect(authServer.countTokenRequests("authorization_code")).toBe(0);
  expect(await grantsOf("app:ann")).toEqual([]);
  await whoami(ann);
  expect(evilSaw()).not.toContain(callback.searchParams.get("code"));
});

async function grantsOf(user: string): Promise<Record<string, unknown>[]> {
  const { body } = await world.rest("GET", "/api/projects/default/connections/notes/grants");
  return (body["value"] as unknown as Record<string, unknown>[]).filter((grant) => grant["user"] === user);
}
