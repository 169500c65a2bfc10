import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { MachineIdentity } from "../../src/core/machine-identity.ts";
import { createEntra } from "../../src/secrets/entra.ts";
import {
  type AzureIdentityEndpoint,
  startAzureIdentityEndpoint,
} from "../helpers/azure-identity-endpoint.ts";
import { never, project, TENANT, vouch } from "../helpers/entra.ts";

// MSAL keeps the kind of endpoint for the whole process: this file is the instance metadata service's.

const USER_ASSIGNED = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa";
const host: MachineIdentity = { kind: "project", project: "host" };
const entra = createEntra({
  vouch,
  settings: {
    authorityHost: "https://login.microsoftonline.com",
    identities: {
      host: { type: "managed", clientId: null },
      named: { type: "managed", clientId: USER_ASSIGNED },
    },
    projects: { host: project({ identity: "host" }), named: project({ identity: "named" }) },
    targets: [],
  },
  read: () => Promise.reject(new Error("nothing is read")),
  clock: { now: () => Date.now(), sleep: () => Promise.resolve() },
});
let endpoint: AzureIdentityEndpoint;

beforeAll(async () => {
  endpoint = await startAzureIdentityEndpoint(TENANT);
  endpoint.asImds(process.env);
  endpoint.knobs.identities = { "": "system-oid", [USER_ASSIGNED]: "user-assigned-oid" };
});
afterAll(() => endpoint.stop());

describe("a managed identity by the instance metadata service", () => {
  test("of the host itself, with the header that proxies do not add", async () => {
    const minted = await entra.token(
      { identity: host, audience: "https://vault.azure.net", fresh: false },
      never(),
    );
    expect(minted).toMatchObject({ ok: true, principal: { subject: "system-oid" } });
    expect(endpoint.asked).toEqual([{ source: "imds", resource: "https://vault.azure.net", clientId: null }]);
    expect(endpoint.requests[0]?.headers["metadata"]).toBe("true");
  });

  test("that an operator assigned, by its client id", async () => {
    const identity: MachineIdentity = { kind: "project", project: "named" };
    const minted = await entra.token(
      { identity, audience: "https://vault.azure.net", fresh: false },
      never(),
    );
    expect(minted).toMatchObject({ ok: true, principal: { subject: "user-assigned-oid" } });
    expect(endpoint.asked.at(-1)?.clientId).toBe(USER_ASSIGNED);
  });

  test("is not there on a host without one, and that is said", async () => {
    await endpoint.stop();
    const minted = await entra.token({ identity: host, audience: "api://nobody", fresh: false }, never());
    expect(minted).toEqual({
      ok: false,
      transient: false,
      claims: null,
      message:
        "There is no token: no managed identity endpoint answers on this host (CONSENTRY_AZURE identities.host).",
    });
    endpoint = await startAzureIdentityEndpoint(TENANT);
  });
});
