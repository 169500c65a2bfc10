// A1: an attacker has a consent opened, and sends the link to somebody else, who follows it.
import type OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createBrowser, headingOf } from "../../demo/browser.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { allow, audited, beginAuthorization, consentsOf, linkOf, person, visit } from "../helpers/people.ts";
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

/** A browser that has been here before, for something else. */
const STRANGER = `consentry-browser=${"s".repeat(43)}`;
const ask = () =>
  ann.responses.create({ tools: [{ type: "mcp", server_label: "notes", require_approval: "never" }] });
const grants = async () =>
  (await world.rest("GET", "/api/projects/default/connections/notes/grants")).body["value"];
const refusals = async () => (await audited(world, "consent_refused")).map(({ detail }) => detail["why"]);
const settle = async (change: object) => {
  const answer = await world.rest("PATCH", "/api/projects/default/settings", change);
  if (answer.status !== 200) throw new Error(JSON.stringify(answer.body));
};

describe("possession", () => {
  test("a second browser sees nothing and stores nothing, and the first one goes on", async () => {
    const link = linkOf(await ask());
    const first = person(authServer, "ann");
    const page = await first.open(link);
    const second = await visit(link);
    expect(second.status).toBe(403);
    expect(second.text).not.toContain("notes");
    expect(await grants()).toEqual([]);
    expect(await refusals()).toEqual(["other_browser"]);
    expect(headingOf(await first.press(page, "allow"))).toContain("Connected");
  });

  test("what is loaded beside a page, in a frame or ahead of time binds nobody", async () => {
    const link = linkOf(await ask());
    const loads = [
      { "sec-fetch-dest": "image" },
      { "sec-fetch-dest": "iframe" },
      { "sec-purpose": "prefetch" },
    ];
    for (const headers of loads) {
      const answer = await fetch(link, { headers });
      expect([answer.status, answer.headers.getSetCookie(), await answer.text()]).toEqual([403, [], ""]);
    }
    expect((await fetch(link, { method: "HEAD" })).headers.getSetCookie()).toEqual([]);
    expect(headingOf(await allow(person(authServer, "ann"), link))).toContain("Connected");
  });

  test("a callback in another browser burns nothing: the right one still finishes", async () => {
    const { cookie, authorizationUrl } = await beginAuthorization(linkOf(await ask()));
    const callback = await authServer.authorize(authorizationUrl.href, "ann");
    const elsewhere = await visit(callback, STRANGER);
    const without = await visit(callback);
    expect([elsewhere.status, without.status]).toEqual([403, 403]);
    expect(await grants()).toEqual([]);
    expect(new Set(await refusals())).toEqual(new Set(["no_cookie", "other_browser"]));
    expect((await visit(callback, cookie)).status).toBe(200);
    expect(await grants()).toMatchObject([{ user: "app:ann", status: "active" }]);
  });
});

describe("sign-in", () => {
  beforeEach(async () => {
    const { clientId, clientSecret } = authServer.clients.post;
    authServer.addRedirectUris(`${world.url}/signin/callback`);
    const signIn = { name: "idp", issuer: authServer.issuer, clientId, clientSecret };
    const assertedAs = { issuer: authServer.issuer, claim: "sub" };
    await settle({ consentProof: "sign-in", signIn, users: { assertedAs } });
  });

  test("somebody who signs in as another person is told nothing, and stores nothing", async () => {
    const link = linkOf(await ask());
    const victim = person(authServer, "bob");
    const refused = await victim.press(await victim.open(link), "sign_in");
    expect(refused.status).toBe(403);
    expect(refused.html).not.toMatch(/notes|ann/);
    expect(await grants()).toEqual([]);
    expect(await refusals()).toEqual(["other_user"]);
    // It is still the person's to finish.
    const right = person(authServer, "ann");
    const page = await right.press(await right.open(link), "sign_in");
    expect(page.html).toContain("signed in as");
    expect(headingOf(await right.press(page, "allow"))).toContain("Connected");
  });

  test("a GET binds nobody: scanners do no harm", async () => {
    const link = linkOf(await ask());
    for (let scan = 0; scan < 5; scan++) expect((await visit(link)).status).toBe(200);
    const right = person(authServer, "ann");
    const page = await right.press(await right.open(link), "sign_in");
    expect(headingOf(await right.press(page, "allow"))).toContain("Connected");
  });
});

