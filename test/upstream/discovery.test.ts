import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { OAuth, OAuthFailure, OAuthOutcome } from "../../src/core/oauth.ts";
import { resourceUrls } from "../../src/upstream/discovery-resource.ts";
import { serverUrls } from "../../src/upstream/discovery-server.ts";
import { NOTHING_ALLOWED, parseEgressAllow } from "../../src/upstream/egress-allow.ts";
import { checkUrl, type EgressRules } from "../../src/upstream/egress-rules.ts";
import { createNodeEgress } from "../../src/upstream/egress.node.ts";
import type { Egress } from "../../src/upstream/egress.ts";
import { createOAuth } from "../../src/upstream/oauth.ts";
import { startAuthServer } from "../helpers/auth-server.ts";
import { type HttpServer, startHttpServer } from "../helpers/http-server.ts";

type Page = { status: number; body: unknown };

let server: HttpServer;
let egress: Egress;
let oauth: OAuth;
/** What the server has, by path; the rest is 404. */
const pages = new Map<string, Page>();

beforeAll(async () => {
  server = await startHttpServer(({ path }, response) => {
    const { status, body } = pages.get(path) ?? { status: 404, body: "not here" };
    response.writeHead(status, { "content-type": "application/json", location: "/elsewhere" });
    response.end(typeof body === "string" ? body : JSON.stringify(body));
  });
  const rules: EgressRules = { allow: parseEgressAllow("loopback"), own: [] };
  egress = createNodeEgress(rules);
  oauth = createOAuth({
    egress,
    clientInfo: { name: "consentry-test", version: "1" },
    urlFault: (url) => faultOf(url, rules),
  });
});
afterAll(async () => {
  await egress.close();
  await server.stop();
});
beforeEach(() => {
  server.requests.length = 0;
});
afterEach(() => {
  pages.clear();
});

