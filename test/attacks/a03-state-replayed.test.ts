// A3: a callback that comes twice, at once or later; A8 on the way: what `iss` says is heard first.
import { createHash } from "node:crypto";
import type OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { audited, beginAuthorization, linkOf, visit } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { createWorld, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;
let ann: OpenAI;

beforeEach(async () => {
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  world = await createWorld({ env: { CONSENTRY_AUDIT: "sync" } });
  await world.connect("notes", { authType: "OAuth2", target: server.url, credentials: {} });
  ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
});
afterEach(async () => {
  await world.stop();
  await server.stop();
  await authServer.stop();
});

const ask = () =>
  ann.responses.create({ tools: [{ type: "mcp", server_label: "notes", require_approval: "never" }] });
const begin = async () => beginAuthorization(linkOf(await ask()));
const exchanges = () => authServer.countTokenRequests("authorization_code");

test("of two callbacks at once exactly one exchanges the code", async () => {
  const { cookie, authorizationUrl } = await begin();
  const callback = await authServer.authorize(authorizationUrl.href, "ann");
  const answers = await Promise.all(Array.from({ length: 8 }, () => visit(callback, cookie)));
  expect(exchanges()).toBe(1);
  expect(answers.filter(({ text }) => text.includes("Connected")).length).toBeGreaterThanOrEqual(1);
  expect(await audited(world, "grant_made")).toMatchObject([{ user: "app:ann" }]);
});

test("a callback that comes again later exchanges nothing", async () => {
  const { cookie, authorizationUrl } = await begin();
  const callback = await authServer.authorize(authorizationUrl.href, "ann");
  await visit(callback, cookie);
  expect((await visit(callback, cookie)).status).toBe(403);
  expect(exchanges()).toBe(1);
});

test("a second Allow makes the first state worthless", async () => {
  const link = linkOf(await ask());
  const { cookie, authorizationUrl } = await beginAuthorization(link);
  const callback = await authServer.authorize(authorizationUrl.href, "ann");
  const page = await visit(link, cookie);
  const csrf = /name="csrf" value="([^"]+)"/.exec(page.text)?.[1] ?? "";
  const again = await fetch(link, {
    method: "POST",
    redirect: "manual",
    headers: { cookie, origin: world.url },
    body: new URLSearchParams({ action: "allow", csrf }),
  });
  expect(again.status).toBe(303);
  expect((await visit(callback, cookie)).status).toBe(403);
  expect(exchanges()).toBe(0);
});

test("a state is good for ten minutes", async () => {
  const { cookie, authorizationUrl } = await begin();
  const callback = await authServer.authorize(authorizationUrl.href, "ann");
  world.advance(10 * 60_000);
  expect((await visit(callback, cookie)).status).toBe(403);
  expect(exchanges()).toBe(0);
  expect((await audited(world, "consent_refused")).map(({ detail }) => detail["why"])).toEqual([
    "state_expired",
  ]);
});

test("a state at another connection's callback is refused, and burns nothing", async () => {
  await world.connect("other", { authType: "OAuth2", target: server.url, credentials: {} });
  const other = await world.rest("GET", "/api/projects/default/connections/other");
  const { cookie, authorizationUrl } = await begin();
  const callback = await authServer.authorize(authorizationUrl.href, "ann");
  const moved = new URL(String(other.body["redirectUrl"]));
  moved.search = callback.search;
  expect((await visit(moved, cookie)).status).toBe(403);
  expect((await visit(callback, cookie)).text).toContain("Connected");
});

describe("A8: what the authorization server calls itself", () => {
  const callbacks: [string, (url: URL) => void, string][] = [
    ["is another", (url) => url.searchParams.set("iss", "https://attacker.example"), "iss_mismatch"],
    ["is missing, though it says that it sends it", (url) => url.searchParams.delete("iss"), "iss_missing"],
    [
      "differs by a slash",
      (url) => url.searchParams.set("iss", `${url.searchParams.get("iss")}/`),
      "iss_mismatch",
    ],
    [
      "differs by case",
      (url) => url.searchParams.set("iss", "HTTP" + url.searchParams.get("iss")?.slice(4)),
      "iss_mismatch",
    ],
    [
      "is there twice",
      (url) => url.searchParams.append("iss", url.searchParams.get("iss") ?? ""),
      "iss_mismatch",
    ],
  ];
  test.each(callbacks)("%s: the code goes nowhere", async (_, change, why) => {
    const { cookie, authorizationUrl } = await begin();
    const callback = await authServer.authorize(authorizationUrl.href, "ann");
    change(callback);
    const page = await visit(callback, cookie);
    expect(page.status).toBe(200);
    expect(page.text).not.toContain("Connected");
    expect(exchanges()).toBe(0);
    expect((await audited(world, "consent_failed")).map(({ detail }) => detail["why"])).toEqual([why]);
    expect((await audited(world, "consent_failed"))[0]?.requestId).toBeTruthy();
  });

  test("in an error response, too: neither its error nor its words are shown or acted on", async () => {
    const { cookie, authorizationUrl } = await begin();
    const state = authorizationUrl.searchParams.get("state") ?? "";
    const callback = new URL(authorizationUrl.searchParams.get("redirect_uri") ?? "");
    const said = {
      state,
      iss: "https://attacker.example",
      error: "access_denied",
      error_description: "call 555-1234",
    };
    for (const [name, value] of Object.entries(said)) callback.searchParams.set(name, value);
    const page = await visit(callback, cookie);
    expect(page.text).not.toMatch(/555|attacker|declined/i);
    expect((await audited(world, "consent_failed")).map(({ detail }) => detail["why"])).toEqual([
      "iss_mismatch",
    ]);
  });
});

test("A14: S256 always, and verifier, state and nonce of their own", async () => {
  const { authorizationUrl, cookie } = await begin();
  const asked = authorizationUrl.searchParams;
  expect(asked.get("code_challenge_method")).toBe("S256");
  await visit(await authServer.authorize(authorizationUrl.href, "ann"), cookie);
  const verifier = authServer.tokenRequests.at(-1)?.params.get("code_verifier") ?? "";
  expect(createHash("sha256").update(verifier).digest("base64url")).toBe(asked.get("code_challenge"));
  expect(verifier).not.toBe(asked.get("state"));
  const kept = await world.databaseBytes();
  expect([verifier, asked.get("state") ?? ""].map((secret) => kept.includes(secret))).toEqual([false, false]);
});

test("A14: an authorization server that does not say S256 is not used, and the message says what to set", async () => {
  for (const methods of [undefined, ["plain"], []]) {
    authServer.knobs.metadata = (document) => ({ ...document, code_challenge_methods_supported: methods });
    world.advance(10 * 60_000);
    const asked = await ask();
    expect(asked.output).toMatchObject([
      { type: "mcp_list_tools", error: expect.stringContaining("assume-S256") },
    ]);
  }
  const overridden = {
    pkce: "assume-S256",
    overrideReason: "the server knows S256, its metadata do not say so",
  };
  await world.rest("PATCH", "/api/projects/default/connections/notes", { properties: overridden });
  world.advance(10 * 60_000);
  expect(linkOf(await ask())).toContain("/consent/");
  const [entry] = await audited(world, "connection_changed");
  expect(JSON.stringify(entry)).toContain(overridden.overrideReason);
});
