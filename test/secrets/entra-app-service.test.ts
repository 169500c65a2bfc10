import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Entra, MachineIdentity } from "../../src/core/machine-identity.ts";
import {
  type AzureIdentityEndpoint,
  startAzureIdentityEndpoint,
} from "../helpers/azure-identity-endpoint.ts";
import { startHttpServer } from "../helpers/http-server.ts";
import { never, project, shown, startTestEntra, TENANT, type TestEntra } from "../helpers/entra.ts";

// MSAL keeps the kind of endpoint and its tokens for the whole process: this file is App Service's, and each test has a
// resource of its own.

const USER_ASSIGNED = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa";
const BLUEPRINT = "66666666-6666-4666-8666-666666666666";
const AGENT = "77777777-7777-4777-8777-777777777777";
const MIDDLE = "88888888-8888-4888-8888-888888888888";

let entraTest: TestEntra;
let endpoint: AzureIdentityEndpoint;
let entra: Entra;
const of = (name: string): MachineIdentity => ({ kind: "project", project: name });
const ask = (name: string, audience: string, fresh = false) =>
  entra.token({ identity: of(name), audience, fresh }, never());

beforeAll(async () => {
  entraTest = await startTestEntra();
  endpoint = await startAzureIdentityEndpoint(TENANT);
  endpoint.asAppService(process.env);
  endpoint.knobs.identities[USER_ASSIGNED] = "user-assigned-oid";
  endpoint.knobs.identities[""] = "system-oid";
  entra = entraTest.make({
    identities: {
      host: { type: "managed", clientId: null },
      named: { type: "managed", clientId: USER_ASSIGNED },
      wrong: { type: "managed", clientId: BLUEPRINT },
    },
    projects: {
      system: project({
        identity: "host",
        agents: { tenantId: TENANT, blueprintId: BLUEPRINT, shared: AGENT, own: {} },
        onBehalfOf: { identity: "host", app: { tenantId: TENANT, clientId: MIDDLE } },
      }),
      named: project({ identity: "named" }),
      wrong: project({ identity: "wrong" }),
    },
  });
});
beforeEach(() => {
  endpoint.asked.length = 0;
  endpoint.requests.length = 0;
  endpoint.knobs.answer = () => null;
  entraTest.authority.tokens.length = 0;
});
afterAll(async () => {
  await endpoint.stop();
  await entraTest.stop();
});

describe("a managed identity on App Service", () => {
  test("of the host itself", async () => {
    expect(await entra.describe(of("system"))).toMatchObject({ subject: null, clientId: null, tenant: null });
    expect(await ask("system", "https://vault.azure.net/.default")).toMatchObject({
      ok: true,
      principal: {
        issuer: `https://sts.windows.net/${TENANT}/`,
        subject: "system-oid",
        clientId: "system-system-oid",
        tenant: TENANT,
      },
    });
    expect(endpoint.asked).toEqual([
      { source: "app-service", resource: "https://vault.azure.net", clientId: null },
    ]);
    expect(await entra.describe(of("system"))).toMatchObject({ subject: "system-oid" });
    expect(entra.isOurs({ oid: "system-oid" })).toBe(true);
    expect(entra.isOurs({ appid: "system-system-oid" })).toBe(true);
  });

  test("that an operator assigned, by its client id", async () => {
    expect(await ask("named", "https://vault.azure.net")).toMatchObject({
      ok: true,
      principal: { subject: "user-assigned-oid", clientId: USER_ASSIGNED },
    });
    expect(endpoint.asked).toEqual([
      { source: "app-service", resource: "https://vault.azure.net", clientId: USER_ASSIGNED },
    ]);
  });

  test("keeps a slash at the audience's end", async () => {
    await ask("system", "https://management.azure.com/");
    expect(endpoint.asked[0]?.resource).toBe("https://management.azure.com/");
  });

  test("is asked for once while its token lives; the platform would give the same, asked for anew", async () => {
    await ask("system", "api://once");
    await ask("system", "api://once");
    await ask("system", "api://once", true);
    expect(endpoint.asked).toHaveLength(1);
  });

  test("vouches for a blueprint, and so an agent identity has its token", async () => {
    entraTest.authority.apps.set(BLUEPRINT, { oid: "b", takes: (given) => hasSubject(given, "system-oid") });
    entraTest.authority.apps.set(AGENT, { oid: AGENT, takes: () => true });
    const identity: MachineIdentity = { kind: "agent", project: "system", agent: null };
    const minted = await entra.token({ identity, audience: "api://x", fresh: false }, never());
    expect(minted).toMatchObject({ ok: true, principal: { subject: AGENT } });
    expect(endpoint.asked).toEqual([
      { source: "app-service", resource: "api://AzureADTokenExchange", clientId: null },
    ]);
  });

  test("vouches for the application that exchanges users' tokens", async () => {
    const app = {
      oid: "m",
      audiences: ["api://middle"],
      takes: (given: string) => hasSubject(given, "system-oid"),
    };
    entraTest.authority.apps.set(MIDDLE, app);
    const user = await entraTest.userToken({ aud: "api://middle" });
    const minted = await entra.onBehalfOf(
      { project: "system", user, audience: "api://x", scopes: null, claims: null, fresh: false },
      never(),
    );
    expect(minted).toMatchObject({ ok: true, principal: { subject: "ann" } });
  });
});

