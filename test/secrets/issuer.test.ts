import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { MachineIdentity } from "../../src/core/machine-identity.ts";
import { parseKeyring } from "../../src/secrets/keyring.ts";
import { createNodeCrypto } from "../../src/secrets/crypto.node.ts";
import { createWorkloadIssuer } from "../../src/secrets/issuer.ts";
import { createSealer } from "../../src/secrets/seal.ts";
import { createTestApp, HOST, type TestApp } from "../helpers/app.ts";

let app: TestApp;
beforeAll(async () => {
  app = await createTestApp();
  for (const [name, identity] of [
    ["helper", "own"],
    ["plain", "shared"],
  ])
    await makeAgent("default", name ?? "", identity);
});
afterAll(() => app.stop());

const makeAgent = async (project: string, name: string, identity = "own") => {
  const body = { name, identity, definition: { kind: "prompt", model: "m" } };
  const made = await app.send("POST", `/api/projects/${project}/agents`, { body });
  return made.body as { instance_identity?: { principal_id: string; client_id: string } };
};
const theProject: MachineIdentity = { kind: "project", project: "default" };
const agentOf = (agent: string | null, project = "default"): MachineIdentity => ({
  kind: "agent",
  project,
  agent,
});
const audience = "https://mcp.example/mcp";
const { signal } = new AbortController();
const ask = (identity: MachineIdentity, more: { audience?: string } = {}, issuer = app.world.workload) =>
  issuer.token({ identity, audience, fresh: false, ...more }, signal);
const tokenOf = async (identity: MachineIdentity) => {
  const minted = await ask(identity);
  if (!minted.ok) throw new Error(minted.message);
  return minted.token;
};
const claimsOf = async (identity: MachineIdentity) => decodeJwt(await tokenOf(identity));
const refusal = (message: string) => ({
  ok: false,
  transient: false,
  message: expect.stringContaining(message),
  claims: null,
});

describe("a token", () => {
  test("says who it is of, for whom, from whom, and for ten minutes", async () => {
    const minted = await ask(agentOf("helper"));
    if (!minted.ok) throw new Error(minted.message);
    const keys = createLocalJWKSet({ keys: await app.world.workload.jwks() });
    const expected = { issuer: `https://${HOST}`, audience, algorithms: ["RS256"], typ: "JWT" };
    const { payload } = await jwtVerify(minted.token, keys, expected);
    const sub = "project:default:agent:helper";
    const issuedAt = payload.iat ?? 0;
    expect(payload).toEqual({
      iss: `https://${HOST}`,
      sub,
      aud: audience,
      azp: sub,
      client_id: sub,
      oid: expect.stringMatching(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/),
      token_use: "workload",
      idtyp: "app",
      project: "default",
      agent: "helper",
      iat: issuedAt,
      nbf: issuedAt - 60,
      exp: issuedAt + 600,
      jti: expect.stringMatching(/^[\w-]{22}$/),
    });
    expect(Math.abs(issuedAt * 1000 - app.world.clock.now())).toBeLessThan(10_000);
    expect(minted).toEqual({
      ok: true,
      token: minted.token,
      expiresAt: (issuedAt + 600) * 1000,
      principal: { issuer: `https://${HOST}`, subject: sub, clientId: sub, tenant: null },
    });
    expect(decodeProtectedHeader(minted.token)).toEqual({
      alg: "RS256",
      typ: "JWT",
      kid: (await app.world.workload.jwks())[0]?.kid,
    });
  });

  test("of the project names no agent; of what agents share, the word for that", async () => {
    expect(await claimsOf(theProject)).toMatchObject({ sub: "project:default", project: "default" });
    expect(await claimsOf(theProject)).not.toHaveProperty("agent");
    expect(await claimsOf(agentOf(null))).toMatchObject({
      sub: "project:default:agent:shared",
      agent: "shared",
    });
  });

  test("is another each time", async () => {
    expect((await claimsOf(theProject)).jti).not.toBe((await claimsOf(theProject)).jti);
  });

  test("has the ids that the agent shows", async () => {
    const { instance_identity: shown } = await makeAgent("default", "shown");
    expect(await claimsOf(agentOf("shown"))).toMatchObject({
      oid: shown?.principal_id,
      client_id: shown?.client_id,
    });
  });

  test("of what was deleted and made again under its name has another oid, whatever else is the same", async () => {
    await app.makeProject("again");
    await makeAgent("again", "helper");
    const identities = [
      agentOf("helper", "again"),
      agentOf(null, "again"),
      { ...theProject, project: "again" },
    ];
    const before = await Promise.all(identities.map(claimsOf));
    expect(new Set(before.map(({ oid }) => oid)).size).toBe(3);

    await app.send("DELETE", "/api/projects/again/agents/helper");
    app.advance(1_000);
    await makeAgent("again", "helper");
    const between = await Promise.all(identities.map(claimsOf));
    expect(between.map(({ oid }, at) => oid === before[at]?.["oid"])).toEqual([false, true, true]);

    await app.send("DELETE", "/api/projects/again");
    app.advance(1_000);
    await app.makeProject("again");
    await makeAgent("again", "helper");
    const after = await Promise.all(identities.map(claimsOf));
    expect(after.map(({ sub }) => sub)).toEqual(before.map(({ sub }) => sub));
    for (const [at, { oid }] of after.entries()) expect(oid).not.toBe(between[at]?.["oid"]);
  });
});

