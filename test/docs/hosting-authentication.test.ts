// docs/hosting.md, "Authentication": each `admit` as it stands, and what a broker is told that comes with something else.
import type { JWTPayload } from "jose";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { startAuthServer } from "../helpers/auth-server.ts";
import { startAzureAuthority } from "../helpers/azure-authority.ts";
import type { DocumentProcess } from "../helpers/documents.ts";
import {
  causeOf,
  createHost,
  outputOf,
  readHosting,
  startKeyIssuer,
  targetOf,
  withHeader,
  withToken,
} from "../helpers/hosting.ts";
import { allow, linkOf, person } from "../helpers/people.ts";
import { freePort } from "../helpers/ports.ts";
import { createWorld, type TestWorld } from "../helpers/world.ts";

const hosting = await readHosting();
const host = createHost();
let world: TestWorld;

beforeAll(async () => {
  world = await createWorld();
});
afterEach(host.stop);
afterAll(() => world.stop());

const admitting = (beginning: string, env: Record<string, string>) =>
  host.run(hosting.filesWith(hosting.block(beginning)), { env });
const cause = (server: DocumentProcess, properties: Record<string, unknown> = {}) =>
  causeOf(world, server, { name: "orders", properties });

describe("a key", () => {
  test("lets in who brings it, and nobody else", async () => {
    const server = await admitting("// admit: a key\n", { MCP_KEY: "the key of orders" });
    expect(await cause(server, withHeader("X-Api-Key", "the key of orders"))).toBe("none");
    expect(await cause(server)).toBe("key_missing");
    expect(await cause(server, withHeader("X-Api-Key", "another key"))).toBe("key_rejected");
  });

  test("that nobody set lets nobody in: the server does not start", async () => {
    await expect(admitting("// admit: a key\n", {})).rejects.toThrow("ended with 1");
  });
});

test("people are found by discovery, allow, and are called for", async () => {
  const authServer = host.later(await startAuthServer());
  const port = await freePort();
  const server = await admitting("// admit: OAuth", {
    PORT: String(port),
    RESOURCE: targetOf({ port }),
    ISSUER: authServer.issuer,
    JWKS_URL: `${authServer.issuer}/jwks`,
  });
  expect(await cause(server)).toBe("key_missing");
  expect(await cause(server, { authType: "OAuth2" })).toBe("none");
  const ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
  const tools = [{ type: "mcp" as const, server_label: "orders", require_approval: "never" as const }];
  await allow(person(authServer, "ann@provider"), linkOf(await ann.responses.create({ tools })));
  const found = await outputOf(ann, "orders", { tool: "find_order", args: { number: "1" } });
  expect(found).toContain("on its way");
});

describe("the broker's own tokens", () => {
  const GOOD = { sub: "project:default", aud: "orders", token_use: "workload" };
  const withIssuer = async () => {
    const issuer = host.later(await startKeyIssuer());
    const env = { BROKER_URL: issuer.url, AUDIENCE: "orders" };
    const server = await admitting("// admit: the broker's own tokens\n", env);
    const causeFor = async (claims: JWTPayload) =>
      cause(server, withToken(await issuer.sign({ ...GOOD, ...claims })));
    return { issuer, server, causeFor };
  };

  test("of a real broker let its project in, for this audience, and no identity that the server does not name", async () => {
    const env = { BROKER_URL: world.url, AUDIENCE: "orders" };
    const server = await admitting("// admit: the broker's own tokens\n", env);
    const as = (authType: string, audience = "orders") => cause(server, { authType, audience });
    expect(await as("ProjectManagedIdentity")).toBe("none");
    expect(await as("ProjectManagedIdentity", "payments")).toBe("token_rejected");
    expect(await as("AgenticIdentityToken")).toBe("role_missing");
  });

  test("are those of its issuer, for this audience, now, of whom the server lets in", async () => {
    const { server, causeFor } = await withIssuer();
    expect(await causeFor({})).toBe("none");
    expect(await causeFor({ sub: "project:default:agent:clerk" })).toBe("none");
    expect(await causeFor({ sub: "project:other" })).toBe("forbidden");
    expect(await causeFor({ aud: "payments" })).toBe("key_rejected");
    expect(await causeFor({ token_use: "development" })).toBe("forbidden");
    expect(await causeFor({ iss: "https://broker.example.com" })).toBe("key_rejected");
    expect(await causeFor({ exp: 1 })).toBe("key_rejected");
    expect(await cause(server, withToken("not.a.token"))).toBe("key_rejected");
    expect(await cause(server)).toBe("key_missing");
  });

  test("are not called bad because their keys cannot be had", async () => {
    const { issuer, causeFor } = await withIssuer();
    issuer.knobs.down = true;
    expect(await causeFor({})).toBe("server_error");
  });

  test("are never taken for any audience: without one the server does not start", async () => {
    const env = { BROKER_URL: "http://127.0.0.1:1" };
    await expect(admitting("// admit: the broker's own tokens\n", env)).rejects.toThrow("must be set");
  });
});

test("Entra's tokens: applications by role, people by scope, of this tenant and for this server", async () => {
  const authority = host.later(await startAzureAuthority());
  const files = hosting.filesWith(hosting.block("// admit: Entra's tokens\n"));
  const env = { TENANT: "tenant-1", CLIENT_ID: "orders", AUTHORITY: authority.url };
  const server = await host.run(
    { ...files, "ca.pem": authority.cert },
    { env: { ...env, NODE_EXTRA_CA_CERTS: "ca.pem" } },
  );
  const causeFor = async (claims: JWTPayload, tenant = "tenant-1") =>
    cause(server, withToken(await authority.sign(tenant, { sub: "s", aud: "orders", ...claims })));
  expect(await causeFor({ roles: ["Orders.Call"], idtyp: "app" })).toBe("none");
  expect(await causeFor({ scp: "openid orders.call" })).toBe("none");
  expect(await causeFor({})).toBe("forbidden");
  expect(await causeFor({ roles: ["Orders.Read"] })).toBe("forbidden");
  expect(await causeFor({ scp: "openid", roles: ["Orders.Call"] })).toBe("forbidden");
  expect(await causeFor({ roles: ["Orders.Call"], aud: "api://other" })).toBe("key_rejected");
  expect(await causeFor({ roles: ["Orders.Call"] }, "tenant-2")).toBe("key_rejected");
});