describe("when there is none", () => {
  test("of this client id, the setting is named", async () => {
    expect(await ask("wrong", "api://x")).toEqual({
      ok: false,
      transient: false,
      claims: null,
      message:
        "The managed identity endpoint gives no token (invalid_request, status 400): this host has no such managed identity. Assign it to the host, and check clientId of CONSENTRY_AZURE identities.wrong.",
    });
  });

  test("because the resource is unknown, the audience is named", async () => {
    endpoint.knobs.answer = () => ({
      status: 400,
      body: { error: "invalid_resource", error_description: "AADSTS500011: canary was not found" },
    });
    const minted = await ask("system", "api://nowhere");
    expect(minted).toMatchObject({ ok: false, transient: false });
    expect(shown(minted)).toContain("AADSTS500011");
    expect(shown(minted)).toContain("the audience api://nowhere is no resource of the tenant");
    expect(shown(minted)).not.toContain("canary");
  });

  test.each([404, 410, 429, 500, 503])(
    "yet (%i), it is tried again and then left for later",
    async (status) => {
      endpoint.knobs.answer = () => ({ status, body: { error: "canary~" } });
      const minted = await ask("system", `api://later-${status}`);
      expect(minted).toMatchObject({ ok: false, transient: true });
      expect(shown(minted)).not.toContain("canary");
      expect(endpoint.asked).toHaveLength(3);
    },
  );

  test("for a moment, the second try has it", async () => {
    let isFirst = true;
    endpoint.knobs.answer = () => {
      if (!isFirst) return null;
      isFirst = false;
      return { status: 404, body: {} };
    };
    expect((await ask("system", "api://moment")).ok).toBe(true);
  });

  test.each([
    ["not JSON", "canary <html>"],
    ["no token", {}],
    ["an empty token", { access_token: "", expires_in: "3600", expires_on: "4102444800" }],
    ["an array", []],
    ["a token without an end", { access_token: "canary", token_type: "Bearer" }],
  ])("in an answer that holds %s", async (_, body) => {
    endpoint.knobs.answer = () => ({ status: 200, body });
    const minted = await ask("system", `api://${crypto.randomUUID()}`);
    expect(minted).toMatchObject({ ok: false });
    expect(shown(minted)).not.toContain("canary");
  });

  test("the endpoint's secret does not follow a redirect", async () => {
    const elsewhere = await startHttpServer((_, response) => response.end("{}"));
    for (const location of [elsewhere.url, `${endpoint.url}/msi/token?again`]) {
      endpoint.requests.length = 0;
      endpoint.knobs.answer = () => ({ status: 307, body: {}, headers: { location } });
      expect(await ask("system", `api://${crypto.randomUUID()}`)).toMatchObject({
        ok: false,
        transient: false,
        message:
          "The managed identity endpoint answered with a redirect, which is not followed (CONSENTRY_AZURE identities.host).",
      });
      expect(endpoint.requests).toHaveLength(1);
    }
    expect(elsewhere.requests).toEqual([]);
    await elsewhere.stop();
  });

  test("and the caller leaves, it is answered at once", async () => {
    endpoint.knobs.answer = () => "hang";
    const leaving = new AbortController();
    const pending = entra.token(
      { identity: of("system"), audience: "api://hang", fresh: false },
      leaving.signal,
    );
    setTimeout(() => leaving.abort(), 50);
    expect(await pending).toMatchObject({ ok: false, transient: true });
  });
});

function hasSubject(token: string, oid: string): boolean {
  const [, payload = ""] = token.split(".");
  const claims: unknown = JSON.parse(Buffer.from(payload, "base64url").toString());
  return typeof claims === "object" && claims !== null && "oid" in claims && claims.oid === oid;
}
