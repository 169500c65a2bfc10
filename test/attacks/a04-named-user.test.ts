import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Right } from "../../src/core/identity.ts";
import { createTestApp, type TestApp } from "../helpers/app.ts";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";

// A4: a caller, or an app, names somebody else in a header or body.
let app: TestApp;
let server: ModernServer;
beforeAll(async () => {
  app = await createTestApp();
  server = await startModernServer();
  await app.send("PUT", "/api/projects/default/connections/tools", {
    body: { properties: { authType: "None", target: server.url } },
  });
});
afterAll(async () => {
  await app.stop();
  await server.stop();
});

const project = "/api/projects/default";
const keyWith = async (rights: Right[]) => (await app.makeKey({ roles: ["admin", "runtime"], rights })).key;

/** Under whom the audit puts an act. */
async function userOf(sending: { key: string; headers?: Record<string, string>; body?: object }) {
  const requestId = `act-${crypto.randomUUID()}`;
  const headers = { ...sending.headers, "x-request-id": requestId };
  const answer = await app.send("POST", `${project}/openai/v1/responses`, {
    key: sending.key,
    headers,
    body: { tools: [{ type: "mcp", server_label: "tools" }], input: [explicit], ...sending.body },
  });
  const audit = await app.send("GET", `${project}/audit?requestId=${requestId}`);
  const entries = (audit.body as { value: { user: string | null }[] }).value;
  return { status: answer.status, users: [...new Set(entries.map(({ user }) => user))] };
}

const explicit = {
  type: "mcp_call",
  id: "mcp_c1",
  server_label: "tools",
  name: "echo",
  arguments: '{"text":"hi"}',
  status: "calling",
};

describe("A4: the header x-ms-user-identity", () => {
  test("without the right is 403 on every route that names a project", async () => {
    const key = await keyWith(["read_credentials"]);
    for (const route of app.routes) {
      if (route.access !== "project") continue;
      const path = route.path.replace("{project}", "default").replaceAll(/\{\w+\}/g, "none");
      const answer = await app.send(route.method, path, { key, headers: { "x-ms-user-identity": "victim" } });
      expect([route.path, answer.status]).toEqual([route.path, 403]);
    }
  });

  test("without the right is 403 even if it names nobody, or an identity provider's user", async () => {
    const key = await keyWith([]);
    for (const name of ["", "entra:t/o", "app:victim"]) {
      const headers = { "x-ms-user-identity": name };
      expect((await app.send("GET", `${project}/connections`, { key, headers })).status).toBe(403);
    }
  });

  test("with the right names users in the realm of asserted names only", async () => {
    const key = await keyWith(["act_for_users"]);
    for (const name of ["victim", "entra:t/o", "app:victim", "dev:root"]) {
      const seen = await userOf({ key, headers: { "x-ms-user-identity": name } });
      expect(seen.users).toEqual([`app:${name}`]);
    }
  });

  test("with the right, but naming nobody or something unprintable, is 400", async () => {
    const key = await keyWith(["act_for_users"]);
    for (const name of ["", "x".repeat(300), "jos\u00e9", "a\tb"]) {
      const headers = { "x-ms-user-identity": name };
      const { status } = await app.send("GET", `${project}/connections`, { key, headers });
      expect([name, status]).toEqual([name, 400]);
    }
  });

  test("never makes a caller: without credentials it is worth nothing", async () => {
    const headers = { "x-ms-user-identity": "victim", "x-ms-client-principal-id": "victim" };
    expect((await app.send("GET", `${project}/connections`, { key: null, headers })).status).toBe(401);
  });
});

describe("A4: the body", () => {
  test("without the right is echoed, and is nobody's identity", async () => {
    const key = await keyWith([]);
    for (const body of [{ safety_identifier: "victim" }, { user: "victim" }]) {
      expect((await userOf({ key, body })).users).toEqual([null]);
    }
  });

  test("with the right names the user, safety_identifier before user", async () => {
    const key = await keyWith(["act_for_users"]);
    expect((await userOf({ key, body: { user: "ann" } })).users).toEqual(["app:ann"]);
    expect((await userOf({ key, body: { safety_identifier: "bob", user: "ann" } })).users).toEqual([
      "app:bob",
    ]);
  });

  test("that disagrees with the header is 400", async () => {
    const key = await keyWith(["act_for_users"]);
    const seen = await userOf({
      key,
      headers: { "x-ms-user-identity": "ann" },
      body: { safety_identifier: "bob" },
    });
    expect(seen).toEqual({ status: 400, users: [] });
  });

  test("is no identity where the project says so", async () => {
    const key = await keyWith(["act_for_users"]);
    await app.send("PATCH", `${project}/settings`, { body: { users: { fromBody: false } } });
    expect((await userOf({ key, body: { user: "ann" } })).users).toEqual([null]);
    await app.send("PATCH", `${project}/settings`, { body: { users: { fromBody: true } } });
  });
});