describe("runtime", () => {
  const confirmUrl = "http://127.0.0.1:9/confirm";
  let key: string;

  beforeEach(async () => {
    await settle({ consentProof: "runtime" });
    const made = await world.rest("POST", "/api/projects/default/keys", {
      name: "app",
      roles: ["runtime"],
      rights: ["act_for_users"],
      confirmUrl,
      doneUrl: "http://127.0.0.1:9/done?from=consentry",
    });
    key = String(made.body["key"]);
  });

  const askWithKey = async () => {
    const response = await fetch(`${world.url}/api/projects/default/openai/v1/responses`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${key}`,
        "content-type": "application/json",
        "x-ms-user-identity": "ann",
      },
      body: JSON.stringify({ tools: [{ type: "mcp", server_label: "notes", require_approval: "never" }] }),
    });
    return linkOf((await response.json()) as Parameters<typeof consentsOf>[0] as never);
  };
  const confirm = (code: string, user: string, as = key) =>
    world.rest(
      "POST",
      "/api/projects/default/consents:confirm",
      { code, user },
      { authorization: `Bearer ${as}` },
    );
  const codeFor = async (link: string, cookie = "") => {
    const sent = await visit(link, cookie);
    expect(sent.status).toBe(303);
    const to = new URL(sent.headers.get("location") ?? "");
    expect(`${to.origin}${to.pathname}`).toBe(confirmUrl);
    const set = sent.headers.getSetCookie().map((line) => line.split(";")[0] ?? "");
    return { code: to.searchParams.get("consent_code") ?? "", cookie: set[0] ?? cookie };
  };

  test("the runtime says that another person sits there: one dull 403, and the code is spent", async () => {
    const { code } = await codeFor(await askWithKey());
    const wrong = await confirm(code, "bob");
    const spent = await confirm(code, "ann");
    const unknown = await confirm("x".repeat(43), "ann");
    expect([wrong.status, spent.status, unknown.status]).toEqual([403, 403, 403]);
    expect(wrong.body).toEqual(spent.body);
    expect(wrong.body).toEqual(unknown.body);
    expect(await refusals()).toEqual(["other_user"]);
    expect(await grants()).toEqual([]);
  });

  test("the URL that the runtime gets shows Allow in the browser that brought the code, and in no other", async () => {
    const link = await askWithKey();
    const { code, cookie } = await codeFor(link);
    const confirmed = await confirm(code, "ann");
    expect(confirmed.status).toBe(200);
    const next = String(confirmed.body["continue_url"]);
    // The attacker's browser brought the code, and the victim's is sent on with the URL: they do not fit.
    expect((await visit(next, STRANGER)).status).toBe(403);
    expect((await visit(next)).status).toBe(403);
    const right = await visit(next, cookie);
    expect(right.status).toBe(303);
    expect((await visit(right.headers.get("location") ?? "", cookie)).text).toContain("Allow");
    // Once.
    expect((await visit(next, cookie)).status).toBe(403);
    // Another browser with the link alone is sent to the runtime like everybody.
    await codeFor(link);
  });

  test("a caller without the right to act for users confirms nothing", async () => {
    const { code } = await codeFor(await askWithKey());
    const made = await world.rest("POST", "/api/projects/default/keys", {
      name: "plain",
      roles: ["runtime"],
    });
    expect((await confirm(code, "ann", String(made.body["key"]))).status).toBe(403);
  });

  test("at the end the browser is sent to the registered URL, exactly, with what became of it", async () => {
    const link = await askWithKey();
    const { code, cookie } = await codeFor(link);
    const next = String((await confirm(code, "ann")).body["continue_url"]);
    await visit(next, cookie);
    const page = await visit(link, cookie);
    const csrf = /name="csrf" value="([^"]+)"/.exec(page.text)?.[1] ?? "";
    const answer = await fetch(link, {
      method: "POST",
      redirect: "manual",
      headers: { cookie, origin: world.url },
      body: new URLSearchParams({ action: "decline", csrf }),
    });
    const done = new URL(answer.headers.get("location") ?? "");
    expect(answer.status).toBe(303);
    expect(`${done.origin}${done.pathname}`).toBe("http://127.0.0.1:9/done");
    expect(Object.fromEntries(done.searchParams)).toEqual({
      from: "consentry",
      consent_id: expect.stringMatching(/^oauthreq_/),
      status: "declined",
    });
  });
});

test("a proof that is not set up makes the call fail with the setting's name, and no other is used instead", async () => {
  const signIn = { name: "idp", issuer: authServer.issuer, clientId: "client", clientSecret: null };
  await settle({ consentProof: "sign-in", signIn });
  const asked = await ask();
  expect(consentsOf(asked)).toEqual([]);
  expect(asked.output).toMatchObject([
    { type: "mcp_list_tools", error: expect.stringContaining("users.assertedAs") },
  ]);
  await settle({ consentProof: "runtime" });
  expect((await ask()).output).toMatchObject([{ error: expect.stringContaining("confirmUrl") }]);
});

test("a link of one browser cookie is worth nothing with another's: the form is refused", async () => {
  const link = linkOf(await ask());
  const first = createBrowser();
  await first.open(link);
  const page = await visit(link, STRANGER);
  expect(page.status).toBe(403);
  expect(page.text).not.toContain("csrf");
  await allow(person(authServer, "ann"), link).then(
    () => expect.unreachable(),
    (error: unknown) => expect(String(error)).toContain("403"),
  );
});
