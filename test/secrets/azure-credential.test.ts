// In a file of its own: the package keeps the source of a managed identity, and its tokens, per process.
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { createDefaultCredential } from "../../src/secrets/azure-credential.ts";
import { createVaults } from "../../src/secrets/keyvault.ts";
import { VAULT_AUDIENCE, VAULT_TENANT } from "../helpers/azure-vault.ts";
import { type AzureHere, startAzure } from "../helpers/broker-identity.ts";
import { type HttpServer, startHttpServer } from "../helpers/http-server.ts";

let azure: AzureHere;
let identity: HttpServer;

beforeAll(async () => {
  azure = await startAzure();
  identity = await startHttpServer(({ path, headers }, response) => {
    const resource = new URL(path, "http://localhost").searchParams.get("resource") ?? "";
    void azure.authority.sign(VAULT_TENANT, { aud: resource, sub: "the machine" }).then((token) => {
      const expiresOn = String(Math.floor(Date.now() / 1000) + 3600);
      const body = { access_token: token, expires_on: expiresOn, resource, token_type: "Bearer" };
      response.writeHead(headers["x-identity-header"] === "of-the-machine" ? 200 : 403);
      response.end(JSON.stringify(body));
    });
  });
  vi.stubEnv("IDENTITY_ENDPOINT", `${identity.url}/msi/token`);
  vi.stubEnv("IDENTITY_HEADER", "of-the-machine");
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await identity.stop();
  await azure.stop();
});

test("a vault is asked as the managed identity that the machine gives, whose token is asked for once", async () => {
  azure.vault.put("github", "the value");
  const vaults = createVaults({
    credential: createDefaultCredential(),
    clock: Date,
    privateCloud: { audience: VAULT_AUDIENCE },
  });
  expect(identity.requests).toEqual([]);
  const secret = { vault: azure.vault.url, name: "github", version: null };
  expect(await vaults.value(secret)).toEqual({ ok: true, value: "the value" });
  expect(await vaults.value(secret)).toEqual({ ok: true, value: "the value" });
  expect(
    identity.requests.map(({ path }) => new URL(path, identity.url).searchParams.get("resource")),
  ).toEqual([VAULT_AUDIENCE]);
});
