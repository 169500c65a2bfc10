// A16 for OAuth: every secret that is made, got or given on the way of a consent and afterwards, and then looked for in
// everything that is kept, logged, shown or sent to somebody else.
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { createBrowser, type Page } from "../../demo/browser.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { beginAuthorization, linkOf, person, submit, visit } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { ADMIN_KEY, call, clientOf, createWorld, type TestWorld } from "../helpers/world.ts";

const HOUR = 60 * 60_000;
let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;
let runtimeKey: string;
const answers: string[] = [];
const pages: string[] = [];
/** Secrets between us and the authorization server: nobody else has business with them. */
const secrets = new Map<string, string>();
/** What browsers and runtimes carry themselves. */
const carried = new Map<string, string>();

const path = "/api/projects/default";
const rest: TestWorld["rest"] = async (...request) => {
  const answer = await world.rest(...request);
  answers.push(JSON.stringify(answer.body));
  return answer;
};
const note = (name: string, value: string | null | undefined, among = secrets) => {
  if (value != null && value !== "") among.set(`${name} ${among.size}`, value);
};
const see = <T extends { html: string } | { text: string }>(page: T): T => {
  pages.push("html" in page ? page.html : page.text);
  return page;
};
const calling = (label: string) => ({
  tools: [{ type: "mcp" as const, server_label: label, require_approval: "never" as const }],
  input: [call(label, "whoami", {})],
});
const whoami = async (label: string, user: string) => {
  const client = clientOf(world.url, runtimeKey, { project: "default", user });
  const response = await client.responses.create(calling(label));
  answers.push(JSON.stringify(response));
  return response;
};

beforeAll(async () => {
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  world = await createWorld({ env: { CONSENTRY_LOG_LEVEL: "debug", CONSENTRY_AUDIT: "sync" } });
  const key = await world.rest("POST", `${path}/keys`, {
    name: "runtime",
    roles: ["runtime"],
    rights: ["act_for_users"],
    confirmUrl: "http://127.0.0.1:9/confirm",
  });
  runtimeKey = String(key.body["key"]);
  note("runtime key", runtimeKey);
  note("admin key", ADMIN_KEY);
  const { clientId, clientSecret, auth } = authServer.clients.post;
  note("typed client secret", clientSecret);
  const { clients } = authServer;
  const typed = {
    authorizationUrl: `${authServer.issuer}/auth`,
    tokenUrl: `${authServer.issuer}/token`,
    scopes: ["read"],
  };
  const put = async (name: string, properties: Record<string, unknown>) => {
    const made = await rest("PUT", `${path}/connections/${name}`, {
      properties: { authType: "OAuth2", category: "RemoteTool", target: server.url, ...properties },
    });
    authServer.addRedirectUris(String(made.body["redirectUrl"]));
  };
  await put("own", { ...typed, credentials: { clientId, clientSecret }, clientAuth: auth });
  await put("signed", {
    ...typed,
    credentials: { clientId: clients.privateKeyJwt.clientId, privateKey: clients.privateKeyJwt.privateKey },
  });
  note("private key", JSON.stringify(clients.privateKeyJwt.privateKey?.["d"]).replaceAll('"', ""));
  await put("found", { credentials: {} });
  await rest("PUT", "/api/connectors/shared", {
    ...typed,
    clientId: clients.basic.clientId,
    clientSecret: clients.basic.clientSecret,
    targets: [new URL(server.url).host],
  });
  await succeed();
  await fail();
  await visitMe();
  await byRuntime();
  await bySignIn();
  await lookAround();
  collect();
});
afterAll(async () => {
  await world.stop();
  await server.stop();
  await authServer.stop();
});

const ticketOf = (link: string) => link.split("/").at(-1) ?? "";

/** To the token and back to the authorization server, by each kind of client, with a refresh and a disconnect. */
async function succeed(): Promise<void> {
  for (const label of ["own", "signed", "found"]) {
    await finish(label, "ann");
    await whoami(label, "ann");
    world.advance(2 * HOUR);
    await whoami(label, "ann");
    await rest("DELETE", `${path}/connections/${label}/grants/ann`);
    await finish(label, "ann");
  }
}

