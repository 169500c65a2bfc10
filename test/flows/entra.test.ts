import type OpenAI from "openai";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { createBrowser, headingOf } from "../../demo/browser.ts";
import { type AzureAuthority, refused, startAzureAuthority } from "../helpers/azure-authority.ts";
import { startModel } from "../helpers/model.ts";
import { allow, consentsOf, linkOf } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, clientOf, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

const TENANT = "11111111-1111-4111-8111-111111111111";
const OTHER_TENANT = "99999999-9999-4999-8999-999999999999";
/** The broker's own app registration, which people's clients get tokens for. */
const BROKER = "22222222-2222-4222-8222-222222222222";
const BROKER_OID = "22222222-0000-4000-8000-000000000000";
const BOOKKEEPER = "88888888-8888-4888-8888-888888888888";
const ANN = "aaaaaaaa-0000-4000-8000-000000000001";
const AUDIENCE = "api://contoso-notes";
const SCOPE = `${AUDIENCE}/user_impersonation`;
const SECRET = "canary~secret-of-the-broker";
const CLAIMS = '{"access_token":{"acrs":{"essential":true,"value":"c1"}}}';

let authority: AzureAuthority;
let world: TestWorld;
/** Protected by Entra's v2 endpoints: no registration, no PKCE in its metadata, application id URIs instead of URLs. */
let server: ProtectedServer;
const stops: (() => Promise<void>)[] = [];

beforeAll(async () => {
  authority = await startAzureAuthority();
  authority.trust();
  server = await startProtectedServer({ authServer: entra(), scopes: [SCOPE] });
  server.knobs.audience = AUDIENCE;
  const isFrom = (fits: (sub: string, azp: string) => boolean) => async (assertion: string) => {
    const { aud, sub, azp } = await authority.verify(assertion).catch(() => ({ aud: "", sub: "", azp: "" }));
    return aud === "api://AzureADTokenExchange" && fits(String(sub), String(azp));
  };
  authority.apps.set(BROKER, { oid: BROKER_OID, secret: SECRET, audiences: ["api://broker"] });
  authority.apps.set(BOOKKEEPER, {
    oid: BOOKKEEPER,
    takes: isFrom((sub, azp) => azp === BROKER && sub.endsWith(`/${BOOKKEEPER}`)),
  });
  const model = await startModel(({ messages }) =>
    messages.at(-1)?.role === "tool"
      ? { text: "Done." }
      : { calls: [{ name: "as-agent__whoami", arguments: {} }] },
  );
  vi.stubEnv("TEST_ENTRA_SECRET", SECRET);
  world = await createWorld({
    model,
    env: {
      CONSENTRY_AZURE: JSON.stringify({
        authorityHost: authority.url,
        identities: {
          app: { type: "secret", tenantId: TENANT, clientId: BROKER, clientSecret: "env:TEST_ENTRA_SECRET" },
        },
        projects: {
          default: {
            identity: "app",
            agents: { tenantId: TENANT, blueprintId: BROKER, own: { bookkeeper: BOOKKEEPER } },
            onBehalfOf: "app",
          },
        },
        targets: [{ host: `http://${new URL(server.url).host}`, audience: AUDIENCE }],
      }),
    },
  });
  await world.rest("PATCH", "/api/projects/default/settings", {
    issuers: [
      {
        type: "entra",
        name: "corp",
        tenants: [TENANT],
        authority: authority.url,
        audiences: [BROKER, "api://broker"],
        roles: [
          { claim: "scp", value: "access_as_user", roles: ["runtime"] },
          { claim: "roles", value: "Runtime", roles: ["runtime"] },
        ],
      },
    ],
  });
  stops.push(authority.stop, server.stop, model.close, world.stop);
});
afterAll(async () => {
  vi.unstubAllEnvs();
  for (const stop of stops.toReversed()) await stop();
});
beforeEach(() => {
  authority.tokens.length = 0;
});
afterEach(() => {
  authority.knobs.answer = () => null;
  server.knobs.accepts = () => true;
  server.calls.length = 0;
  server.requests.length = 0;
});

