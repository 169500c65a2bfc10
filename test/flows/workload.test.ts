import { createLocalJWKSet, createRemoteJWKSet, jwtVerify } from "jose";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { MachineIdentity } from "../../src/core/machine-identity.ts";
import { signingKeyAad } from "../../src/core/signing-keys.ts";
import { WORKLOAD_TOKEN_MS } from "../../src/secrets/issuer.ts";
import { PUBLISHED_AHEAD_MS, ROTATION_MS, ROWS_KEPT_MS } from "../../src/secrets/signing-keys.ts";
import { createDatabase } from "../helpers/postgres.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let server: ProtectedServer;

beforeAll(async () => {
  world = await createWorld();
  const { issuer, jwks_uri: jwksUri } = await discovered(world);
  server = await startProtectedServer({ authServer: { issuer, jwksUri } });
  await world.rest("POST", "/api/projects/default/agents", {
    name: "helper",
    identity: "own",
    definition: { kind: "prompt", model: "m" },
  });
});
afterAll(async () => {
  await world.stop();
  await server.stop();
});

const helper: MachineIdentity = { kind: "agent", project: "default", agent: "helper" };

async function discovered({ url }: TestWorld): Promise<{ issuer: string; jwks_uri: string }> {
  const response = await fetch(`${url}/.well-known/openid-configuration`);
  // Seam: OpenID Connect Discovery 1.0, 3.
  return (await response.json()) as { issuer: string; jwks_uri: string };
}

async function tokenOf(of: TestWorld, identity: MachineIdentity, audience: string): Promise<string> {
  const asked = { identity, audience, fresh: false };
  const minted = await of.world.workload.token(asked, new AbortController().signal);
  if (!minted.ok) throw new Error(minted.message);
  return minted.token;
}

/** The keys as a server that has just fetched them holds them. */
async function keysOf({ url }: TestWorld) {
  const response = await fetch(`${url}/.well-known/jwks.json`);
  return (await response.json()) as { keys: { kty: string; kid: string }[] };
}

test("whoever knows the broker's address alone can check a token, with jose as it is", async () => {
  const { issuer, jwks_uri: jwksUri } = await discovered(world);
  expect(issuer).toBe(world.url);
  const token = await tokenOf(world, helper, "https://mcp.example");
  const keys = createRemoteJWKSet(new URL(jwksUri));
  const { payload } = await jwtVerify(token, keys, { issuer, audience: "https://mcp.example" });
  expect(payload).toMatchObject({ sub: "project:default:agent:helper", token_use: "workload" });
  await expect(jwtVerify(token, keys, { issuer, audience: "https://other.example" })).rejects.toThrow("aud");
  await expect(jwtVerify(`${token.slice(0, -6)}AAAAAA`, keys, { issuer })).rejects.toThrow("signature");
});

test("an MCP server that trusts the broker lets its agent in, and knows it", async () => {
  const client = await world.runtime();
  const whoami = async (audience: string) => {
    const authorization = `Bearer ${await tokenOf(world, helper, audience)}`;
    await world.connect("notes", {
      target: server.url,
      authType: "CustomKeys",
      credentials: { keys: { authorization } },
    });
    const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];
    const response = await client.responses.create({ tools, input: [call("notes", "whoami", {})] });
    return itemsOf(response, "mcp_call")[0];
  };
  expect(await whoami(server.url)).toMatchObject({ output: "project:default:agent:helper" });
  expect(await whoami("https://another.example")).toMatchObject({ output: null });
});

test("a token is no key of ours", async () => {
  const token = await tokenOf(world, { kind: "project", project: "default" }, "https://mcp.example");
  const answer = await world.rest("GET", "/api/projects/default", undefined, {
    authorization: `Bearer ${token}`,
  });
  expect(answer.status).toBe(401);
});

