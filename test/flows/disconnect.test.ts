// Taking an account back: by the person, by an admin, with the connection or the user. It holds from the next call on, and
// the authorization server is told (RFC 7009).
import type OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Browser, createBrowser, headingOf, type Page } from "../../demo/browser.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { type HttpServer, startHttpServer } from "../helpers/http-server.ts";
import {
  allow,
  audited,
  beginAuthorization,
  consentsOf,
  linkOf,
  person,
  submit,
  visit,
} from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

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

const PATH = "/api/projects/default/connections/notes";
const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];
const whoami = () => ann.responses.create({ tools, input: [call("notes", "whoami", {})] });
const outputsOf = (response: Parameters<typeof itemsOf>[0]) =>
  itemsOf(response, "mcp_call").map(({ output }) => output);
type Grant = { id: string; user: string; status: string };
const grants = async () => (await world.rest("GET", `${PATH}/grants`)).body["value"] as unknown as Grant[];
const connect = async () => {
  await allow(person(authServer, "ann"), linkOf(await whoami()));
  if (outputsOf(await whoami())[0] !== "ann") throw new Error("ann is not connected");
};
/** The visit of a person whom the runtime sends to `/me`. */
async function visitMe(user: string): Promise<{ browser: Browser; page: Page }> {
  const made = await world.rest("POST", "/api/projects/default/me-links", { user });
  const browser = createBrowser();
  const link = await browser.open(String(made.body["url"]));
  return { browser, page: await browser.press(link) };
}
const disconnect = async (user = "ann") => {
  const { browser, page } = await visitMe(user);
  return browser.press(page, "disconnect");
};
const signInAs = async (account: string) => {
  const { clientId, clientSecret } = authServer.clients.post;
  authServer.addRedirectUris(`${world.url}/signin/callback`);
  const signIn = { name: "idp", issuer: authServer.issuer, clientId, clientSecret };
  const assertedAs = { issuer: authServer.issuer, claim: "sub" };
  await world.rest("PATCH", "/api/projects/default/settings", { signIn, users: { assertedAs } });
  const browser = person(authServer, account);
  return { browser, page: await browser.press(await browser.open(`${world.url}/me/default`), "sign_in") };
};

describe("holds from the next call on, and is told", () => {
  const ways: [string, () => Promise<unknown>][] = [
    ["by the id of the grant", async () => byRest((await grants())[0]?.id ?? "")],
    ["by the user's id", () => byRest(encodeURIComponent("app:ann"))],
    ["by a bare name", () => byRest("ann")],
    ["by the person, with a link of the runtime's", () => disconnect()],
    [
      "by the person, signed in",
      async () => {
        const { browser, page } = await signInAs("ann");
        await browser.press(page, "disconnect");
      },
    ],
    ["with the user", () => world.rest("DELETE", "/api/projects/default/users/ann")],
    ["with the connection", () => world.rest("DELETE", PATH)],
  ];
  const byRest = async (grant: string) => {
    const { status, body } = await world.rest("DELETE", `${PATH}/grants/${grant}`);
    expect([status, body]).toEqual([
      200,
      { id: expect.stringMatching(/^grant_/), user: "app:ann", status: "revoked", upstream: "revoked" },
    ]);
  };
  test.each(ways)("%s", async (_, take) => {
    await connect();
    const calls = server.calls.length;
    const seen = server.requests.filter(({ authorization }) => authorization !== null).length;
    await take();
    const refused = await whoami().catch((error: { status: number }) => error.status);
    expect(server.calls).toHaveLength(calls);
    expect(server.requests.filter(({ authorization }) => authorization !== null)).toHaveLength(seen);
    expect(typeof refused === "number" ? refused : consentsOf(refused).length).toBeGreaterThan(0);
    expect(authServer.revocations).toHaveLength(1);
    const [told] = authServer.revocations;
    expect(told?.get("token_type_hint")).toBe("refresh_token");
    expect(await authServer.introspect(told?.get("token") ?? "")).toEqual({ active: false });
    expect(await audited(world, "grant_revoked")).toMatchObject([{ user: "app:ann" }]);
  });

  test("and connecting again works", async () => {
    await connect();
    await world.rest("DELETE", `${PATH}/grants/ann`);
    await connect();
    expect(await grants()).toMatchObject([{ user: "app:ann", status: "active" }]);
    expect((await world.rest("DELETE", `${PATH}/grants/ann`)).body["upstream"]).toBe("revoked");
    expect((await world.rest("DELETE", `${PATH}/grants/ann`)).status).toBe(404);
  });
});

describe("says honestly what the authorization server made of it", () => {
  let strange: HttpServer | null = null;
  afterEach(async () => {
    await strange?.stop();
    strange = null;
  });

  test("it has no revocation endpoint: impossible", async () => {
    authServer.knobs.metadata = (document) => ({ ...document, revocation_endpoint: undefined });
    await connect();
    expect((await disconnect()).html).toContain("offers no way to take the permission back");
    expect(await grants()).toMatchObject([{ status: "revoked" }]);
    await connect();
    expect((await world.rest("DELETE", `${PATH}/grants/ann`)).body["upstream"]).toBe("impossible");
  });

  test.each([
    [400, "refused", "did not take the permission back"],
    [503, "failed", "will be told again"],
  ])("it answers %i: %s, and it is over here all the same", async (status, upstream, words) => {
    strange = await startHttpServer((_, response) => {
      response.writeHead(status, { "content-type": "application/json" }).end('{"error":"invalid_client"}');
    });
    const revocation_endpoint = `${strange.url}/revoke`;
    authServer.knobs.metadata = (document) => ({ ...document, revocation_endpoint });
    await connect();
    const page = await disconnect();
    expect(page.html).toContain("nothing is called with your account any more");
    expect(page.html).toContain(words);
    expect(strange.requests.length).toBeGreaterThan(0);
    expect(consentsOf(await whoami())).toHaveLength(1);
    await connect();
    expect((await world.rest("DELETE", `${PATH}/grants/ann`)).body["upstream"]).toBe(upstream);
  });
});

