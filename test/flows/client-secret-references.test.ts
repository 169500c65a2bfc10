// OAuth clients whose secret is kept elsewhere: an app of a connection's own, and an operator's connector.
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type OpenAI from "openai";
import { headingOf } from "../../demo/browser.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { failed } from "../helpers/azure-vault.ts";
import { type AzureHere, startAzure } from "../helpers/broker-identity.ts";
import { allow, beginAuthorization, consentsOf, linkOf, person, visit } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

const HOUR = 60 * 60_000;
const MINUTE = 60_000;

let azure: AzureHere;
let authServer: TestAuthServer;
let server: ProtectedServer;
let world: TestWorld;
let ann: OpenAI;

beforeAll(async () => {
  azure = await startAzure();
});
afterAll(() => azure.stop());
beforeEach(async () => {
  azure.vault.secrets.clear();
  azure.vault.knobs.answer = () => null;
  authServer = await startAuthServer({ registration: "off" });
  server = await startProtectedServer({ authServer });
  world = await createWorld({
    vaults: azure.vaults,
    env: {
      CONSENTRY_SECRET_SOURCES: [
        `default=keyvault:${azure.vault.url}/secrets/web-*`,
        `@connectors=keyvault:${azure.vault.url}/secrets/app-*`,
      ].join(),
    },
  });
  ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
});
afterEach(async () => {
  await world.stop();
  await server.stop();
  await authServer.stop();
});

const vaultRef = (name: string) => `keyvault:${azure.vault.url}/secrets/${name}`;
const secret = () => String(authServer.clients.post.clientSecret);
const app = () => ({
  clientAuth: "post",
  authorizationUrl: `${authServer.issuer}/auth`,
  tokenUrl: `${authServer.issuer}/token`,
  scopes: ["read"],
});
const own = (ref: string) => ({
  authType: "OAuth2",
  target: server.url,
  credentials: { clientId: authServer.clients.post.clientId, clientSecret: { ref } },
  ...app(),
});
const connect = async (properties: Record<string, unknown>) => {
  const made = await world.connect("notes", properties);
  authServer.addRedirectUris(String(made.body["redirectUrl"]));
  return made;
};
const whoami = () =>
  ann.responses.create({
    tools: [{ type: "mcp", server_label: "notes", require_approval: "never" }],
    input: [call("notes", "whoami", {})],
  });
const outcome = async () => {
  const [made] = itemsOf(await whoami(), "mcp_call");
  return made?.output ?? made?.error;
};
const goesThrough = async () => {
  expect(headingOf(await allow(person(authServer, "ann@notes"), linkOf(await whoami())))).toContain(
    "Connected",
  );
  expect(await outcome()).toBe("ann@notes");
};

test("an app's own secret comes out of the vault, is shown as where it is, and follows a rotation", async () => {
  azure.vault.put("web-notes", secret());
  const made = await connect(own(vaultRef("web-notes")));
  expect(made.body["properties"]).toMatchObject({ references: { clientSecret: vaultRef("web-notes") } });
  await goesThrough();
  expect(authServer.tokenRequests.at(-1)?.params.get("client_secret")).toBe(secret());
  expect((await world.databaseBytes()).includes(secret())).toBe(false);
  expect(JSON.stringify([made.body, world.logs])).not.toContain(secret());

  azure.vault.put("web-notes", "not-the-secret-any-more");
  world.advance(2 * HOUR);
  await whoami();
  expect(authServer.tokenRequests.at(-1)?.params.get("client_secret")).toBe("not-the-secret-any-more");
});

test("a connector uses what is lent to connectors, and projects cannot name that", async () => {
  azure.vault.put("app-notes", secret());
  const connector = {
    ...app(),
    clientId: authServer.clients.post.clientId,
    targets: [new URL(server.url).host],
  };
  const refused = await world.rest("PUT", "/api/connectors/notes", {
    ...connector,
    clientSecret: { ref: vaultRef("web-notes"), prefix: "x" },
  });
  expect(refused.status).toBe(400);
  expect(JSON.stringify(refused.body)).toContain("is not lent to connectors");
  expect(JSON.stringify(refused.body)).toContain("clientSecret.prefix");
  const made = await world.rest("PUT", "/api/connectors/notes", {
    ...connector,
    clientSecret: { ref: vaultRef("app-notes") },
  });
  expect(made.status).toBe(200);
  authServer.addRedirectUris(String(made.body["redirectUrl"]));
  expect((await world.connect("stolen", own(vaultRef("app-notes")))).status).toBe(400);
  await world.connect("notes", { authType: "OAuth2", target: server.url, connectorName: "notes" });
  await goesThrough();
  expect(authServer.tokenRequests.at(-1)?.params.get("client_secret")).toBe(secret());

  // Where it is kept is the operator's to know.
  azure.vault.knobs.answer = () => failed(404, "SecretNotFound");
  world.advance(2 * HOUR);
  const told = await outcome();
  expect(told).toMatchObject({ code: 503, message: expect.stringContaining("connector notes") });
  const { body } = await world.rest("POST", "/api/projects/default/connections/notes:validate");
  expect(body).toMatchObject({ ok: false, cause: "secret_unavailable" });
  expect(JSON.stringify([told, body])).not.toContain(azure.vault.url);
  expect(world.logs.find(({ event }) => event === "connector_secret_unusable")?.fields).toMatchObject({
    connector: "notes",
    why: expect.stringContaining(vaultRef("app-notes")),
  });
});

test("while the secret cannot be had nobody is asked and nothing is sent; :validate says why", async () => {
  azure.vault.put("web-notes", secret());
  await connect(own(vaultRef("web-notes")));
  await goesThrough();
  azure.vault.knobs.answer = () => failed(404, "SecretNotFound");
  world.advance(2 * HOUR);
  const before = [authServer.tokenRequests.length, server.requests.length];
  expect(await outcome()).toMatchObject({
    code: 503,
    message: expect.stringContaining(vaultRef("web-notes")),
  });
  expect(consentsOf(await whoami())).toEqual([]);
  expect([authServer.tokenRequests.length, server.requests.length]).toEqual(before);
  const { body } = await world.rest("POST", "/api/projects/default/connections/notes:validate");
  expect(body).toMatchObject({ ok: false, cause: "secret_unavailable" });
  azure.vault.knobs.answer = () => null;
  world.advance(MINUTE);
  expect(await outcome()).toBe("ann@notes");
});

test("a person who comes back while the secret cannot be had is told so, and no token is asked for", async () => {
  azure.vault.put("web-notes", secret());
  await connect(own(vaultRef("web-notes")));
  const begun = await beginAuthorization(linkOf(await whoami()));
  azure.vault.knobs.answer = () => failed(403, "Forbidden");
  world.advance(6 * MINUTE);
  const page = await visit(await authServer.authorize(begun.authorizationUrl.href, "ann"), begun.cookie);
  expect(page.text).not.toContain("Connected");
  expect(page.text).not.toContain(azure.vault.url);
  expect(authServer.tokenRequests).toEqual([]);
});
