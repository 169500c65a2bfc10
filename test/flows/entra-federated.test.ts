import { createRemoteJWKSet, jwtVerify } from "jose";
import type OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type AzureAuthority, startAzureAuthority } from "../helpers/azure-authority.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, clientOf, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

const TENANT = "11111111-1111-4111-8111-111111111111";
const APP = "22222222-2222-4222-8222-222222222222";
const AGENT = "88888888-8888-4888-8888-888888888888";
const AUDIENCE = "api://contoso-notes";
const EXCHANGE = "api://AzureADTokenExchange";

let authority: AzureAuthority;
let world: TestWorld;
let server: ProtectedServer;
const stops: (() => Promise<void>)[] = [];

/** The federated credential of the app registration: our issuer, one project, and the audience of the exchange. */
async function isOurWord(assertion: string): Promise<boolean> {
  const keys = createRemoteJWKSet(new URL(`${world.url}/.well-known/jwks.json`));
  const expected = { issuer: world.url, audience: EXCHANGE, subject: "project:default" };
  return jwtVerify(assertion, keys, expected).then(
    () => true,
    () => false,
  );
}

beforeAll(async () => {
  authority = await startAzureAuthority();
  authority.trust();
  server = await startProtectedServer({
    authServer: {
      issuer: `${authority.url}/${TENANT}/v2.0`,
      jwksUri: `${authority.url}/${TENANT}/discovery/v2.0/keys`,
    },
  });
  server.knobs.audience = AUDIENCE;
  authority.apps.set(APP, { oid: APP, takes: isOurWord });
  authority.apps.set(AGENT, {
    oid: AGENT,
    takes: async (assertion) => {
      const { aud, sub } = await authority.verify(assertion);
      return aud === EXCHANGE && String(sub).endsWith(`/${AGENT}`);
    },
  });
  const project = {
    identity: "app",
    agents: { tenantId: TENANT, blueprintId: APP, shared: AGENT },
    onBehalfOf: "app",
  };
  world = await createWorld({
    env: {
      CONSENTRY_AZURE: JSON.stringify({
        authorityHost: authority.url,
        identities: { app: { type: "federated", tenantId: TENANT, clientId: APP } },
        projects: { "*": project },
        targets: [{ host: `http://${new URL(server.url).host}`, audience: AUDIENCE }],
      }),
    },
  });
  const issuers = [
    {
      type: "entra",
      name: "corp",
      tenants: [TENANT],
      authority: authority.url,
      audiences: [APP],
      roles: [{ claim: "scp", value: "chat", roles: ["runtime"] }],
    },
  ];
  await world.rest("PATCH", "/api/projects/default/settings", { issuers });
  await world.rest("POST", "/api/projects", { name: "other" });
  stops.push(authority.stop, server.stop, world.stop);
});
afterAll(async () => {
  for (const stop of stops.toReversed()) await stop();
});
beforeEach(() => {
  authority.tokens.length = 0;
});

async function seen(client: OpenAI, label: string): Promise<string> {
  const response = await client.responses.create({
    tools: [{ type: "mcp", server_label: label, require_approval: "never" }],
    input: [call(label, "whoami", {})],
    store: false,
  });
  const [item] = itemsOf(response, "mcp_call");
  return item?.output ?? JSON.stringify(item?.error);
}

const connect = (authType: string, project = "default") =>
  world.connect("notes", { authType, target: server.url, audience: AUDIENCE }, project);

test("away from Azure the broker's own word opens Entra's door, and no secret is kept anywhere", async () => {
  await connect("ProjectManagedIdentity");
  expect(await seen(await world.runtime(), "notes")).toBe(APP);
  const [asked] = authority.tokens;
  expect(asked?.form.get("client_assertion_type")).toMatch(/jwt-bearer$/);
  expect(asked?.form.has("client_secret")).toBe(false);
});

test("it is the project's own word: what trusts one project gives another nothing", async () => {
  await connect("ProjectManagedIdentity", "other");
  const said = await seen(await world.runtime({ project: "other" }), "notes");
  expect(said).toContain("CONSENTRY_AZURE");
  expect(said).not.toMatch(/eyJ/);
  await connect("ProjectManagedIdentity");
  expect(await seen(await world.runtime(), "notes")).toBe(APP);
});

test("an agent's blueprint takes it as well", async () => {
  await connect("AgenticIdentityToken");
  expect(await seen(await world.runtime(), "notes")).toBe(AGENT);
  expect(authority.tokens.map(({ form }) => form.get("fmi_path"))).toEqual([AGENT, null]);
  await connect("AgenticIdentityToken", "other");
  expect(await seen(await world.runtime({ project: "other" }), "notes")).toContain("CONSENTRY_AZURE");
});

test("and so does the exchange on behalf of a person", async () => {
  await connect("UserEntraToken");
  const token = await authority.sign(TENANT, { aud: APP, oid: "ann", sub: "ann", scp: "chat" });
  expect(await seen(clientOf(world.url, token, { project: "default" }), "notes")).toBe("ann");
});