describe("the places", () => {
  test.each([
    ["https://mcp.example", ["/.well-known/oauth-protected-resource"]],
    ["https://mcp.example/", ["/.well-known/oauth-protected-resource"]],
    [
      "https://mcp.example/a/mcp",
      ["/.well-known/oauth-protected-resource/a/mcp", "/.well-known/oauth-protected-resource"],
    ],
    [
      "https://mcp.example/mcp/?t=1",
      ["/.well-known/oauth-protected-resource/mcp?t=1", "/.well-known/oauth-protected-resource"],
    ],
    [
      "https://mcp.example//evil.example",
      ["/.well-known/oauth-protected-resource//evil.example", "/.well-known/oauth-protected-resource"],
    ],
  ])("of the metadata of %s", (target, paths) => {
    const urls = resourceUrls(new URL(target)).map((url) => url.href);
    expect(urls).toEqual(paths.map((path) => `https://mcp.example${path}`));
  });

  test.each([
    ["https://as.example", ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"]],
    ["https://as.example/", ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"]],
    [
      "https://as.example/t/1",
      [
        "/.well-known/oauth-authorization-server/t/1",
        "/.well-known/openid-configuration/t/1",
        "/t/1/.well-known/openid-configuration",
      ],
    ],
    [
      "https://as.example//evil.example/",
      [
        "/.well-known/oauth-authorization-server//evil.example",
        "/.well-known/openid-configuration//evil.example",
        "//evil.example/.well-known/openid-configuration",
      ],
    ],
  ])("of the authorization server %s", (issuer, paths) => {
    const urls = serverUrls(new URL(issuer)).map((url) => url.href);
    expect(urls).toEqual(paths.map((path) => `https://as.example${path}`));
  });
});

describe("a protected resource", () => {
  const WITH_PATH = "/.well-known/oauth-protected-resource/a/mcp";
  const ROOT = "/.well-known/oauth-protected-resource";
  const named = (change: object = {}) => ({
    resource: `${server.url}/a/mcp`,
    authorization_servers: ["https://as.example", "https://other.example/"],
    scopes_supported: ["read", "write"],
    ...change,
  });
  const find = (challenge: Parameters<OAuth["protectedResource"]>[1] = null) =>
    oauth.protectedResource(`${server.url}/a/mcp`, challenge, forLong());

  test("is found at its path, and the root is not asked", async () => {
    pages.set(WITH_PATH, { status: 200, body: named() });
    expect(await find()).toEqual({
      ok: true,
      value: {
        resource: `${server.url}/a/mcp`,
        authorizationServers: ["https://as.example", "https://other.example/"],
        scopes: ["read", "write"],
      },
    });
    expect(server.requests.map(({ path }) => path)).toEqual([WITH_PATH]);
  });

  test.each([404, 405, 410])("is found at the root when its path answers %i", async (status) => {
    pages.set(WITH_PATH, { status, body: "" });
    pages.set(ROOT, { status: 200, body: named({ resource: server.url }) });
    expect(await find()).toMatchObject({ ok: true, value: { resource: server.url } });
  });

  test("has no metadata when both places are not there", async () => {
    expect(await find()).toEqual({ ok: true, value: null });
    expect(server.requests.map(({ path }) => path)).toEqual([WITH_PATH, ROOT]);
  });

  test.each([
    [500, "transient"],
    [503, "transient"],
    [429, "transient"],
    [401, "invalid"],
    [403, "invalid"],
  ])("that answers %i is %s, and never one without metadata", async (status, kind) => {
    pages.set(WITH_PATH, { status, body: "" });
    pages.set(ROOT, { status: 200, body: named({ resource: server.url }) });
    expect(failureOf(await find()).kind).toBe(kind);
    expect(server.requests).toHaveLength(1);
  });

  test("is found where its challenge says, and only there", async () => {
    pages.set("/own", { status: 200, body: named() });
    pages.set(WITH_PATH, { status: 200, body: named({ authorization_servers: ["https://wrong.example"] }) });
    const found = await find({ resourceMetadata: `${server.url}/own`, scope: "admin  write" });
    expect(found).toMatchObject({
      ok: true,
      value: {
        authorizationServers: ["https://as.example", "https://other.example/"],
        scopes: ["admin", "write"],
      },
    });
    expect(server.requests.map(({ path }) => path)).toEqual(["/own"]);
    expect(failureOf(await find({ resourceMetadata: `${server.url}/gone`, scope: null })).kind).toBe(
      "invalid",
    );
  });

  test("whose challenge names another origin is refused, and nobody is asked", async () => {
    for (const place of [`http://localhost:${server.port}/own`, "https://evil.example/prm", "not a url"]) {
      expect(failureOf(await find({ resourceMetadata: place, scope: null })).kind).toBe("invalid");
    }
    expect(server.requests).toEqual([]);
  });

  test("without scopes anywhere asks for none by name", async () => {
    pages.set(WITH_PATH, { status: 200, body: named({ scopes_supported: undefined }) });
    expect(await find({ resourceMetadata: null, scope: "" })).toMatchObject({ value: { scopes: null } });
  });

  test("may be a parent of the server, as it is written", async () => {
    for (const resource of [`${server.url}/a`, `${server.url}/a/mcp/`, `${server.url}/`, server.url]) {
      pages.set(WITH_PATH, { status: 200, body: named({ resource }) });
      expect(await find()).toMatchObject({ ok: true, value: { resource } });
    }
  });

  test.each([
    ["another resource of the origin", { resource: "{server}/b" }],
    ["a sibling whose name begins the same", { resource: "{server}/a/mc" }],
    ["a child", { resource: "{server}/a/mcp/deeper" }],
    ["another origin", { resource: "https://evil.example/a/mcp" }],
    ["another query", { resource: "{server}/a/mcp?x=1" }],
    ["no resource", { resource: undefined }],
    ["no authorization servers", { authorization_servers: undefined }],
    ["an empty list of them", { authorization_servers: [] }],
    ["something else than texts among them", { authorization_servers: ["https://as.example", 7] }],
    ["an authorization server over plain http", { authorization_servers: ["http://as.example"] }],
    ["one at a metadata address", { authorization_servers: ["http://169.254.169.254/latest"] }],
    ["one that is a script", { authorization_servers: ["javascript:alert(1)"] }],
  ])("whose metadata has %s is invalid", async (_, change) => {
    const body = JSON.stringify(named(change)).replaceAll("{server}", server.url);
    pages.set(WITH_PATH, { status: 200, body });
    expect(failureOf(await find()).kind).toBe("invalid");
  });

  test.each(["<html>", "[]", "null", ""])("whose metadata is %j is invalid", async (body) => {
    pages.set(WITH_PATH, { status: 200, body });
    expect(failureOf(await find()).kind).toBe("invalid");
  });
});

describe("an authorization server", () => {
  const OAUTH = "/.well-known/oauth-authorization-server/t";
  const OIDC = "/.well-known/openid-configuration/t";
  const APPENDED = "/t/.well-known/openid-configuration";
  const metadata = (change: object = {}) => ({
    issuer: `${server.url}/t`,
    authorization_endpoint: "https://as.example/authorize?tenant=1",
    token_endpoint: "https://as.example/token",
    ...change,
  });
  const find = (issuer = `${server.url}/t`) => oauth.authServer(issuer, forLong());

  test.each([[OAUTH], [OIDC], [APPENDED]])("is found at %s", async (path) => {
    pages.set(path, { status: 200, body: metadata() });
    expect(await find()).toEqual({
      ok: true,
      value: {
        issuer: `${server.url}/t`,
        authorizationEndpoint: "https://as.example/authorize?tenant=1",
        tokenEndpoint: "https://as.example/token",
        refreshEndpoint: "https://as.example/token",
        revocationEndpoint: null,
        registrationEndpoint: null,
        issuerAssumed: false,
        described: true,
        sendsIss: false,
        pkceMethods: null,
        clientAuthMethods: null,
        takesMetadataDocument: false,
        scopesSupported: null,
      },
    });
    const order = [OAUTH, OIDC, APPENDED];
    expect(server.requests.map((request) => request.path)).toEqual(order.slice(0, order.indexOf(path) + 1));
  });

  test("says what it can do", async () => {
    const all = {
      revocation_endpoint: "https://as.example/revoke",
      registration_endpoint: "https://as.example/register",
      authorization_response_iss_parameter_supported: true,
      code_challenge_methods_supported: ["S256"],
      token_endpoint_auth_methods_supported: ["none"],
      client_id_metadata_document_supported: true,
      scopes_supported: ["read"],
    };
    pages.set(OAUTH, { status: 200, body: metadata(all) });
    expect(await find()).toMatchObject({
      value: {
        revocationEndpoint: "https://as.example/revoke",
        registrationEndpoint: "https://as.example/register",
        sendsIss: true,
        pkceMethods: ["S256"],
        clientAuthMethods: ["none"],
        takesMetadataDocument: true,
        scopesSupported: ["read"],
      },
    });
  });

  test.each([400, 401, 403, 404])("is looked for further when a place answers %i", async (status) => {
    pages.set(OAUTH, { status, body: "" });
    pages.set(OIDC, { status: 200, body: metadata() });
    expect((await find()).ok).toBe(true);
  });

  test.each([
    [500, "transient"],
    [429, "transient"],
    [204, "invalid"],
  ])("whose first place answers %i is %s", async (status, kind) => {
    pages.set(OAUTH, { status, body: "" });
    pages.set(OIDC, { status: 200, body: metadata() });
    expect(failureOf(await find()).kind).toBe(kind);
  });

  test("that is nowhere is invalid", async () => {
    expect(failureOf(await find()).kind).toBe("invalid");
    expect(server.requests).toHaveLength(3);
  });

  test.each(["{server}/t/", "{SERVER}/t", "{server}/%74", "https://evil.example", undefined])(
    "that calls itself %s is another one, and the search is over",
    async (template) => {
      const issuer = template
        ?.replace("{server}", server.url)
        .replace("{SERVER}", server.url.replace("http", "HTTP"));
      pages.set(OAUTH, { status: 200, body: metadata({ issuer }) });
      pages.set(OIDC, { status: 200, body: metadata() });
      expect(failureOf(await find()).kind).toBe("invalid");
      expect(server.requests).toHaveLength(1);
    },
  );

  test.each(["", "/"])("at the root is called as it is asked for, with %j at its end", async (end) => {
    pages.set("/.well-known/oauth-authorization-server", {
      status: 200,
      body: metadata({ issuer: `${server.url}${end}` }),
    });
    const [same, other] = [`${server.url}${end}`, `${server.url}${end === "" ? "/" : ""}`];
    expect(await find(same)).toMatchObject({ ok: true, value: { issuer: same } });
    expect(failureOf(await find(other)).kind).toBe("invalid");
  });

  test.each([
    [{ code_challenge_methods_supported: ["plain"] }, ["plain"]],
    [{ code_challenge_methods_supported: [] }, []],
    [{ code_challenge_methods_supported: "S256" }, null],
    [{ code_challenge_methods_supported: ["S256", 7] }, null],
    [{}, null],
  ])("that says %j of PKCE is described, with the methods %j", async (said, pkceMethods) => {
    pages.set(OAUTH, { status: 200, body: metadata(said) });
    expect(await find()).toMatchObject({ ok: true, value: { described: true, pkceMethods } });
  });

  test.each([
    ["authorization_endpoint", undefined],
    ["token_endpoint", undefined],
    ["token_endpoint", 7],
    ["token_endpoint", "http://as.example/token"],
    ["authorization_endpoint", "http://as.example/authorize"],
    ["authorization_endpoint", "javascript:alert(1)"],
    ["authorization_endpoint", "file:///etc/passwd"],
    ["authorization_endpoint", "https://as.example/authorize#part"],
    ["revocation_endpoint", "http://as.example/revoke"],
    ["registration_endpoint", "https://10.0.0.1/register"],
    ["token_endpoint", "https://user:word@as.example/token"],
    ["token_endpoint", "/token"],
  ])("whose %s is %s is invalid", async (name, value) => {
    pages.set(OAUTH, { status: 200, body: metadata({ [name]: value }) });
    expect(failureOf(await find()).kind).toBe("invalid");
  });

  test("has an issuer without query and fragment", async () => {
    for (const issuer of [`${server.url}/t?x=1`, `${server.url}/t#x`, "as.example"]) {
      expect(failureOf(await find(issuer)).kind).toBe("invalid");
    }
    expect(server.requests).toEqual([]);
  });

  test("on this machine is not asked unless egress allows it", async () => {
    const strict = createNodeEgress({ allow: NOTHING_ALLOWED, own: [] });
    const careful = createOAuth({
      egress: strict,
      clientInfo: { name: "consentry-test", version: "1" },
      urlFault: () => null,
    });
    pages.set(OAUTH, { status: 200, body: metadata() });
    expect(failureOf(await careful.authServer(`${server.url}/t`, forLong())).kind).toBe("invalid");
    expect(server.requests).toEqual([]);
    await strict.close();
  });

  test("that is real tells S256, and its edits are seen", async () => {
    const as = await startAuthServer();
    expect(await find(as.issuer)).toMatchObject({ value: { sendsIss: true, pkceMethods: ["S256"] } });
    as.knobs.metadata = (document) => ({ ...document, code_challenge_methods_supported: undefined });
    expect(await find(as.issuer)).toMatchObject({ value: { pkceMethods: null } });
    as.knobs.metadata = (document) => ({ ...document, issuer: "https://evil.example" });
    expect(failureOf(await find(as.issuer)).kind).toBe("invalid");
    as.knobs.metadata = (document) => ({ ...document, token_endpoint: "http://as.example/token" });
    expect(failureOf(await find(as.issuer)).kind).toBe("invalid");
    await as.stop();
  });
});

function faultOf(url: string, rules: EgressRules): string | null {
  try {
    checkUrl(url, rules);
    return null;
  } catch (error) {
    return String(error);
  }
}

function failureOf<T>(outcome: OAuthOutcome<T>): OAuthFailure {
  if (outcome.ok) throw new Error(`it did not fail: ${JSON.stringify(outcome.value)}`);
  return outcome.failure;
}

const forLong = () => AbortSignal.timeout(30_000);