const entra = () => ({
  issuer: `${authority.url}/${TENANT}/v2.0`,
  jwksUri: `${authority.url}/${TENANT}/discovery/v2.0/keys`,
});
const asks = (label: string) => ({
  tools: [{ type: "mcp" as const, server_label: label, require_approval: "never" as const }],
  input: [call(label, "whoami", {})],
  store: false,
});
async function seen(client: OpenAI, label: string): Promise<string> {
  const [item] = itemsOf(await client.responses.create(asks(label)), "mcp_call");
  return item?.output ?? JSON.stringify(item?.error);
}
const annsToken = (claims = {}) =>
  authority.sign(TENANT, { aud: BROKER, oid: ANN, sub: "ann-at-broker", scp: "access_as_user", ...claims });
const withToken = (token: string) => clientOf(world.url, token, { project: "default" });
const connect = (name: string, properties: Record<string, unknown>) =>
  world.connect(name, { target: server.url, ...properties });

describe("a server that Entra protects is reached", () => {
  test("as the project, by the identity that the operator gave it", async () => {
    await connect("as-project", { authType: "ProjectManagedIdentity", audience: AUDIENCE });
    expect(await seen(await world.runtime(), "as-project")).toBe(BROKER_OID);
    expect(authority.tokens.map(({ form }) => form.get("scope"))).toEqual([
      expect.stringContaining(`${AUDIENCE}/.default`) as string,
    ]);
  });

  test("as an agent, by its own identity and never by another one", async () => {
    await connect("as-agent", { authType: "AgenticIdentityToken", audience: AUDIENCE });
    const definition = {
      kind: "prompt",
      model: "scripted",
      tools: [{ type: "mcp", server_label: "as-agent", require_approval: "never" }],
    };
    for (const name of ["bookkeeper", "stranger"])
      await world.rest("POST", "/api/projects/default/agents", { name, identity: "own", definition });
    const runtime = await world.runtime();
    const askAs = (name: string) => {
      const body = { input: "who?", agent_reference: { type: "agent_reference", name } };
      return runtime.responses.create({ input: "who?" }, { body });
    };
    const [called] = itemsOf(await askAs("bookkeeper"), "mcp_call");
    expect(called?.output).toBe(BOOKKEEPER);
    expect(authority.tokens.map(({ form }) => form.get("client_id"))).toContain(BOOKKEEPER);

    server.requests.length = 0;
    const [failed] = itemsOf(await askAs("stranger"), "mcp_list_tools");
    expect(failed?.error).toContain("CONSENTRY_AZURE");
    // Without an agent it is the shared identity, which nobody configured: not the project's, nor our own issuer's.
    expect(await seen(runtime, "as-agent")).toContain("CONSENTRY_AZURE");
    expect(server.requests).toEqual([]);
  });

  test("not for an agent that was deleted or disabled, whatever it asked for before", async () => {
    await connect("as-agent", { authType: "AgenticIdentityToken", audience: AUDIENCE });
    const definition = {
      kind: "prompt",
      model: "scripted",
      tools: [{ type: "mcp", server_label: "as-agent" }],
    };
    const runtime = await world.runtime();
    const agent = "/api/projects/default/agents/bookkeeper";
    for (const [verb, path] of [
      ["POST", `${agent}:disable`],
      ["DELETE", agent],
    ] as const) {
      await world.rest("DELETE", agent, {});
      const made = { name: "bookkeeper", identity: "own", definition };
      await world.rest("POST", "/api/projects/default/agents", made);
      const agent_reference = { type: "agent_reference", name: "bookkeeper" };
      // Not stored, so that nothing but the call itself knows of the agent.
      const body = { input: "who?", agent_reference, store: false };
      const asked = await runtime.responses.create({ input: "who?" }, { body });
      const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
      expect((await world.rest(verb, path, {})).status).toBeLessThan(300);
      server.requests.length = 0;
      const approval = { type: "mcp_approval_response" as const, approval_request_id: id, approve: true };
      const [item] = itemsOf(await runtime.responses.create({ input: [approval] }), "mcp_call");
      expect([verb, item?.output ?? null]).toEqual([verb, null]);
      expect(JSON.stringify(item?.error)).toContain("agent bookkeeper");
      expect(server.requests).toEqual([]);
    }
  });

  test("on behalf of the person who calls, whose own token stays here", async () => {
    await connect("on-behalf", { authType: "UserEntraToken", audience: AUDIENCE });
    const inbound = await annsToken();
    expect(await seen(withToken(inbound), "on-behalf")).toBe("ann-at-broker");
    const [exchange] = authority.tokens;
    expect(exchange?.form.get("assertion")).toBe(inbound);
    expect(exchange?.form.get("requested_token_use")).toBe("on_behalf_of");
    const left = JSON.stringify(server.requests) + JSON.stringify(world.logs);
    expect([left.includes(inbound), left.includes(SECRET)]).toEqual([false, false]);
    const bytes = await world.databaseBytes();
    expect([bytes.includes(inbound), bytes.includes(SECRET)]).toEqual([false, false]);
  });

  test("two hundred calls of one person make one exchange", async () => {
    await connect("many", { authType: "UserEntraToken", audience: AUDIENCE });
    const client = withToken(await annsToken({ sub: "burst" }));
    await Promise.all(Array.from({ length: 200 }, () => seen(client, "many")));
    expect([server.calls.length, authority.tokens.length]).toEqual([200, 1]);
  });
});

