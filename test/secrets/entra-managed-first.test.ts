import { ManagedIdentityCredential } from "@azure/identity";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { MachineIdentity } from "../../src/core/machine-identity.ts";
import { createEntra } from "../../src/secrets/entra.ts";
import {
  type AzureIdentityEndpoint,
  startAzureIdentityEndpoint,
} from "../helpers/azure-identity-endpoint.ts";
import { never, project, shown, TENANT, vouch } from "../helpers/entra.ts";

// MSAL gives all managed identities of a process the requests of the first: here it is not one of ours.

const host: MachineIdentity = { kind: "project", project: "host" };
const entra = createEntra({
  vouch,
  settings: {
    authorityHost: "https://login.microsoftonline.com",
    identities: { host: { type: "managed", clientId: null } },
    projects: { host: project({ identity: "host" }) },
    targets: [],
  },
  read: () => Promise.reject(new Error("nothing is read")),
  clock: { now: () => Date.now(), sleep: () => Promise.resolve() },
});
const ask = (audience: string) => entra.token({ identity: host, audience, fresh: false }, never());
let endpoint: AzureIdentityEndpoint;

beforeAll(async () => {
  endpoint = await startAzureIdentityEndpoint(TENANT);
  endpoint.asAppService(process.env);
  await new ManagedIdentityCredential({ retryOptions: { maxRetries: 0 } }).getToken(
    "https://vault.azure.net/.default",
  );
});
afterAll(() => endpoint.stop());

test("a token is given all the same", async () => {
  expect((await ask("api://first")).ok).toBe(true);
});

test("a refusal has its number and its sentence", async () => {
  endpoint.knobs.answer = () => ({
    status: 400,
    body: { error: "invalid_resource", error_description: "AADSTS500011: canary was not found" },
  });
  const minted = await ask("api://nowhere");
  expect(minted).toMatchObject({ ok: false, transient: false });
  expect(shown(minted)).toContain("AADSTS500011");
  expect(shown(minted)).not.toContain("canary");
});

test("what fails for now stays for later", async () => {
  endpoint.knobs.answer = () => ({ status: 503, body: { error: "canary" } });
  const minted = await ask("api://later");
  expect(minted).toMatchObject({ ok: false, transient: true });
  expect(shown(minted)).not.toContain("canary");
});

test("an endpoint that is not there is said to be", async () => {
  await endpoint.stop();
  expect(shown(await ask("api://nobody"))).toContain("no managed identity endpoint answers on this host");
  endpoint = await startAzureIdentityEndpoint(TENANT);
});