async function finish(label: string, user: string, change: (url: URL) => void = () => {}): Promise<void> {
  const link = linkOf(await whoami(label, user));
  note("ticket", ticketOf(link), carried);
  const { cookie, authorizationUrl } = await beginAuthorization(link);
  note("browser cookie", cookie.split("=")[1], carried);
  note("state", authorizationUrl.searchParams.get("state"));
  see(await visit(link, cookie));
  const callback = await authServer.authorize(authorizationUrl.href, user);
  note("code", callback.searchParams.get("code"));
  change(callback);
  see(await visit(callback));
  see(await visit(callback, cookie));
  see(await visit(callback, cookie));
  see(await visit(link, cookie));
}

/** Failures and refusals like to repeat what they were given. */
async function fail(): Promise<void> {
  await finish("found", "bob", (url) => url.searchParams.set("iss", "https://evil.example"));
  world.advance(HOUR);
  await finish("found", "bob", (url) => url.searchParams.set("code", `${url.searchParams.get("code")}x`));
  for (const mishap of ["malformed_json", "error"] as const) {
    authServer.mishaps.push(mishap);
    await finish("own", "bob");
  }
  await finish("own", "carol");
  world.advance(2 * HOUR);
  authServer.mishaps.push("malformed_id_token");
  await whoami("own", "carol");
  world.advance(2 * HOUR);
  authServer.mishaps.push("lost_response");
  await whoami("own", "carol");
  server.knobs.accepts = () => false;
  await whoami("signed", "ann");
  server.knobs.accepts = () => true;
}

async function visitMe(): Promise<void> {
  const made = await world.rest("POST", `${path}/me-links`, { user: "ann" });
  note("me link", ticketOf(String(made.body["url"])), carried);
  const browser = createBrowser();
  const page: Page = see(await browser.press(see(await browser.open(String(made.body["url"])))));
  see(await browser.press(page, "disconnect"));
}

async function byRuntime(): Promise<void> {
  await rest("PATCH", `${path}/settings`, { consentProof: "runtime" });
  const link = linkOf(await whoami("found", "dan"));
  const sent = see(await visit(link));
  const code = new URL(sent.headers.get("location") ?? "").searchParams.get("consent_code") ?? "";
  note("consent code", code, carried);
  const cookie = sent.headers.getSetCookie()[0]?.split(";")[0] ?? "";
  const as = { authorization: `Bearer ${runtimeKey}` };
  await rest("POST", `${path}/consents:confirm`, { code: `${code}x`, user: "dan" }, as);
  const confirmed = await world.rest("POST", `${path}/consents:confirm`, { code, user: "dan" }, as);
  const next = String(confirmed.body["continue_url"]);
  note("continue token", ticketOf(next), carried);
  see(await visit(next, cookie));
  see(await visit(next, cookie));
  await submit(link, { cookie, form: { action: "decline", csrf: "x" } });
}

async function bySignIn(): Promise<void> {
  const { clientId, clientSecret } = authServer.clients.post;
  authServer.addRedirectUris(`${world.url}/signin/callback`);
  const signIn = { name: "idp", issuer: authServer.issuer, clientId, clientSecret };
  const assertedAs = { issuer: authServer.issuer, claim: "sub" };
  await rest("PATCH", `${path}/settings`, { consentProof: "sign-in", signIn, users: { assertedAs } });
  const link = linkOf(await whoami("found", "eve"));
  const browser = person(authServer, "eve");
  const page = see(await browser.press(see(await browser.open(link)), "sign_in"));
  see(await browser.press(page, "allow"));
  const wrong = person(authServer, "mallory");
  const other = linkOf(await whoami("own", "eve"));
  see(await wrong.press(see(await wrong.open(other)), "sign_in"));
}

async function lookAround(): Promise<void> {
  for (const name of ["own", "signed", "found"]) {
    await rest("GET", `${path}/connections/${name}`);
    await rest("GET", `${path}/connections/${name}/grants`);
    await rest("POST", `${path}/connections/${name}:validate`, {}, { "x-ms-user-identity": "ann" });
    await rest("POST", `${path}/connections/${name}/getConnectionWithCredentials`);
  }
  for (const one of ["connections", "keys", "users", "settings", "audit?limit=100"])
    await rest("GET", `${path}/${one}`);
  for (const one of ["connectors", "connectors/shared", "audit", "projects"])
    await rest("GET", `/api/${one}`);
  await vi.waitFor(async () => {
    const { body } = await world.rest("GET", `${path}/audit?event=tool_called`);
    expect(body).toHaveProperty("value.1");
  });
  for (let url = `${path}/audit?limit=100`; url !== "";) {
    const { body } = await rest("GET", url);
    const next = body["nextLink"] as unknown as string | undefined;
    url = next === undefined ? "" : next.slice(world.url.length);
  }
}

