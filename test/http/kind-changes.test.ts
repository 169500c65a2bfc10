import { afterAll, beforeAll, expect, test } from "vitest";
import { connectionAad } from "../../src/core/storage.ts";
import { createTestApp, type TestApp } from "../helpers/app.ts";
import { type IdentityProvider, startIdentityProvider } from "../helpers/identity-provider.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";

type Body = Record<string, unknown>;

const SECRET = "canary-of-the-kind-before";

let app: TestApp;
let issuer: IdentityProvider;
let server: ProtectedServer;
beforeAll(async () => {
  app = await createTestApp();
  issuer = await startIdentityProvider();
  server = await startProtectedServer({ authServer: issuer });
});
afterAll(async () => {
  await server.stop();
  await issuer.stop();
  await app.stop();
});

const credentials = { clientId: "client", clientSecret: SECRET };
const ends = () => ({ authorizationUrl: `${issuer.issuer}/auth`, tokenUrl: `${issuer.issuer}/token` });
/** Every kind as it is first written, and as somebody would change to it who has no secret to give. */
const kinds = (): Record<string, { first: Body; bare: Body }> => ({
  none: { first: { authType: "None" }, bare: { authType: "None" } },
  key: {
    first: { authType: "CustomKeys", credentials: { keys: { "x-key": SECRET } } },
    bare: { authType: "CustomKeys" },
  },
  oauth: {
    first: { authType: "OAuth2", credentials, ...ends() },
    bare: {
      authType: "OAuth2",
      grantType: "authorization_code",
      credentials: { clientId: "client" },
      ...ends(),
    },
  },
  client: {
    first: {
      authType: "OAuth2",
      grantType: "client_credentials",
      credentials,
      tokenUrl: ends().tokenUrl,
    },
    bare: {
      authType: "OAuth2",
      grantType: "client_credentials",
      credentials: { clientId: "client" },
      tokenUrl: ends().tokenUrl,
    },
  },
  jag: {
    first: {
      authType: "UserEntraToken",
      exchange: "id-jag",
      audience: issuer.issuer,
      credentials,
      tokenUrl: ends().tokenUrl,
    },
    bare: {
      authType: "UserEntraToken",
      exchange: "id-jag",
      audience: issuer.issuer,
      credentials: { clientId: "client" },
      tokenUrl: ends().tokenUrl,
    },
  },
  person: {
    first: { authType: "UserEntraToken", audience: "api://x" },
    bare: { authType: "UserEntraToken", exchange: null, audience: "api://x" },
  },
  identity: {
    first: { authType: "ProjectManagedIdentity", audience: "api://x" },
    bare: { authType: "ProjectManagedIdentity", audience: "api://x" },
  },
});

const NAMES = ["none", "key", "oauth", "client", "jag", "person", "identity"];
const NEED_SECRETS = ["key", "client", "jag"];
const pairs = NAMES.flatMap((from) => NAMES.filter((to) => to !== from).map((to) => [from, to] as const));

test.each(pairs)("a secret of %s is not one of %s, which the connection becomes", async (from, to) => {
  const path = `/api/projects/default/connections/${from}-${to}`;
  const write = (method: string, properties: Body | undefined) =>
    app.send(method, path, { body: { properties } });
  const base = { category: "RemoteTool", target: server.url };
  const made = await write("PUT", { ...base, ...kinds()[from]?.first });
  expect([made.status, made.text]).toEqual([200, expect.not.stringContaining(SECRET) as string]);
  const before = await app.world.store.connections.get("default", `${from}-${to}`);
  const changed = await write("PATCH", kinds()[to]?.bare);
  const record = await app.world.store.connections.get("default", `${from}-${to}`);
  if (!record || !before) throw new Error("it is gone");
  const { id, version, generation } = record.connection;
  const isRefused = NEED_SECRETS.includes(to);
  const by = isRefused ? 0 : 1;
  expect([changed.status, version, generation]).toEqual([
    isRefused ? 400 : 200,
    before.connection.version + by,
    before.connection.generation + by,
  ]);
  const { sealed } = record;
  const plain = sealed && (await app.world.sealer.open(sealed, connectionAad("default", id, version)));
  expect((plain ?? "").includes(SECRET)).toBe(isRefused && before.sealed !== null);
});