describe("there is no token", () => {
  test("of an agent that has no identity of its own, is gone, or never was", async () => {
    for (const name of ["plain", "nobody"]) {
      expect(await ask(agentOf(name))).toEqual(refusal('"identity": "own"'));
      expect(await app.world.workload.describe(agentOf(name))).toBeNull();
    }
    await makeAgent("default", "gone");
    expect(await app.world.workload.describe(agentOf("gone"))).toMatchObject({
      subject: "project:default:agent:gone",
    });
    await app.send("DELETE", "/api/projects/default/agents/gone");
    expect(await ask(agentOf("gone"))).toEqual(refusal("no identity of its own"));
  });

  test("of an agent whose row says what no request may say: its name is the shared one's", async () => {
    const version = { project: "default", agent: "shared", description: null, metadata: {} };
    await app.world.store.agents.addVersion({ ...version, definition: {}, createdAt: 1 }, 0, [], "own");
    expect(await ask(agentOf("shared"))).toEqual(refusal("no identity of its own"));
  });

  test("of a project that there is not", async () => {
    expect(await ask({ kind: "project", project: "nowhere" })).toEqual(refusal("no project 'nowhere'"));
  });

  test.each([
    `https://${HOST}`,
    `https://${HOST}/api/projects/default/connections/notes/mcp`,
    `HTTPS://${HOST.toUpperCase()}:443/`,
    "https://ai.azure.com/.default",
    "https://management.azure.com/",
    "https://management.core.windows.net./",
    "",
    "two words",
  ])("for the audience %j", async (refused) => {
    for (const identity of [theProject, agentOf(null), agentOf("helper")]) {
      expect(await ask(identity, { audience: refused })).toEqual(refusal("the audience must"));
    }
  });

  test("for an audience of the project's callers", async () => {
    const issuer = createWorkloadIssuer({
      ...app.world,
      callerAudiences: ({ name }) => [`api://callers-of-${name}`],
    });
    const refused = await ask(theProject, { audience: "api://Callers-of-default/.default" }, issuer);
    expect(refused).toEqual(refusal("callers"));
    expect(await ask(theProject, { audience: "api://callers-of-other" }, issuer)).toMatchObject({ ok: true });
  });

  test("while its key cannot be opened, and the failure says why without a secret", async () => {
    await tokenOf(theProject);
    const suite = createNodeCrypto();
    const sealer = createSealer({ keyring: parseKeyring(`k9:${suite.randomText(32)}`), suite });
    const issuer = createWorkloadIssuer({ ...app.world, sealer, callerAudiences: () => [] });
    expect(await ask(theProject, {}, issuer)).toEqual({
      ...refusal(
        'signing key 1 (a sealed value cannot be opened: the keyring has no key "k1", which must be put back (docs/keys.md))',
      ),
      transient: true,
    });
  });
});