describe("is nobody else's to do", () => {
  test("a grant of another project is not found, by its id or its user", async () => {
    await connect();
    await world.rest("POST", "/api/projects", { name: "other" });
    await world.connect("notes", { authType: "OAuth2", target: server.url, credentials: {} }, "other");
    const [grant] = await grants();
    for (const name of [grant?.id ?? "", "ann", "app%3Aann"]) {
      const path = `/api/projects/other/connections/notes/grants/${name}`;
      expect((await world.rest("DELETE", path)).status).toBe(404);
    }
    expect(outputsOf(await whoami())).toEqual(["ann"]);
  });

  test("nor one of another connection of the project", async () => {
    await connect();
    await world.connect("other", { authType: "OAuth2", target: server.url, credentials: {} });
    const [grant] = await grants();
    const answer = await world.rest(
      "DELETE",
      `/api/projects/default/connections/other/grants/${grant?.id ?? ""}`,
    );
    expect(answer.status).toBe(404);
    expect(outputsOf(await whoami())).toEqual(["ann"]);
  });

  test("another person's visit shows nothing of it, and sending its id does nothing", async () => {
    await connect();
    const [grant] = await grants();
    const { browser, page } = await visitMe("bob");
    expect(page.html).toContain("Nothing is connected");
    const forged = page.html.replace(
      /<form[^>]*>/,
      `<form method="post"><button name="action" value="disconnect"></button><input name="grant" value="${grant?.id}" />`,
    );
    await browser.press({ ...page, html: forged }, "disconnect");
    const own = await visitMe("ann");
    expect(own.page.html).toContain("notes");
    expect(outputsOf(await whoami())).toEqual(["ann"]);
  });

  test("lists say whose accounts there are, and nothing of their tokens", async () => {
    await connect();
    const { body } = await world.rest("GET", `${PATH}/grants`);
    expect(body["value"]).toEqual([
      {
        id: expect.stringMatching(/^grant_/),
        user: "app:ann",
        status: "active",
        reason: null,
        scopes: expect.arrayContaining(["read"]),
        createdAt: expect.any(String),
        lastUsedAt: expect.any(String),
        renewsItself: true,
      },
    ]);
    const { page } = await visitMe("ann");
    const sent = server.requests.flatMap(({ authorization }) => authorization?.split(" ")[1] ?? []);
    expect(sent.length).toBeGreaterThan(0);
    for (const token of sent) expect(JSON.stringify(body) + page.html).not.toContain(token);
  });
});

describe("while something is on its way", () => {
  test("a user who is blocked cannot finish an open consent, at any step", async () => {
    const link = linkOf(await whoami());
    const { cookie, authorizationUrl } = await beginAuthorization(link);
    const callback = await authServer.authorize(authorizationUrl.href, "ann");
    await world.rest("DELETE", "/api/projects/default/users/ann");
    for (const url of [callback, link])
      expect((await visit(url, cookie)).text).toContain("stopped by an administrator");
    const answer = await submit(link, { cookie, form: { action: "allow", csrf: "x" } });
    expect(answer.headers.get("location")).toBeNull();
    expect(authServer.tokenRequests).toEqual([]);
    expect(await grants()).toEqual([]);
  });

  test("a user who is blocked while the code is exchanged gets no grant, and the tokens are given back", async () => {
    const { cookie, authorizationUrl } = await beginAuthorization(linkOf(await whoami()));
    const callback = await authServer.authorize(authorizationUrl.href, "ann");
    authServer.knobs.tokenLatencyMs = 300;
    const finishing = visit(callback, cookie);
    await expect.poll(() => authServer.tokenRequests.length).toBe(1);
    await world.rest("DELETE", "/api/projects/default/users/ann");
    expect((await finishing).text).not.toContain("Connected");
    expect(await grants()).toEqual([]);
    expect(authServer.revocations).toHaveLength(1);
    const token = authServer.revocations[0]?.get("token") ?? "";
    expect(await authServer.introspect(token)).toEqual({ active: false });
  });

  test("what is taken back during a refresh stays taken back", async () => {
    await connect();
    const calls = server.calls.length;
    world.advance(2 * 60 * 60_000);
    authServer.knobs.tokenLatencyMs = 400;
    const calling = whoami();
    await expect.poll(() => authServer.countTokenRequests("refresh_token")).toBe(1);
    await world.rest("DELETE", `${PATH}/grants/ann`);
    expect(outputsOf(await calling)).toEqual([]);
    expect(server.calls).toHaveLength(calls);
    expect(await grants()).toMatchObject([{ status: "revoked" }]);
    expect(consentsOf(await whoami())).toHaveLength(1);
  });

  test("a visit to /me ends when its user is blocked", async () => {
    await connect();
    const { browser, page } = await visitMe("ann");
    await world.rest("DELETE", "/api/projects/default/users/ann");
    expect(headingOf(await browser.press(page, "disconnect"))).toContain("does not go on here");
  });
});