test("neither the database nor the logs nor what is published hold a private key", async () => {
  const [row] = await world.world.store.signingKeys.list("workload");
  if (!row) throw new Error("no row");
  const jwk = JSON.parse(await world.world.sealer.open(row.sealed, signingKeyAad(row)));
  const told = JSON.stringify([world.logs, await keysOf(world)]);
  const bytes = await world.databaseBytes();
  for (const part of ["d", "p", "q", "dp", "dq", "qi"]) {
    const secret: string = jwk[part];
    expect(secret.length).toBeGreaterThan(100);
    expect([part, told.includes(secret), bytes.includes(secret)]).toEqual([part, false, false]);
    expect([part, bytes.includes(Buffer.from(secret, "base64url"))]).toEqual([part, false]);
  }
});

test("keys rotate while the broker runs: no server that keeps them for hours turns anybody away", async () => {
  const running = await createWorld();
  const audience = "https://mcp.example";
  const now = () => new Date(running.world.clock.now());
  const signed = () => tokenOf(running, { kind: "project", project: "default" }, audience);
  const check = async (token: string, keys: Awaited<ReturnType<typeof keysOf>>) =>
    (await jwtVerify(token, createLocalJWKSet(keys), { audience, currentDate: now() })).protectedHeader.kid;

  const first = await check(await signed(), await keysOf(running));
  running.advance(ROTATION_MS - PUBLISHED_AHEAD_MS);
  await running.world.workload.sweep();
  running.advance(ROWS_KEPT_MS);
  const keys = await keysOf(running);
  expect(keys.keys.map(({ kid }) => kid)).toEqual([first, expect.any(String)]);
  expect(await check(await signed(), keys)).toBe(first);

  running.advance(PUBLISHED_AHEAD_MS - ROWS_KEPT_MS - 60_000);
  const last = await signed();
  running.advance(60_000);
  // With the keys of a day ago.
  expect(await check(await signed(), keys)).toBe(keys.keys[1]?.kid);
  running.advance(WORKLOAD_TOKEN_MS - 120_000);
  await running.world.workload.sweep();
  expect(await check(last, await keysOf(running))).toBe(first);
  running.advance(120_000);
  await expect(check(last, await keysOf(running))).rejects.toThrow("exp");

  running.advance(2 * PUBLISHED_AHEAD_MS);
  await running.world.workload.sweep();
  expect((await keysOf(running)).keys.map(({ kid }) => kid)).toEqual([keys.keys[1]?.kid]);
  expect(
    running.logs.filter(({ event }) => event.startsWith("signing_key")).map(({ event }) => event),
  ).toEqual(["signing_key_made", "signing_key_made", "signing_keys_ended"]);
  await running.stop();
});

test("on PostgreSQL, replicas that are asked at once publish one key, and check each other's tokens", async () => {
  const env = {
    CONSENTRY_DATABASE_URL: await createDatabase(),
    CONSENTRY_KEYRING: `k1:${Buffer.alloc(32, 7).toString("base64")}`,
  };
  const replicas = await Promise.all([createWorld({ env }), createWorld({ env })]);
  const asked = await Promise.all([...replicas, ...replicas].map(keysOf));
  expect(new Set(asked.map((keys) => JSON.stringify(keys))).size).toBe(1);
  expect(asked[0]?.keys).toHaveLength(1);
  for (const [at, replica] of replicas.entries()) {
    const token = await tokenOf(replica, { kind: "agent", project: "default", agent: null }, "x");
    const keys = createLocalJWKSet(asked[1 - at] ?? { keys: [] });
    await jwtVerify(token, keys, { issuer: replica.url, audience: "x" });
  }

  for (const replica of replicas) replica.advance(ROTATION_MS);
  await Promise.all(replicas.map((replica) => replica.world.workload.sweep()));
  const [, second] = await Promise.all(replicas.map(keysOf));
  expect(second?.keys).toHaveLength(2);
  expect(await replicas[0]?.world.store.signingKeys.list("workload")).toMatchObject([{ seq: 1 }, { seq: 2 }]);
  await Promise.all(replicas.map((replica) => replica.stop()));
});
