import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createAccessDesk } from "../../src/core/access.ts";
import type { UserId } from "../../src/core/ids.ts";
import { serverOf, toolFor } from "../../src/core/servers.ts";
import { connectionAad } from "../../src/core/storage.ts";
import { createTestApp, HOST, type TestApp } from "../helpers/app.ts";
import { type IdentityProvider, startIdentityProvider } from "../helpers/identity-provider.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";

type Body = Record<string, unknown>;

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

const base = "/api/projects/default/connections";
const arm =
  "/subscriptions/s1/resourceGroups/g1/providers/Microsoft.CognitiveServices/accounts/a1/projects/default/connections";
const write = (method: "PUT" | "PATCH", name: string, properties: Body, path = base) =>
  app.send(method, `${path}/${name}`, { body: { properties } });
const put = (name: string, properties: Body, path = base) =>
  write("PUT", name, { category: "RemoteTool", target: server.url, ...properties }, path);
const propertiesOf = (body: unknown) => (body as { properties: Body }).properties;
const faultsOf = (body: unknown) => {
  const { error } = body as { error: { details?: { target: string }[] } };
  return (error.details ?? []).map(({ target }) => target);
};

describe("identities", () => {
  test.each(["ProjectManagedIdentity", "AgenticIdentityToken"])(
    "%s is written as Foundry's tools write it, and shown in both shapes with its audience in both places",
    async (authType) => {
      const name = `as-${authType.slice(0, 7)}`;
      const given = {
        authType,
        audience: "api://contoso",
        metadata: { type: "generic_mcp" },
        isSharedToAll: false,
      };
      const made = await put(name, given);
      expect(made).toMatchObject({
        status: 200,
        body: {
          credentials: { type: authType },
          metadata: { type: "generic_mcp", audience: "api://contoso" },
          properties: { authType, audience: "api://contoso", credentials: { type: authType } },
        },
      });
      const read = await app.send("GET", `${arm}/${name}`);
      expect(propertiesOf(read.body)).toMatchObject({
        authType,
        audience: "api://contoso",
        credentials: null,
      });
      // What was read may be sent back as it is.
      const again = await write("PUT", name, propertiesOf(read.body));
      expect(propertiesOf(again.body)).toEqual(propertiesOf(made.body));
    },
  );

  test("metadata.audience alone is enough, and changing it changes the audience", async () => {
    await put("by-metadata", { authType: "ProjectManagedIdentity", metadata: { audience: "api://one" } });
    const changed = await write("PATCH", "by-metadata", { metadata: { audience: "api://two", a: "b" } });
    expect(propertiesOf(changed.body)).toMatchObject({
      audience: "api://two",
      metadata: { audience: "api://two", a: "b" },
    });
  });

  test.each([
    `https://${HOST}`,
    `https://${HOST.toUpperCase()}/api/projects/default/toolboxes/t/mcp`,
    "https://ai.azure.com",
    "https://ai.azure.com/.default",
    "HTTPS://Management.Azure.com/",
    "api://our-callers",
    "",
    "two words",
  ])("nobody's connection may have tokens for %j", async (audience) => {
    const settings = {
      issuers: [{ type: "oidc", name: "corp", issuer: issuer.issuer, audiences: ["api://our-callers"] }],
    };
    expect((await app.send("PATCH", "/api/projects/default/settings", { body: settings })).status).toBe(200);
    for (const authType of ["ProjectManagedIdentity", "AgenticIdentityToken", "UserEntraToken"]) {
      const refused = await put("ours", { authType, audience });
      expect([refused.status, faultsOf(refused.body)]).toEqual([400, ["properties.audience"]]);
    }
    expect((await app.send("GET", `${base}/ours`)).status).toBe(404);
  });

  test("kinds that are not here yet say so, and a kind that is misspelt is told which there are", async () => {
    const later = await put("later", { authType: "AgenticUser", audience: "api://contoso" });
    expect([later.status, later.text.includes("authType AgenticUser is not supported")]).toEqual([400, true]);
    const wrong = await put("wrong", { authType: "ManagedIdentity", audience: "api://contoso" });
    expect(wrong.status).toBe(400);
    expect(JSON.stringify(wrong.body)).toContain("ProjectManagedIdentity");
  });
});