describe("what Entra wants more of the person", () => {
  test("is passed on before anything runs, so that the person's client can come again with it", async () => {
    await connect("step-up", { authType: "UserEntraToken", audience: AUDIENCE });
    authority.knobs.answer = () =>
      refused("interaction_required", 50076, "More is needed.", { claims: CLAIMS });
    const asked = await fetch(`${world.url}/api/projects/default/openai/v1/responses`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${await annsToken({ sub: "mfa" })}`,
        "content-type": "application/json",
      },
      body: JSON.stringify({ ...asks("step-up"), stream: true }),
    });
    expect(asked.status).toBe(401);
    const [, claims = ""] =
      /error="insufficient_claims", claims="([^"]+)"/.exec(asked.headers.get("www-authenticate") ?? "") ?? [];
    expect(JSON.parse(atob(claims))).toEqual(JSON.parse(CLAIMS));
    expect(server.requests).toEqual([]);
  });

  test("a server's own claims challenge is answered with another exchange, once", async () => {
    await connect("critical", { authType: "UserEntraToken", audience: AUDIENCE });
    const seenTokens = new Set<string>();
    server.knobs.challengeClaims = btoa(CLAIMS);
    server.knobs.accepts = ({ token }) => {
      const isFirst = seenTokens.size === 0;
      seenTokens.add(token);
      return !isFirst && seenTokens.size > 1;
    };
    expect(await seen(withToken(await annsToken({ sub: "critical" })), "critical")).toBe("critical");
    server.knobs.challengeClaims = null;
    // MSAL adds what the client itself can do.
    expect(authority.tokens.map(({ form }) => form.get("claims")?.includes("acrs") ?? false)).toEqual([
      false,
      true,
    ]);
  });

  test("a server's claims challenge that the person must meet fails this call, and the next request hears it", async () => {
    await connect("guarded", { authType: "UserEntraToken", audience: AUDIENCE });
    authority.knobs.answer = ({ form }) =>
      form.get("claims")?.includes("acrs")
        ? refused("interaction_required", 50076, "More is needed.", { claims: CLAIMS })
        : null;
    server.knobs.challengeClaims = btoa(CLAIMS);
    server.knobs.accepts = () => false;
    const client = withToken(await annsToken({ sub: "guarded" }));
    expect(await seen(client, "guarded")).toContain("sign the user in again");
    const called = server.requests.length;
    const next = await client.responses.create(asks("guarded")).catch((error: unknown) => error);
    expect(next).toMatchObject({ status: 401, code: "claims_required" });
    expect(server.requests.length).toBe(called);
    server.knobs.challengeClaims = null;
    server.knobs.accepts = () => true;
    expect(await seen(withToken(await annsToken({ sub: "guarded", acrs: ["c1"] })), "guarded")).toBe(
      "guarded",
    );
  });
});

describe("who may not", () => {
  test("an application's token gets no person's, and a person of another tenant is nobody here", async () => {
    await connect("persons", { authType: "UserEntraToken", audience: AUDIENCE });
    const app = await authority.sign(TENANT, {
      aud: BROKER,
      oid: "app",
      sub: "app",
      azp: "33333333-3333-4333-8333-333333333333",
      idtyp: "app",
      roles: ["Runtime"],
    });
    await expect(withToken(app).responses.create(asks("persons"))).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining("that person's own token") as string,
    });
    const foreign = await authority.sign(OTHER_TENANT, {
      aud: BROKER,
      oid: ANN,
      sub: "x",
      scp: "access_as_user",
    });
    await expect(withToken(foreign).responses.create(asks("persons"))).rejects.toMatchObject({ status: 401 });
    expect([server.requests, authority.tokens]).toEqual([[], []]);
  });

  test("tokens of the broker's own identities make nobody a caller", async () => {
    const own = await authority.sign(TENANT, {
      aud: BROKER,
      oid: BROKER_OID,
      sub: BROKER_OID,
      azp: BROKER,
      idtyp: "app",
      roles: ["Runtime"],
    });
    await expect(withToken(own).responses.create(asks("persons"))).rejects.toMatchObject({ status: 401 });
  });

  test.each(["ProjectManagedIdentity", "AgenticIdentityToken"])(
    "Entra's tokens go to no host that the operator did not list, nor for another audience: %s",
    async (authType) => {
      const other = await startProtectedServer({ authServer: entra() });
      for (const target of [other.url, server.url.replace("127.0.0.1", "localhost")]) {
        const made = await world.connect("elsewhere", { authType, target, audience: AUDIENCE });
        expect([made.status, JSON.stringify(made.body).includes("CONSENTRY_AZURE")]).toEqual([400, true]);
      }
      const misnamed = await connect("misnamed", { authType, audience: "api://other" });
      expect(misnamed.status).toBe(400);
      expect([other.requests, authority.tokens]).toEqual([[], []]);
      await other.stop();
    },
  );

  test("nor do the tokens that people's are exchanged for", async () => {
    const other = await startProtectedServer({ authServer: entra() });
    await world.connect("elsewhere", { authType: "UserEntraToken", target: other.url, audience: AUDIENCE });
    expect(await seen(withToken(await annsToken()), "elsewhere")).toContain("CONSENTRY_AZURE");
    expect([other.requests, authority.tokens]).toEqual([[], []]);
    await other.stop();
  });
});

// The last one: the broker's clock goes ahead, and the authority does not follow it.
test("a server that Entra protects is reached by a person's own account, through an app that somebody registered there", async () => {
  const made = await connect("own-account", {
    authType: "OAuth2",
    credentials: { clientId: BROKER, clientSecret: SECRET },
    clientAuth: "post",
    authorizationUrl: `${authority.url}/${TENANT}/oauth2/v2.0/authorize`,
    tokenUrl: `${authority.url}/${TENANT}/oauth2/v2.0/token`,
    issuer: `${authority.url}/${TENANT}/v2.0`,
    scopes: [SCOPE, "offline_access"],
    provider: "entra",
    resource: "omit",
    pkce: "assume-S256",
    overrideReason: "Entra names the resource by its scopes, and does not say that it knows S256",
  });
  expect(made.status).toBe(200);
  const runtime = await world.runtime({ rights: ["act_for_users"], user: "ann" });
  authority.knobs.person = { oid: ANN };
  const link = linkOf(await runtime.responses.create(asks("own-account")));
  expect(headingOf(await allow(createBrowser(), link))).toMatch(/Connected/);
  expect(await seen(runtime, "own-account")).toBe(ANN);
  // The server turns it down once, as when it ends: it is renewed with its scopes, and nobody is asked.
  const { authorization: first } = server.requests.at(-1) ?? {};
  server.knobs.accepts = ({ token }) => `Bearer ${token}` !== first;
  world.advance(3_600_000);
  const response = await runtime.responses.create(asks("own-account"));
  const [item] = itemsOf(response, "mcp_call");
  expect([consentsOf(response), item?.output ?? item?.error]).toEqual([[], ANN]);
  expect(authority.tokens.at(-1)?.form.get("scope")).toBe(`${SCOPE} offline_access`);
});
