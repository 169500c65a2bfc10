import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { parseConfig } from "../../src/config.ts";
import { start } from "../../src/node.ts";
import { failed } from "../helpers/azure-vault.ts";
import { type AzureHere, startAzure } from "../helpers/broker-identity.ts";
import { createWorld } from "../helpers/world.ts";

let azure: AzureHere;
beforeAll(async () => {
  azure = await startAzure();
});
afterAll(() => azure.stop());
beforeEach(() => {
  azure.vault.secrets.clear();
  azure.vault.knobs.answer = () => null;
});

const key = () => Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64");
const env = () => ({ CONSENTRY_KEYRING: `${azure.vault.url}/secrets/keyring` });

test("a broker whose keyring is in a vault seals under the newest version, and says so at the start", async () => {
  const version = azure.vault.put("keyring", key());
  const world = await createWorld({ env: env(), vaults: azure.vaults });
  const credentials = { keys: { Authorization: "Bearer canary-of-a-box" } };
  await world.connect("github", { authType: "CustomKeys", target: "https://mcp.example/mcp", credentials });
  const bytes = await world.databaseBytes();
  expect(bytes.includes(version)).toBe(true);
  expect(bytes.includes("canary-of-a-box")).toBe(false);
  expect(world.logs.find(({ event }) => event === "started")?.fields["operatorUrls"]).toContainEqual({
    name: "CONSENTRY_KEYRING",
    url: `${azure.vault.url}/secrets/keyring`,
  });
  await world.stop();
});

test("a broker does not start without its vault, and says what is missing", async () => {
  const folder = await mkdtemp(join(tmpdir(), "consentry-keyring-"));
  azure.vault.put("keyring", key());
  azure.vault.knobs.answer = () => failed(403, "Forbidden");
  const config = parseConfig({
    ...env(),
    CONSENTRY_PORT: "0",
    CONSENTRY_DATABASE_URL: `file:${join(folder, "x.db")}`,
  });
  const starting = start(config, { vaults: azure.vaults, log: () => {} });
  await expect(starting).rejects.toThrow("the role that it needs there is Key Vault Secrets User");
  await rm(folder, { recursive: true, force: true });
});