describe("client credentials", () => {
  const own = (over: Body = {}) => ({
    authType: "OAuth2",
    grantType: "client_credentials",
    credentials: { clientId: issuer.client.clientId, clientSecret: issuer.client.clientSecret },
    ...over,
  });

  test("the token URL is found by the server's own metadata and pinned, and the secret never comes back", async () => {
    const made = await put("shared", own({ scopes: ["read"] }));
    expect(propertiesOf(made.body)).toMatchObject({
      authType: "OAuth2",
      grantType: "client_credentials",
      clientId: issuer.client.clientId,
      clientAuth: "basic",
      issuer: issuer.issuer,
      tokenUrl: `${issuer.issuer}/token`,
      scopes: ["read"],
      resource: "prm",
    });
    expect(made.body).not.toHaveProperty("redirectUrl");
    expect(made.text).not.toContain(issuer.client.clientSecret);
    const record = await app.world.store.connections.get("default", "shared");
    const { connection, sealed } = record ?? {};
    const aad = connectionAad("default", connection?.id ?? "conn_", connection?.version ?? 0);
    expect(await app.world.sealer.open(sealed ?? new Uint8Array(), aad)).toContain(
      issuer.client.clientSecret,
    );
  });

  test("it calls with a token of the client's own, the same for everybody, and one request for two hundred", async () => {
    await put("many", own());
    server.calls.length = 0;
    const before = issuer.tokenRequests.length;
    const { key } = await app.makeKey({ roles: ["runtime"] });
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, at) =>
        app.send("POST", "/api/projects/default/openai/v1/responses", {
          key,
          body: {
            store: false,
            tools: [{ type: "mcp", server_label: "many", require_approval: "never" }],
            input: [
              {
                type: "mcp_call",
                status: "calling",
                id: `c${at}`,
                server_label: "many",
                name: "whoami",
                arguments: "{}",
              },
            ],
          },
        }),
      ),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(server.calls).toHaveLength(200);
    const asked = issuer.tokenRequests.slice(before);
    expect(asked.map((form) => [form.get("grant_type"), form.get("resource")])).toEqual([
      ["client_credentials", server.url],
    ]);
  });

  test("users share its token and its listing, and no session", async () => {
    await put("sessions", own());
    const record = await app.world.store.connections.get("default", "sessions");
    const project = await app.world.store.projects.get("default");
    if (!record || !project) throw new Error("no connection");
    const { caller } = await app.makeKey({ roles: ["runtime"] });
    const access = createAccessDesk(app.world);
    const enter = async (user: UserId | null) => {
      const signal = new AbortController().signal;
      const context = { project, caller, user, userToken: null, requestId: "req_1", signal };
      const door = await access.open(context, serverOf(toolFor("sessions"), record));
      if (!door.ok) throw new Error(door.failure.message);
      return door.access;
    };
    const doors = await Promise.all([enter("app:ann"), enter("app:bob"), enter(null)]);
    expect(new Set(doors.map(({ headers }) => headers["authorization"])).size).toBe(1);
    expect(new Set(doors.map(({ partition }) => partition)).size).toBe(1);
    expect(new Set(doors.map(({ session }) => session)).size).toBe(3);
  });

  test("a client that its server refuses fails the call with the reason, and :validate says so", async () => {
    await put(
      "wrong-secret",
      own({ credentials: { clientId: issuer.client.clientId, clientSecret: "canary-secret" } }),
    );
    const checked = await app.send("POST", `${base}/wrong-secret:validate`);
    expect(checked.body).toMatchObject({ ok: false, cause: "authorization" });
    expect(checked.text).toContain("invalid_client");
    expect(checked.text + JSON.stringify(app.logs)).not.toContain("canary-secret");
  });

  test("without a secret, a place to get tokens at, or with a connector it is refused", async () => {
    const bare = await put("bare", { authType: "OAuth2", grantType: "client_credentials" });
    expect(faultsOf(bare.body)).toEqual([
      "properties.credentials.clientId",
      "properties.credentials.clientSecret",
    ]);
    server.knobs.prm = () => null;
    const lost = await put("lost", own());
    server.knobs.prm = (document) => document;
    expect(faultsOf(lost.body)).toEqual(["properties.tokenUrl"]);
    expect(faultsOf((await put("conn", own({ connectorName: "x" }))).body)).toEqual([
      "properties.connectorName",
    ]);
  });
});