/** What the authorization server got, and what it gave, as far as it comes by again. */
function collect(): void {
  for (const { params, headers } of authServer.tokenRequests) {
    for (const name of ["code", "code_verifier", "refresh_token", "client_secret", "client_assertion"])
      note(name, params.get(name));
    const basic = /^Basic (.+)$/.exec(headers.authorization ?? "")?.[1];
    note("basic", basic);
    const secret = Buffer.from(basic ?? "", "base64")
      .toString()
      .split(":")[1];
    note("registered client secret", secret === undefined ? null : decodeURIComponent(secret));
  }
  for (const params of authServer.revocations) note("revoked token", params.get("token"));
  for (const { authorization } of server.requests) note("access token", authorization?.split(" ")[1]);
}

const found = (names: Map<string, string>, where: { includes: (text: string) => boolean }) =>
  [...names].filter(([, secret]) => where.includes(secret)).map(([name]) => name);

test("the canaries are many, and of every kind", () => {
  const kinds = new Set([...secrets.keys(), ...carried.keys()].map((name) => name.replace(/ \d+$/, "")));
  expect([...kinds].toSorted((one, other) => one.localeCompare(other, "en"))).toEqual(
    [
      "access token",
      "admin key",
      "basic",
      "browser cookie",
      "client_assertion",
      "client_secret",
      "code",
      "code_verifier",
      "consent code",
      "continue token",
      "me link",
      "private key",
      "refresh_token",
      "registered client secret",
      "revoked token",
      "runtime key",
      "state",
      "ticket",
      "typed client secret",
    ].toSorted((one, other) => one.localeCompare(other, "en")),
  );
});

test("none is in a log line, its URLs included", () => {
  expect(world.logs.length).toBeGreaterThan(50);
  const lines = world.logs
    .map((line) =>
      JSON.stringify(line, (_, value: unknown) => (value instanceof Error ? String(value.stack) : value)),
    )
    .join("\n");
  expect(found(secrets, lines)).toEqual([]);
  expect(found(carried, lines)).toEqual([]);
});

test("none is in the database in the clear", async () => {
  const bytes = await world.databaseBytes();
  expect(bytes.length).toBeGreaterThan(10_000);
  expect(found(secrets, bytes)).toEqual([]);
  expect(found(carried, bytes)).toEqual([]);
});

test("none is in an answer, the audit's among them; only the ticket is, in the link that asks", () => {
  const all = answers.join("\n");
  expect(all).toContain("grant_refreshed");
  expect(found(secrets, all)).toEqual([]);
  const withoutLinks = all.replaceAll(new RegExp(`${world.url}/consent/[\\w.-]+`, "g"), "");
  expect(found(carried, withoutLinks)).toEqual([]);
});

test("none is on a page", () => {
  expect(pages.length).toBeGreaterThan(50);
  const all = pages.join("\n");
  expect(found(secrets, all)).toEqual([]);
  expect(found(carried, all)).toEqual([]);
});

test("the runtime's key reaches neither the MCP server nor the authorization server", () => {
  const atServer = JSON.stringify(server.requests);
  const atAuthServer = JSON.stringify([
    authServer.tokenRequests.map(({ params, headers }) => [params.toString(), headers]),
    authServer.registrations,
    authServer.revocations.map(String),
  ]);
  for (const key of [runtimeKey, ADMIN_KEY]) {
    expect(atServer).not.toContain(key);
    expect(atAuthServer).not.toContain(key);
  }
  const shown = server.requests.filter(({ authorization }) => authorization !== null);
  expect(shown.length).toBeGreaterThan(10);
  // Nor do refresh tokens and clients' secrets reach the server.
  const others = [...secrets].filter(([name]) => !name.startsWith("access token"));
  expect(found(new Map(others), atServer)).toEqual([]);
});
