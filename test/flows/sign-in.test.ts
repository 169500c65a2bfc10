// The sign-in that proves who sits at a consent page: made for one consent and one browser.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { linkOf, submit, visit } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, createWorld, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;

beforeEach(async () => {
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  world = await createWorld({ env: { CONSENTRY_AUDIT: "sync" } });
  authServer.addRedirectUris(`${world.url}/signin/callback`);
  await settle({ issuer: authServer.issuer, claim: "sub" });
  await world.connect("notes", { authType: "OAuth2", target: server.url, credentials: {} });
});
afterEach(async () => {
  await world.stop();
  await server.stop();
  await authServer.stop();
});

const settle = async (assertedAs: object) => {
  const { clientId, clientSecret } = authServer.clients.post;
  const signIn = { name: "corp", issuer: authServer.issuer, clientId, clientSecret };
  const settings = { consentProof: "sign-in", signIn, users: { assertedAs } };
  const { status, body } = await world.rest("PATCH", "/api/projects/default/settings", settings);
  if (status !== 200) throw new Error(JSON.stringify(body));
};
const ask = async (user: string) => {
  const client = await world.runtime({ user, rights: ["act_for_users"] });
  const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];
  return linkOf(await client.responses.create({ tools, input: [call("notes", "whoami", {})] }));
};
const refusals = async () => {
  const { body } = await world.rest("GET", "/api/projects/default/audit?event=consent_refused");
  const { value } = body as unknown as { value: { detail: { why: string } }[] }; // Seam: an answer of ours.
  return value.map(({ detail }) => detail.why);
};

/** A browser that has pressed "Sign in" and is on its way. */
async function begin(link: string) {
  const shown = await visit(link);
  const cookie = shown.headers.getSetCookie()[0]?.split(";")[0] ?? "";
  const csrf = /name="csrf" value="([^"]+)"/.exec(shown.text)?.[1] ?? "";
  const sent = await submit(link, { cookie, form: { action: "sign_in", csrf } });
  return { cookie, url: sent.headers.get("location") ?? "" };
}

test("a callback is worth nothing in another browser, and is not spent there", async () => {
  const link = await ask("ann");
  const { cookie, url } = await begin(link);
  const callback = await authServer.authorize(url, "ann");
  expect((await visit(callback)).status).toBe(403);
  expect((await visit(callback, `consentry-browser=${"A".repeat(43)}`)).status).toBe(403);
  expect(await refusals()).toEqual(["other_browser"]);
  const right = await visit(callback, cookie);
  expect([right.status, right.headers.get("location")]).toEqual([303, link]);
  expect((await visit(link, cookie)).text).toContain("You are signed in as");
  expect((await visit(callback, cookie)).status).toBe(403);
});

test("of two at once with one callback, one is heard", async () => {
  const { cookie, url } = await begin(await ask("ann"));
  const callback = await authServer.authorize(url, "ann");
  const answers = await Promise.all(Array.from({ length: 8 }, () => visit(callback, cookie)));
  expect(answers.map(({ status }) => status).toSorted((one, other) => one - other)).toEqual([
    303, 403, 403, 403, 403, 403, 403, 403,
  ]);
});

test("it holds for ten minutes", async () => {
  const { cookie, url } = await begin(await ask("ann"));
  const callback = await authServer.authorize(url, "ann");
  world.advance(10 * 60_000);
  expect((await visit(callback, cookie)).status).toBe(403);
});

test("it asks the person to choose an account, with state, nonce and PKCE", async () => {
  const { url } = await begin(await ask("ann"));
  const { searchParams } = new URL(url);
  expect(Object.fromEntries(searchParams)).toMatchObject({
    prompt: "select_account",
    scope: "openid email",
    redirect_uri: `${world.url}/signin/callback`,
    code_challenge_method: "S256",
  });
  for (const name of ["state", "nonce", "code_challenge"])
    expect(searchParams.get(name)).toMatch(/^[\w-]{43}$/);
});

test("an answer for another state, or with a foreign iss, proves nobody", async () => {
  const link = await ask("ann");
  const { cookie, url } = await begin(link);
  const callback = await authServer.authorize(url, "ann");
  callback.searchParams.set("iss", "https://evil.example");
  const answer = await visit(callback, cookie);
  expect(answer.status).toBe(400);
  expect(answer.text).toContain("could not be trusted");
  expect(answer.text).not.toContain("evil.example");
  expect((await visit(link, cookie)).text).not.toContain("You are signed in as");
});

