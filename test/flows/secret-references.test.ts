// Connections whose secrets are kept elsewhere, from outside: a real MCP server with a key, the real package for Azure's vaults.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type OpenAI from "openai";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { failed } from "../helpers/azure-vault.ts";
import { type AzureHere, startAzure } from "../helpers/broker-identity.ts";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import { type Answer, call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

const MINUTE = 60_000;
const CANARY = "canary-kept-elsewhere";

let azure: AzureHere;
let world: TestWorld;
let server: ModernServer;
let header: { name: string; value: string };
let folder: string;
let client: OpenAI;

beforeAll(async () => {
  azure = await startAzure();
  vi.stubEnv("WEB_GITHUB_KEY", `${CANARY}-variable`);
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await azure.stop();
});
beforeEach(async () => {
  azure.vault.secrets.clear();
  azure.vault.asked.length = 0;
  azure.vault.knobs.answer = () => null;
  folder = await mkdtemp(join(tmpdir(), "consentry-mounted-"));
  header = { name: "authorization", value: "" };
  server = await startModernServer({ header });
  world = await createWorld({
    vaults: azure.vaults,
    env: {
      CONSENTRY_SECRET_SOURCES: [
        `default=keyvault:${azure.vault.url}`,
        "default=env:WEB_*",
        `default=file:${folder}/*`,
      ].join(","),
    },
  });
  client = await world.runtime();
});
afterEach(async () => {
  await world.stop();
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});

const vaultRef = (name: string) => `keyvault:${azure.vault.url}/secrets/${name}`;
const connect = (keys: Record<string, unknown>, project?: string) =>
  world.connect("github", { authType: "CustomKeys", target: server.url, credentials: { keys } }, project);
const echo = (to = client) =>
  to.responses.create({
    tools: [{ type: "mcp", server_label: "github", require_approval: "never" }],
    input: [call("github", "echo", { text: "hello" })],
  });
const outcome = async (to = client) => {
  const [made] = itemsOf(await echo(to), "mcp_call");
  return made?.output ?? made?.error;
};
const faultsOf = ({ body }: Answer) => {
  const { details } = body["error"] as unknown as { details: { target: string; message: string }[] };
  return details.map(({ target, message }) => `${target}: ${message}`);
};
const propertiesOf = ({ body }: Answer) => body["properties"] as unknown as Record<string, unknown>;
const everything = async () =>
  JSON.stringify(world.logs) +
  (await world.databaseBytes()).toString("latin1") +
  JSON.stringify((await world.rest("GET", "/api/projects/default/audit")).body);

describe("a header whose value is kept in a vault", () => {
  beforeEach(async () => {
    azure.vault.put("github", `${CANARY}-1`);
    header.value = `Bearer ${CANARY}-1`;
  });

  test("is sent with its prefix, shown as where it is, and written nowhere", async () => {
    const made = await connect({ Authorization: { ref: vaultRef("github"), prefix: "Bearer " } });
    expect(propertiesOf(made)).toMatchObject({
      headerNames: ["Authorization"],
      references: { Authorization: vaultRef("github") },
    });
    expect(await outcome()).toBe("hello");
    expect(JSON.stringify(made.body)).not.toContain(CANARY);
    expect(await everything()).not.toContain(CANARY);
  });

  test("that is gone is what whoami says, before anybody calls", async () => {
    await connect({ Authorization: { ref: vaultRef("github"), prefix: "Bearer " } });
    const fault = async () => {
      const { body } = await world.rest("GET", "/api/projects/default/whoami?connection=github");
      return (body["value"] as unknown as { fault: string | null }[])[0]?.fault;
    };
    expect(await fault()).toBeNull();
    azure.vault.secrets.clear();
    world.advance(6 * MINUTE);
    expect(await fault()).toContain("credentials of github cannot be opened");
  });

  test("may be written as Azure's app settings write it, beside plain ones", async () => {
    const text = `Bearer @Microsoft.KeyVault(SecretUri=${azure.vault.url}/secrets/github/)`;
    const made = await connect({ Authorization: text, "X-Team": "web" });
    expect(propertiesOf(made)["references"]).toEqual({
      Authorization: `keyvault:${azure.vault.url}/secrets/github/`,
    });
    expect(await outcome()).toBe("hello");
    expect(server.seen("tools/call")[0]?.headers.get("x-team")).toBe("web");
  });

  test("follows a rotation within five minutes, without a restart and without a change of the connection", async () => {
    await connect({ Authorization: { ref: vaultRef("github"), prefix: "Bearer " } });
    expect(await outcome()).toBe("hello");
    azure.vault.put("github", `${CANARY}-2`);
    header.value = `Bearer ${CANARY}-2`;
    expect(await outcome()).toMatchObject({ code: 401 });
    world.advance(5 * MINUTE + 1_000);
    expect(await outcome()).toBe("hello");
    expect(azure.vault.asked).toHaveLength(2);
  });

  test("is another account's, perhaps, after a rotation: what was listed before is not believed", async () => {
    const listed = await startModernServer({ listTtlMs: 60 * MINUTE });
    const credentials = { keys: { Authorization: { ref: vaultRef("github") } } };
    await world.connect("github", { authType: "CustomKeys", target: listed.url, credentials });
    for (const _ of [1, 2]) expect(await outcome()).toBe("hello");
    expect(listed.seen("tools/list")).toHaveLength(1);
    azure.vault.put("github", `${CANARY}-2`);
    world.advance(5 * MINUTE + 1_000);
    expect(await outcome()).toBe("hello");
    expect(listed.seen("tools/list")).toHaveLength(2);
    await listed.stop();
  });

  test("is asked for once by 200 calls at once", async () => {
    await connect({ Authorization: { ref: vaultRef("github"), prefix: "Bearer " } });
    const input = Array.from({ length: 100 }, (_, at) => call("github", "echo", { text: "hi" }, `c${at}`));
    const tools = [{ type: "mcp" as const, server_label: "github", require_approval: "never" as const }];
    const both = await Promise.all([1, 2].map(() => client.responses.create({ tools, input })));
    expect(both.flatMap((one) => itemsOf(one, "mcp_call").map(({ output }) => output))).toEqual(
      Array.from({ length: 200 }, () => "hi"),
    );
    expect(azure.vault.asked).toHaveLength(1);
  });

  test.each([
    ["is away", () => failed(503, "Unavailable"), "(503)"],
    ["throttles", () => ({ ...failed(429, "Throttled"), headers: { "retry-after": "60" } }), "(429)"],
  ] satisfies Trouble[])(
    "while its vault %s serves for an hour; then the server fails, and nothing is sent",
    async (_, answer, why) => {
      await connect({ Authorization: { ref: vaultRef("github"), prefix: "Bearer " } });
      expect(await outcome()).toBe("hello");
      azure.vault.knobs.answer = answer;
      world.advance(59 * MINUTE);
      expect(await outcome()).toBe("hello");
      world.advance(2 * MINUTE);
      const before = server.requests.length;
      expect(await outcome()).toMatchObject({
        type: "http_error",
        code: 503,
        message: expect.stringContaining(`the secret ${vaultRef("github")} could not be read for 61 minutes`),
      });
      expect(JSON.stringify(await outcome())).toContain(why);
      expect(server.requests).toHaveLength(before);
      azure.vault.knobs.answer = () => null;
      world.advance(2 * MINUTE);
      expect(await outcome()).toBe("hello");
    },
  );

  test("that the vault forbids fails this server alone, and :validate says what to do", async () => {
    await connect({ Authorization: { ref: vaultRef("github"), prefix: "Bearer " } });
    await world.connect("open", { target: server.url });
    azure.vault.knobs.answer = () => failed(403, "Forbidden", "ForbiddenByRbac");
    const response = await client.responses.create({
      tools: ["github", "open"].map((label) => ({
        type: "mcp" as const,
        server_label: label,
        require_approval: "never" as const,
      })),
      input: [call("github", "echo", { text: "a" }), call("open", "echo", { text: "b" }, "c2")],
    });
    const [forbidden, other] = itemsOf(response, "mcp_call");
    expect(forbidden?.error).toMatchObject({ message: expect.stringContaining("Key Vault Secrets User") });
    expect(other?.error).toMatchObject({ code: 401 });
    const path = "/api/projects/default/connections/github:validate";
    const { body } = await world.rest("POST", path);
    expect(body).toMatchObject({ ok: false, cause: "secret_unavailable" });
    expect(JSON.stringify(body)).toContain("Nothing was sent");
  });

  test("that no header may hold is not sent", async () => {
    azure.vault.put("github", `${CANARY}\r\nX-Evil: 1`);
    await connect({ Authorization: { ref: vaultRef("github"), prefix: "Bearer " } });
    const failure = JSON.stringify(await outcome());
    expect(failure).toContain("is no value for the header Authorization");
    expect(failure).not.toContain(CANARY);
    expect(server.requests).toEqual([]);
  });

  test("is read for whoever may read credentials, each time audited, and for nobody else", async () => {
    await connect({ Authorization: { ref: vaultRef("github"), prefix: "Bearer " } });
    const path = "/api/projects/default/connections/github/getConnectionWithCredentials";
    expect((await world.rest("POST", path)).body["credentials"]).toEqual({
      Authorization: `Bearer ${CANARY}-1`,
      type: "CustomKeys",
    });
    const audit = await world.rest("GET", "/api/projects/default/audit?event=credentials_read");
    expect(audit.body["value"]).toHaveLength(1);
    azure.vault.knobs.answer = () => failed(403, "Forbidden");
    world.advance(6 * MINUTE);
    const refused = await world.rest("POST", path);
    expect(refused.status).toBe(503);
    expect(JSON.stringify(refused.body)).toContain(vaultRef("github"));
  });
});

describe("a reference that is not lent", () => {
  test("is refused when it is written, every one of them, with the setting that would", async () => {
    const refused = await connect({
      Authorization: { ref: "env:HOME", prefix: "Bearer " },
      "X-Key": { ref: "file:/etc/passwd" },
      "X-Vault": { ref: "keyvault:https://evil.example/secrets/x" },
      "X-Form": { ref: "vault:x" },
      "X-Azure": "@Microsoft.KeyVault(VaultName=team;SecretName=github)",
      "X-Prefix": { ref: "env:WEB_GITHUB_KEY", prefix: "line\nbreak" },
      Host: { ref: "env:WEB_GITHUB_KEY" },
    });
    expect(refused.status).toBe(400);
    const at = "properties.credentials.keys";
    const notLent = "is not lent to this project: an operator can, with CONSENTRY_SECRET_SOURCES";
    const form = "must be keyvault:https://<vault>/secrets/<name>, env:<NAME> or file:<absolute path>";
    expect(faultsOf(refused).toSorted()).toEqual(
      [
        `${at}.Authorization.ref: ${notLent}`,
        `${at}.X-Key.ref: ${notLent}`,
        `${at}.X-Vault.ref: ${notLent}`,
        `${at}.X-Form.ref: ${form}`,
        `${at}.X-Azure.ref: ${form}`,
        `${at}.X-Prefix: must not hold line breaks or NUL`,
        `${at}.Host: is not for a connection to set`,
      ].toSorted(),
    );
  });

  test("to another project is refused there, though this one uses it", async () => {
    azure.vault.put("github", CANARY);
    header.value = CANARY;
    await world.rest("POST", "/api/projects", { name: "other" });
    await connect({ Authorization: { ref: vaultRef("github") } });
    expect(await outcome()).toBe("hello");
    const refused = await connect({ Authorization: { ref: vaultRef("github") } }, "other");
    expect(refused.status).toBe(400);
    expect(faultsOf(refused)).toEqual([expect.stringContaining("is not lent to this project")]);
  });

  test("any more is not used, though it was written while it was", async () => {
    azure.vault.put("github", CANARY);
    header.value = CANARY;
    await connect({ Authorization: { ref: vaultRef("github") } });
    const env = {
      CONSENTRY_DATABASE_URL: `file:${join(world.folder, "consentry.db")}`,
      CONSENTRY_SECRET_SOURCES: "other=env:X",
    };
    const later = await createWorld({ vaults: azure.vaults, env });
    const before = azure.vault.asked.length;
    const failure = await outcome(await later.runtime());
    expect(failure).toMatchObject({ message: expect.stringContaining("CONSENTRY_SECRET_SOURCES") });
    expect(azure.vault.asked).toHaveLength(before);
    expect(server.requests).toEqual([]);
    await later.stop();
  });

  test("and other things than a value or a reference are told by their place", async () => {
    const refused = await connect({ A: 1, B: { reference: "env:X" }, C: { ref: 7 } });
    expect(faultsOf(refused)).toEqual([
      expect.stringMatching(/keys\.A: must be a string, or \{"ref"/),
      expect.stringMatching(/keys\.B\.ref: is required/),
      expect.stringMatching(/keys\.B\.reference: is not known here/),
      expect.stringMatching(/keys\.C\.ref: must be a string/),
    ]);
  });
});

test("the vaults that may be asked are printed at the start, and a list that cannot be read stops it", async () => {
  expect(world.logs.find(({ event }) => event === "started")?.fields["operatorUrls"]).toEqual([
    { name: "CONSENTRY_SECRET_SOURCES", url: azure.vault.url },
  ]);
  const env = { CONSENTRY_SECRET_SOURCES: "web=env:CONSENTRY_*" };
  await expect(createWorld({ env })).rejects.toThrow('"web=env:CONSENTRY_*" names variables of the broker');
});

test("variables and mounted files are used alike", async () => {
  await writeFile(join(folder, "github"), `${CANARY}-file\n`);
  header.value = `${CANARY}-variable`;
  await connect({ Authorization: { ref: "env:WEB_GITHUB_KEY" } });
  expect(await outcome()).toBe("hello");
  header.value = `Token ${CANARY}-file`;
  await connect({ Authorization: { ref: `file:${folder}/github`, prefix: "Token " } });
  expect(await outcome()).toBe("hello");
  expect(await everything()).not.toContain(CANARY);
});

test("what the broker itself stands on is lent to nobody, however wide the list is", async () => {
  const key = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64");
  const version = azure.vault.put("Keyring", key);
  azure.vault.put("keyring", key, { version });
  vi.stubEnv("WEB_IDENTITY", CANARY);
  const app = { tenantId: crypto.randomUUID(), clientId: crypto.randomUUID() };
  for (const name of ["secret", "certificate", "token", "x.db.keyring"])
    await writeFile(join(folder, name), CANARY);
  const settings = {
    identities: {
      variable: { type: "secret", ...app, clientSecret: "env:WEB_IDENTITY" },
      file: { type: "secret", ...app, clientSecret: `file:${folder}/secret` },
      certificate: { type: "certificate", ...app, certificateFile: `${folder}/certificate` },
      workload: { type: "workload", ...app, tokenFile: `${folder}/token` },
    },
  };
  const careless = await createWorld({
    vaults: azure.vaults,
    env: {
      CONSENTRY_DATABASE_URL: `file:${folder}/x.db`,
      CONSENTRY_KEYRING: `${azure.vault.url}/secrets/keyring`,
      CONSENTRY_AZURE: JSON.stringify(settings),
      CONSENTRY_SECRET_SOURCES: `*=keyvault:${azure.vault.url},*=env:WEB_*,*=file:${folder}/*`,
    },
  });
  const fails = async (ref: string) => {
    const credentials = { keys: { "x-api-key": { ref } } };
    const properties = { authType: "CustomKeys", target: server.url, credentials };
    const written = await careless.connect("github", properties);
    const made = written.status === 200 ? await outcome(await careless.runtime()) : faultsOf(written);
    expect([ref, JSON.stringify(made)]).toEqual([ref, expect.stringContaining("the broker's own")]);
  };
  for (const ref of [
    vaultRef("keyring"),
    vaultRef("Keyring"),
    `${vaultRef("keyring")}/${version}`,
    "env:WEB_IDENTITY",
    ...["secret", "certificate", "token", "x.db", "x.db.keyring"].map((name) => `file:${folder}/${name}`),
  ])
    await fails(ref);
  expect(server.requests).toEqual([]);
  await careless.stop();
});

test("a change that gives no credentials keeps references, one that gives values replaces them", async () => {
  azure.vault.put("github", CANARY);
  header.value = CANARY;
  await connect({ Authorization: { ref: vaultRef("github") } });
  const path = "/api/projects/default/connections/github";
  const shown = await world.rest("GET", path);
  const kept = await world.rest("PATCH", path, { properties: propertiesOf(shown) });
  expect(propertiesOf(kept)["references"]).toEqual({ Authorization: vaultRef("github") });
  expect(await outcome()).toBe("hello");
  const keys = { Authorization: CANARY };
  const plain = await world.rest("PATCH", path, { properties: { credentials: { keys } } });
  expect(propertiesOf(plain)).not.toHaveProperty("references");
  expect(await outcome()).toBe("hello");
  const moved = { target: "https://other.example/mcp" };
  await connect({ Authorization: { ref: vaultRef("github") } });
  expect((await world.rest("PATCH", path, { properties: moved })).status).toBe(400);
});

type Trouble = [what: string, answer: AzureHere["vault"]["knobs"]["answer"], why: string];
