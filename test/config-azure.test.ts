import { describe, expect, test } from "vitest";
import { parseAzure } from "../src/config-azure.ts";
import { ConfigError, parseConfig } from "../src/config.ts";

const tenantId = "11111111-1111-4111-8111-111111111111";
const clientId = "22222222-2222-4222-8222-222222222222";
const agentId = "33333333-3333-4333-8333-333333333333";
const secret = { type: "secret", tenantId, clientId, clientSecret: "env:API_SECRET" };

const faultsOf = (given: unknown) => parseAzure(JSON.stringify(given)).faults;
function settingsOf(given: unknown) {
  const read = parseAzure(JSON.stringify(given));
  return "settings" in read ? read.settings : read.faults;
}

describe("CONSENTRY_AZURE", () => {
  test("says nothing of anybody by default", () => {
    expect(settingsOf({})).toEqual({
      authorityHost: "https://login.microsoftonline.com",
      identities: {},
      projects: {},
      targets: [],
    });
  });

  test("is read whole, and what is left out is null", () => {
    const given = {
      authorityHost: "https://login.microsoftonline.us/",
      identities: {
        host: { type: "managed" },
        pod: { type: "workload", tenantId, clientId: clientId.toUpperCase() },
        api: secret,
        old: { type: "certificate", tenantId, clientId, certificateFile: "/run/cert.pem" },
      },
      projects: {
        sales: {
          identity: "host",
          agents: { tenantId, blueprintId: clientId, own: { researcher: agentId } },
          onBehalfOf: "api",
        },
        "*": { onBehalfOf: { identity: "host", tenantId, clientId } },
      },
      targets: [{ host: "*.contoso.com:8443", audience: "api://contoso" }],
    };
    expect(settingsOf(given)).toEqual({
      authorityHost: "https://login.microsoftonline.us",
      identities: {
        host: { type: "managed", clientId: null },
        pod: { type: "workload", tenantId, clientId, tokenFile: null },
        api: secret,
        old: { type: "certificate", tenantId, clientId, certificateFile: "/run/cert.pem" },
      },
      projects: {
        sales: {
          identity: "host",
          agents: { tenantId, blueprintId: clientId, shared: null, own: { researcher: agentId } },
          onBehalfOf: { identity: "api", app: null },
        },
        "*": { identity: null, agents: null, onBehalfOf: { identity: "host", app: { tenantId, clientId } } },
      },
      targets: [{ host: "*.contoso.com:8443", audience: "api://contoso" }],
    });
  });

  test("takes no secret, and does not repeat what it refuses", () => {
    const faults = faultsOf({ identities: { api: { ...secret, clientSecret: "canary~Q8" } } });
    expect(faults).toEqual([
      "at identities.api.clientSecret must be env:NAME or file:/path; the secret itself does not belong here",
    ]);
  });

  test("lists everything that is wrong with its shape at once", () => {
    const faults = faultsOf({
      authorityHost: "http://login.example.com",
      tenant: tenantId,
      identities: {
        a: { type: "password" },
        b: { type: "managed", clientid: clientId },
        c: { type: "secret", tenantId: "contoso.onmicrosoft.com", clientId, clientSecret: "env:A B" },
        "no good": { type: "managed" },
      },
      projects: { p: { onBehalfOf: { identity: "a", tenantId } }, "../p": {} },
      targets: [{ host: "https://x.example", audience: "" }],
    });
    expect(faults).toEqual([
      "at authorityHost must be an https origin, such as https://login.microsoftonline.com",
      'at identities.a.type must have a type: "managed", "workload", "federated", "secret" or "certificate"',
      "at identities.b.clientid is unknown",
      "at identities.c.tenantId must be a tenant's (directory) id, a GUID",
      "at identities.c.clientSecret must be env:NAME or file:/path; the secret itself does not belong here",
      "at identities.no good has a name that cannot be",
      "at projects.p.onBehalfOf.clientId must be a client (application) id, a GUID",
      "at projects.../p has a name that cannot be",
      "at targets.0.host must be host, *.host or either with :port; http://host:port on loopback",
      "at targets.0.audience must be the resource that tokens are for",
      "at tenant is unknown",
    ]);
  });

  test("refuses names that lead nowhere and identities that cannot do what is asked of them", () => {
    const agents = { tenantId, blueprintId: clientId, shared: agentId };
    const faults = faultsOf({
      identities: { host: { type: "managed" }, api: secret },
      projects: {
        a: { identity: "hots", onBehalfOf: "constructor" },
        b: { agents },
        c: { identity: "host", agents: { tenantId, blueprintId: clientId }, onBehalfOf: "host" },
        d: { onBehalfOf: { identity: "api", tenantId, clientId } },
      },
    });
    expect(faults).toEqual([
      "at projects.a.identity names no identity",
      "at projects.a.onBehalfOf names no identity",
      "at projects.b.agents needs an identity beside it, which vouches for them",
      "at projects.c.agents has neither shared nor own identities",
      'at projects.c.onBehalfOf names a managed identity, and needs the app registration that trusts it: {"identity","tenantId","clientId"}',
      "at projects.d.onBehalfOf names an identity of type secret, which is an app registration itself: give its name alone",
    ]);
  });

  test.each([
    "api.contoso.com",
    "api.contoso.com:8443",
    "*.contoso.com",
    "*.contoso.com:8443",
    "localhost:8443",
    "http://localhost:3000",
    "http://127.0.0.1",
    "http://[::1]:3000",
  ])("%s is a target", (host) => {
    expect(faultsOf({ targets: [{ host, audience: "api://x" }] })).toEqual([]);
  });

  test.each([
    "",
    "*",
    "*.com",
    "*.*.contoso.com",
    "a*.contoso.com",
    "contoso.com.",
    "user@contoso.com",
    "contoso.com/path",
    "contoso.com?x",
    "contoso.com:99999",
    "http://contoso.com",
    "http://*.localhost",
    "http://localhost.contoso.com",
    "https://contoso.com",
    "a b",
    "a\\b",
  ])("%s is none", (host) => {
    expect(faultsOf({ targets: [{ host, audience: "api://x" }] })).toHaveLength(1);
  });

  test.each(["", "[]", "null", '"x"', "{", "7"])("%j is no such setting", (text) => {
    expect(parseAzure(text).faults).toHaveLength(1);
  });

  test("names its own place among the settings, or a file that is read later", () => {
    expect(() => parseConfig({ CONSENTRY_AZURE: '{"a":1,"b":2}' })).toThrow(ConfigError);
    expect(() => parseConfig({ CONSENTRY_AZURE: '{"a":1,"b":2}' })).toThrow(
      "CONSENTRY_AZURE at a is unknown\n  CONSENTRY_AZURE at b is unknown",
    );
    expect(parseConfig({ CONSENTRY_AZURE: "file:/etc/azure.json" }).azure).toEqual({
      kind: "file",
      path: "/etc/azure.json",
    });
  });
});