describe("an issuer that answers with an error", () => {
  /** The page after the issuer sent a browser back with this, and with words for it. */
  async function sentBack(link: string, error: string) {
    const { cookie, url } = await begin(link);
    const state = new URL(url).searchParams.get("state") ?? "";
    const words = { error_description: "call nobody-calls", error_uri: "https://evil.example" };
    const query = new URLSearchParams({ state, error, ...words, iss: authServer.issuer });
    return visit(`${world.url}/signin/callback?${query}`, cookie);
  }
  const failures = async () => {
    const { body } = await world.rest("GET", "/api/projects/default/audit?event=sign_in_failed");
    return (body as unknown as { value: object[] }).value; // Seam: an answer of ours.
  };

  test.each([
    ["access_denied", "You cancelled the sign-in"],
    ["invalid_request", "did not accept the request"],
    ["unauthorized_client", "as it is set up here"],
    ["server_error", "in trouble"],
    ["temporarily_unavailable", "in trouble"],
    ["login_required", "did not come about"],
  ])("%s is told to the person, and by its code to those who help", async (error, words) => {
    const answer = await sentBack(await ask("ann"), error);
    expect(answer.status).toBe(400);
    expect(answer.text).toContain(words);
    expect(answer.text).toContain("show this page to whoever runs the service");
    expect(answer.text).toMatch(new RegExp(`For whoever helps you: <code>.*${error}`, "s"));
    expect(answer.text).not.toContain("refused");
    const { host } = new URL(authServer.issuer);
    expect(await failures()).toMatchObject([
      { outcome: "failed", user: null, detail: { error, issuer: host, consent: expect.any(String) } },
    ]);
    const logged = world.logs.filter(({ event }) => event === "sign_in_failed");
    expect(logged).toMatchObject([{ fields: { error, issuer: host } }]);
  });

  test("its own words are nowhere", async () => {
    const answer = await sentBack(await ask("ann"), "<b>pwned</b>");
    expect(answer.status).toBe(400);
    expect(await failures()).toMatchObject([{ detail: { error: "authorization_error" } }]);
    const told = [answer.text, JSON.stringify(await failures()), JSON.stringify(world.logs)].join("\n");
    expect(told).not.toMatch(/pwned|nobody-calls|evil/);
  });

  test("because it does not know our prompt is asked without it, and the person gets in", async () => {
    const link = await ask("ann");
    await sentBack(link, "invalid_request");
    const { cookie, url } = await begin(link);
    expect(new URL(url).searchParams.has("prompt")).toBe(false);
    expect((await visit(await authServer.authorize(url, "ann"), cookie)).status).toBe(303);
  });
});

test("an issuer whose metadata cannot be used is told to those who help, too", async () => {
  const link = await ask("ann");
  authServer.knobs.metadata = () => ({});
  const { url } = await begin(link);
  expect(url).toBe("");
  const { body } = await world.rest("GET", "/api/projects/default/audit?event=sign_in_failed");
  expect(body).toMatchObject({ value: [{ detail: { error: "answer_invalid" } }] });
});

test("an e-mail address that is not verified is nobody's", async () => {
  await settle({ issuer: authServer.issuer, claim: "email" });
  const link = await ask("ann@example.com");
  authServer.knobs.claimsOf = () => ({ email: "ann@example.com", email_verified: false });
  const first = await begin(link);
  expect((await visit(await authServer.authorize(first.url, "ann"), first.cookie)).status).toBe(403);
  expect(await refusals()).toEqual(["no_user"]);
  authServer.knobs.claimsOf = () => ({ email: "ann@example.com", email_verified: true });
  const second = await begin(link);
  expect((await visit(await authServer.authorize(second.url, "ann"), second.cookie)).status).toBe(303);
});

test("an administrator who changes the issuer meanwhile ends what is under way", async () => {
  const { cookie, url } = await begin(await ask("ann"));
  const callback = await authServer.authorize(url, "ann");
  const { clientId, clientSecret } = authServer.clients.basic;
  const signIn = { name: "corp", issuer: authServer.issuer, clientId, clientSecret };
  await world.rest("PATCH", "/api/projects/default/settings", { signIn });
  const answer = await visit(callback, cookie);
  expect(answer.status).toBe(400);
  expect(answer.text).toContain("changed by an administrator");
});

test("a person who allowed in one browser goes on in another, and the first one's callback is refused", async () => {
  const link = await ask("ann");
  const signedIn = async () => {
    const { cookie, url } = await begin(link);
    await visit(await authServer.authorize(url, "ann"), cookie);
    return cookie;
  };
  const press = async (cookie: string) => {
    const csrf = /name="csrf" value="([^"]+)"/.exec((await visit(link, cookie)).text)?.[1] ?? "";
    return (await submit(link, { cookie, form: { action: "allow", csrf } })).headers.get("location") ?? "";
  };
  const first = await signedIn();
  const callback = await authServer.authorize(await press(first), "ann");

  const second = await signedIn();
  expect((await visit(link, second)).text).toContain("You are signed in as");
  expect((await visit(link, first)).text).not.toContain("You are signed in as");
  const exchanges = authServer.countTokenRequests("authorization_code");
  for (const cookie of [first, second]) expect((await visit(callback, cookie)).status).toBe(403);
  expect(authServer.countTokenRequests("authorization_code")).toBe(exchanges);
  const done = await visit(await authServer.authorize(await press(second), "ann"), second);
  expect(done.text).toContain("Connected to notes");
});

test("a person who goes on in another browser while the code is exchanged gets that one's account", async () => {
  const link = await ask("ann");
  const signedIn = async () => {
    const { cookie, url } = await begin(link);
    await visit(await authServer.authorize(url, "ann"), cookie);
    return cookie;
  };
  const first = await signedIn();
  const csrf = /name="csrf" value="([^"]+)"/.exec((await visit(link, first)).text)?.[1] ?? "";
  const sent = await submit(link, { cookie: first, form: { action: "allow", csrf } });
  const callback = await authServer.authorize(sent.headers.get("location") ?? "", "ann");
  const { cookie: second, url } = await begin(link);
  const proof = await authServer.authorize(url, "ann");
  let isExchanging = () => {};
  const { oauth } = world.world;
  const { exchangeCode } = oauth;
  const exchanging = new Promise<void>((resolve) => {
    isExchanging = resolve;
  });
  let goOn = () => {};
  const held = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  oauth.exchangeCode = async (request, signal) => {
    isExchanging();
    await held;
    return exchangeCode(request, signal);
  };
  const finishing = visit(callback, first);
  await exchanging;
  await visit(proof, second);
  goOn();
  expect((await finishing).text).not.toContain("Connected");
  expect(authServer.revocations).toHaveLength(1);
  expect((await visit(link, second)).text).toContain("You are signed in as");
});
