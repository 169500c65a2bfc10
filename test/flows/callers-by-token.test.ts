// People and applications call with tokens of real issuers, through the unmodified client, over a real listener.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  authorizationCodeGrant,
  discovery,
  allowInsecureRequests,
  ClientSecretPost,
  randomPKCECodeVerifier,
  calculatePKCECodeChallenge,
  buildAuthorizationUrl,
} from "openid-client";
import { type AzureAuthority, startAzureAuthority } from "../helpers/azure-authority.ts";
import { REDIRECT_URI, startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { say, schemaOf, startModernServer, type ModernServer } from "../helpers/mcp-servers.ts";
import { type ScriptedModel, type ScriptedTurn, startModel } from "../helpers/model.ts";
import { allow, linkOf, person } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { ADMIN_KEY, call, clientOf, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

const TENANT = "aaaabbbb-2222-4333-8444-555555555555";
const API = "https://broker.example/api";

let world: TestWorld;
let authServer: TestAuthServer;
let authority: AzureAuthority;
let server: ProtectedServer;
let open: ModernServer;
let model: ScriptedModel;
let script: ScriptedTurn[] = [];
/** What happens while the tool `pause` runs. */
let meanwhile: () => Promise<unknown> = async () => {};
/** Every token that came in. */
const inbound: string[] = [];

beforeAll(async () => {
  [authServer, authority, model, open] = await Promise.all([
    startAuthServer(),
    startAzureAuthority(),
    startModel(() => script.shift() ?? { status: 500, body: {} }),
    startModernServer({
      tools: [
        {
          name: "pause",
          inputSchema: schemaOf({}, []),
          run: async () => {
            await meanwhile();
            world.advance(1_000);
            return say("paused");
          },
        },
        { name: "note", inputSchema: schemaOf({}, []), run: () => say("noted") },
      ],
    }),
  ]);
  authority.trust();
  server = await startProtectedServer({ authServer });
  world = await createWorld({ model, env: { CONSENTRY_AUDIT: "sync", CONSENTRY_LOG_LEVEL: "debug" } });
  authServer.addRedirectUris(`${world.url}/signin/callback`);
  await world.connect("notes", { authType: "OAuth2", target: server.url, credentials: {} });
  await world.connect("open", { target: open.url });
});
afterAll(async () => {
  await world.stop();
  await Promise.all([server.stop(), authServer.stop(), authority.stop(), open.stop(), model.close()]);
});
beforeEach(async () => {
  meanwhile = async () => {};
  await settle();
});

const clientId = () => authServer.clients.post.clientId;
const signIn = () => ({
  name: "corp",
  issuer: authServer.issuer,
  clientId: clientId(),
  clientSecret: authServer.clients.post.clientSecret,
});
const corp = () => ({
  type: "oidc",
  name: "corp",
  issuer: authServer.issuer,
  audiences: [API],
  delegated: { claim: "scope", value: "read" },
  roles: [{ claim: "client_id", value: clientId(), roles: ["runtime"] }],
});
const entra = () => ({
  type: "entra",
  name: "ms",
  tenants: [TENANT],
  authority: authority.url,
  audiences: [API],
  roles: [{ claim: "roles", value: "Runtime", roles: ["runtime"], rights: ["act_for_users"] }],
});

async function settle(more: object = {}): Promise<void> {
  const settings = {
    issuers: [corp(), entra()],
    signIn: signIn(),
    consentProof: "sign-in",
    users: { assertedAs: null },
  };
  const answer = await world.rest("PATCH", "/api/projects/default/settings", { ...settings, ...more });
  if (answer.status !== 200) throw new Error(JSON.stringify(answer.body));
}

/** What `account` gets who signs in at an application of its own: an access token for us, and an ID token for that application. */
async function signedIn(account: string): Promise<{ access: string; id: string }> {
  const { clientSecret } = authServer.clients.post;
  const config = await discovery(
    new URL(authServer.issuer),
    clientId(),
    { client_secret: clientSecret ?? "" },
    ClientSecretPost(clientSecret ?? ""),
    { execute: [allowInsecureRequests] },
  );
  const verifier = randomPKCECodeVerifier();
  const url = buildAuthorizationUrl(config, {
    redirect_uri: REDIRECT_URI,
    scope: "openid read",
    resource: API,
    code_challenge: await calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
  });
  const callback = await authServer.authorize(url.href, account);
  const tokens = await authorizationCodeGrant(
    config,
    callback,
    { pkceCodeVerifier: verifier },
    { resource: API },
  );
  inbound.push(tokens.access_token, tokens.id_token ?? "");
  return { access: tokens.access_token, id: tokens.id_token ?? "" };
}

async function entraToken(claims: object): Promise<string> {
  const token = await authority.sign(TENANT, { aud: API, azp: "app-1", roles: ["Runtime"], ...claims });
  inbound.push(token);
  return token;
}

const clientBy = (token: string, user?: string) =>
  clientOf(world.url, token, { project: "default", ...(user !== undefined && { user }) });
const whoami = {
  tools: [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }],
  input: [call("notes", "whoami", {})],
};

describe("a person with a token of their own", () => {
  test("connects an account by signing in at the same issuer, and calls with it", async () => {
    const { access } = await signedIn("ann");
    const client = clientBy(access);
    const link = linkOf(await client.responses.create(whoami));
    const browser = person(authServer, "ann");
    const page = await browser.press(await browser.open(link), "sign_in");
    expect(page.html).toContain("corp:ann");
    await browser.press(page, "allow");
    const [done] = itemsOf(await client.responses.create(whoami), "mcp_call");
    expect(done).toMatchObject({ error: null, output: expect.stringContaining("ann") });

    // The same person through a runtime that passes the token on has the same account.
    const runtime = await world.runtime({ user: access });
    const [passed] = itemsOf(await runtime.responses.create(whoami), "mcp_call");
    expect(passed).toMatchObject({ error: null, output: expect.stringContaining("ann") });

    // And nobody else has: not by a token, and not by a name that looks like it.
    const bob = clientBy((await signedIn("bob")).access);
    expect(linkOf(await bob.responses.create(whoami))).toContain("/consent/");
    const named = await world.runtime({ user: "corp:ann", rights: ["act_for_users"] });
    const [refused] = itemsOf(await named.responses.create(whoami), "mcp_call");
    expect(refused).toMatchObject({ error: expect.anything() });
  });

  test("is not let through the consent page as somebody else", async () => {
    const link = linkOf(await clientBy((await signedIn("carol")).access).responses.create(whoami));
    const mallory = person(authServer, "mallory");
    const page = await mallory.press(await mallory.open(link), "sign_in");
    expect(page.status).toBe(403);
  });

  test("shows an ID token of its application, which is not for us", async () => {
    const { id } = await signedIn("ann");
    await expect(clientBy(id).responses.create(whoami)).rejects.toMatchObject({ status: 401 });
    const runtime = await world.runtime({ user: id });
    await expect(runtime.responses.create(whoami)).rejects.toMatchObject({ code: "user_assertion_invalid" });
    // Unless the project takes them, and says which are a person's.
    await settle({ issuers: [{ ...corp(), audiences: [API, clientId()], delegated: { claim: "sub" } }] });
    const taken = await runtime.responses.create({
      tools: [{ ...whoami.tools[0], server_label: "open" }],
      input: [call("open", "note", {})],
    } as never);
    expect(itemsOf(taken, "mcp_call")[0]).toMatchObject({ output: "noted" });
  });

  test("is the user whom callers name, where the setting says so", async () => {
    await settle({ users: { assertedAs: { issuer: "corp", claim: "sub" } } });
    const runtime = await world.runtime({ user: "dora", rights: ["act_for_users"] });
    const link = linkOf(await runtime.responses.create(whoami));
    const browser = person(authServer, "dora");
    await browser.press(await browser.press(await browser.open(link), "sign_in"), "allow");
    const [done] = itemsOf(
      await clientBy((await signedIn("dora")).access).responses.create(whoami),
      "mcp_call",
    );
    expect(done).toMatchObject({ error: null, output: expect.stringContaining("dora") });
  });

  test("of Entra is asked to sign in at Entra, and nowhere else", async () => {
    const client = clientBy(await entraToken({ oid: "o1", scp: "access" }));
    const elsewhere = await client.responses.create(whoami);
    expect(JSON.stringify(elsewhere.output)).toContain("users of the realm corp");
    const issuer = `${authority.url}/${TENANT}/v2.0`;
    await settle({ issuers: [entra()], signIn: { name: "ms", issuer, clientId: "c", clientSecret: null } });
    expect(linkOf(await client.responses.create(whoami))).toContain("/consent/");
  });
});

describe("an application with a token of its own", () => {
  const confirmUrl = "http://127.0.0.1:9/confirm";

  test("sends its people to the URL that its issuer's entry has, and confirms them", async () => {
    await settle({ issuers: [{ ...entra(), confirmUrl }], consentProof: "runtime" });
    const token = await entraToken({ idtyp: "app", oid: "svc" });
    const link = linkOf(await clientBy(token, "eve").responses.create(whoami));
    const sent = await fetch(link, { redirect: "manual" });
    const to = new URL(sent.headers.get("location") ?? "");
    expect(to.origin + to.pathname).toBe(confirmUrl);
    const code = to.searchParams.get("consent_code");
    const path = "/api/projects/default/consents:confirm";
    const confirmed = await world.rest(
      "POST",
      path,
      { code, user: "eve" },
      { authorization: `Bearer ${token}` },
    );
    const cookie = sent.headers.getSetCookie()[0]?.split(";")[0] ?? "";
    const page = await fetch(String(confirmed.body["continue_url"]), { headers: { cookie } });
    expect(await page.text()).toContain("app:eve");
  });

  test("has no way to confirm a person that came with a token", async () => {
    await settle({ issuers: [{ ...entra(), confirmUrl }], consentProof: "runtime" });
    const runtime = clientBy(
      await entraToken({ idtyp: "app" }),
      await entraToken({ oid: "o2", scp: "access" }),
    );
    const answer = await runtime.responses.create(whoami);
    expect(JSON.stringify(answer.output)).toContain("came with a token");
  });
});

describe("while a turn is under way", () => {
  const go = async (token: string, user?: string) => {
    script = [
      { calls: [{ name: "open__pause", arguments: {} }] },
      { calls: [{ name: "open__note", arguments: {} }] },
      { text: "done" },
    ];
    const tools = [{ type: "mcp" as const, server_label: "open", require_approval: "never" as const }];
    const response = await clientBy(token, user).responses.create({ model: "m", input: "go", tools });
    return itemsOf(response, "mcp_call").filter(({ name }) => name === "note")[0];
  };
  const person = () => entraToken({ oid: "o3", scp: "access" });
  const without = () => settle({ issuers: [corp()] });
  const block = (user: string) => () =>
    world.rest("DELETE", `/api/projects/default/users/${encodeURIComponent(user)}`);

  test("nothing taken away: the second call is made", async () => {
    expect(await go(await person())).toMatchObject({ output: "noted" });
  });

  test("the issuer that vouches for the caller is no longer trusted: it is not", async () => {
    meanwhile = without;
    expect(await go(await person())).toMatchObject({ error: expect.anything(), output: null });
  });

  test("the issuer that vouches for the user alone is no longer trusted: it is not", async () => {
    meanwhile = without;
    expect(await go(ADMIN_KEY, await person())).toMatchObject({ error: expect.anything(), output: null });
  });

  test("the tenant that vouches for the user alone is no longer trusted: it is not", async () => {
    const others = { ...entra(), tenants: ["bbbbcccc-2222-4333-8444-555555555555"] };
    meanwhile = () => settle({ issuers: [corp(), others] });
    expect(await go(ADMIN_KEY, await person())).toMatchObject({ error: expect.anything(), output: null });
  });

  test("the caller's person is blocked: it is not, in whosever name", async () => {
    meanwhile = block(`entra:${TENANT}/o3`);
    expect(await go(await person(), "somebody")).toMatchObject({ error: expect.anything(), output: null });
    await expect(go(await person())).rejects.toMatchObject({ status: 403 });
  });
});

test("A16: no token that came in is anywhere afterwards", async () => {
  const { access, id } = await signedIn("zoe");
  const browser = person(authServer, "zoe");
  const link = linkOf(await clientBy(access).responses.create(whoami));
  await allow(browser, (await browser.press(await browser.open(link), "sign_in")).url);
  await clientBy(access).responses.create(whoami);
  await (await world.runtime({ user: access })).responses.create(whoami);
  await clientBy(id)
    .responses.create(whoami)
    .catch(() => {});
  await clientBy(access, id)
    .responses.create(whoami)
    .catch(() => {});
  await clientBy(`${access}x`)
    .responses.create(whoami)
    .catch(() => {});
  const audit = await world.rest("GET", "/api/projects/default/audit?limit=100");

  const logs = world.logs
    .map((line) =>
      JSON.stringify(line, (_, value: unknown) => (value instanceof Error ? String(value.stack) : value)),
    )
    .join("\n");
  const places: [string, { includes: (text: string) => boolean }][] = [
    ["logs", logs],
    ["audit", JSON.stringify(audit.body)],
    ["database", await world.databaseBytes()],
    ["MCP servers", JSON.stringify([server.requests, open.requests])],
    ["model", JSON.stringify(model.requests)],
    [
      "authorization server",
      JSON.stringify(authServer.tokenRequests.map(({ params, headers }) => [params.toString(), headers])),
    ],
    ["Entra", JSON.stringify(authority.requests)],
  ];
  expect(inbound.length).toBeGreaterThan(8);
  for (const [place, kept] of places) {
    const found = inbound
      .flatMap((token) => token.split(".").slice(1))
      .filter((part) => part.length > 60 && kept.includes(part));
    expect([place, found]).toEqual([place, []]);
  }
});
