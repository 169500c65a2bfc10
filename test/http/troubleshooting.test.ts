// What docs/azure.md says under Troubleshooting, reproduced: each symptom, what :validate answers, and that the page says it in the
// same words. What needs Entra is in troubleshooting-entra.test.ts.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { createTestApp, type TestApp } from "../helpers/app.ts";
import { type HttpServer, startHttpServer } from "../helpers/http-server.ts";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import { readPage } from "../helpers/page.ts";
import { linkOf } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { type ScriptedAuthServer, startScriptedAuthServer } from "../helpers/scripted-auth-server.ts";
import { startTokenIssuer, type TokenIssuer } from "../helpers/token-issuer.ts";
import { connectIn, validateIn, type Validation, wordsMissing } from "../helpers/validation.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

type Body = Record<string, unknown>;

const page = readPage("docs/azure.md");
const MINUTE = 60_000;
const base = "/api/projects/default";

let authServer: ScriptedAuthServer;
/** Lets in people with a token of that server. */
let people: ProtectedServer;
/** Wants the header `x-key: k`. */
let keyed: ModernServer;
/** Knows everybody who brings a token, and lets nobody in. */
let closed: HttpServer;
let issuer: TokenIssuer;
let world: TestWorld;

beforeAll(async () => {
  authServer = await startScriptedAuthServer();
  people = await startProtectedServer({ authServer });
  people.knobs.audience = null;
  keyed = await startModernServer({ header: { name: "x-key", value: "k" } });
  closed = await startHttpServer(({ headers }, response) => {
    response.writeHead(headers.authorization === undefined ? 401 : 403).end();
  });
  issuer = await startTokenIssuer();
  world = await createWorld();
});
afterAll(async () => {
  for (const each of [world, people, keyed, closed, issuer, authServer]) await each.stop();
});
afterEach(async () => {
  authServer.knobs.refresh = () => null;
  await world.rest("PUT", `${base}/settings`, {});
});

const oauth = (over: Body = {}) => ({
  authType: "OAuth2",
  target: people.url,
  credentials: { clientId: "app-1", clientSecret: "x" },
  clientAuth: "post",
  authorizationUrl: `${authServer.issuer}/authorize`,
  tokenUrl: `${authServer.issuer}/token`,
  ...over,
});

const ask = async (label: string, user: string) => {
  const client = await world.runtime({ rights: ["act_for_users"], user });
  return client.responses.create({
    tools: [{ type: "mcp", server_label: label, require_approval: "never" }],
    input: [call(label, "whoami", {})],
  });
};

async function connected(name: string, user: string, properties = oauth()): Promise<void> {
  await connectIn(world, name, properties);
  expect(await authServer.allow(linkOf(await ask(name, user)), user)).toContain("Connected");
}

describe("(a) no consent request, and one was expected", () => {
  test("the user has an account already", async () => {
    await connected("has-one", "ann");
    const found = await validateIn(world, "has-one", "ann");
    expect(found).toMatchObject({
      ok: true,
      cause: "none",
      authorization: { grant: "active", grantReason: null },
    });
    expect(
      wordsMissing(page, found.notes, "Nobody is asked for consent: app:ann has connected an account"),
    ).toEqual([]);
    // Nobody else's.
    expect((await validateIn(world, "has-one", "bob")).authorization).toMatchObject({ grant: "none" });
  });

  test("the connection has a key, or nothing, for all users", async () => {
    await connectIn(world, "by-key", {
      authType: "CustomKeys",
      target: keyed.url,
      credentials: { keys: { "x-key": "k" } },
    });
    const found = await validateIn(world, "by-key", "ann");
    expect(found).toMatchObject({ ok: true, cause: "none", authorization: null });
    expect(
      wordsMissing(
        page,
        found.notes,
        "Nobody is asked for consent: authType CustomKeys sends one key for all users",
      ),
    ).toEqual([]);
    await connectIn(world, "by-none", { target: keyed.url });
    expect((await validateIn(world, "by-none")).notes.join(" ")).toContain(
      "authType None sends no credentials",
    );
  });

  test("the request names no user, and such a call is refused", async () => {
    await connectIn(world, "no-user", oauth());
    const found = await validateIn(world, "no-user");
    expect(found).toMatchObject({ ok: true, authorization: { grant: null, grantReason: null } });
    expect(wordsMissing(page, found.notes, "This request names no user")).toEqual([]);
    const client = await world.runtime();
    const asked = client.responses.create({ tools: [{ type: "mcp", server_label: "no-user" }] });
    await expect(asked).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining("act_for_users") as string,
    });
  });

  test("nobody could be proven to be the user", async () => {
    await connectIn(world, "no-proof", oauth());
    await world.rest("PATCH", `${base}/settings`, { consentProof: "runtime" });
    const found = await validateIn(world, "no-proof", "ann");
    expect(found).toMatchObject({
      ok: false,
      cause: "authorization",
      hints: [expect.stringContaining("confirmUrl")],
    });
    expect(wordsMissing(page, found.message, "nobody could be proven to be that user")).toEqual([]);
  });

  test("the broker would ask, and it is the client that does not show it", async () => {
    await connectIn(world, "ready", oauth());
    const found = await validateIn(world, "ready", "ann");
    expect(found).toMatchObject({ ok: true, cause: "none", authorization: { grant: "none" } });
    expect(wordsMissing(page, found.message, "users are asked for their consent at the first call")).toEqual(
      [],
    );
    const open = await startModernServer();
    await connectIn(world, "open", oauth({ target: open.url }));
    expect(
      wordsMissing(
        page,
        (await validateIn(world, "open", "ann")).notes,
        "The server lists its tools without a token, too.",
      ),
    ).toEqual([]);
    await open.stop();
  });
});

describe("(b) the person consented, and calls fail", () => {
  test("the service does not let the person in", async () => {
    await connected("no-access", "ann", oauth({ target: `${closed.url}/mcp` }));
    const found = await validateIn(world, "no-access", "ann");
    expect(found).toMatchObject({ ok: false, cause: "forbidden", authorization: { grant: "active" } });
    expect(
      wordsMissing(
        page,
        found,
        "knows the person and does not allow it (403)",
        "The person needs access in the service itself",
      ),
    ).toEqual([]);
  });

  test("the caller's token is given no role in the project", async () => {
    const roles = [
      { claim: "roles", value: "Broker.User", roles: ["runtime"] },
      { claim: "groups", value: "g1", roles: ["runtime"] },
    ];
    const entry = { type: "oidc", name: "corp", issuer: issuer.issuer, audiences: ["broker"], roles };
    await world.rest("PATCH", `${base}/settings`, { issuers: [entry] });
    const list = async (claims: Body) => {
      const authorization = `Bearer ${await issuer.sign({ sub: "svc", azp: "app", ...claims })}`;
      return world.rest("GET", `${base}/connections`, undefined, { authorization });
    };
    expect((await list({ roles: ["Broker.User"] })).status).toBe(200);
    const none = await list({ roles: ["broker.user"] });
    expect(none.status).toBe(403);
    expect(
      wordsMissing(page, none.body, "Its token is given no role by the project's setting issuers"),
    ).toEqual([]);
    expect(JSON.stringify(none.body)).toContain("needs role");
    const overage = await list({ _claim_names: { groups: "src1" } });
    expect(wordsMissing(page, overage.body, "map app roles instead")).toEqual([]);
  });
});

describe("(c) the key is wrong, or in the wrong header", () => {
  const withKeys = async (keys: Record<string, string> | null) => {
    await connectIn(
      world,
      "keyed",
      keys === null
        ? { target: keyed.url }
        : { authType: "CustomKeys", target: keyed.url, credentials: { keys } },
    );
    return validateIn(world, "keyed");
  };

  test.each([
    [null, "key_missing", "wants credentials (401); this connection sends none"],
    [{ "x-key": "old" }, "key_rejected", "does not accept the credentials (401)"],
    [{ "x-api-key": "k" }, "key_rejected", "does not accept the credentials (401)"],
    [{ Authorization: "k" }, "key_format", "the credentials do not have the usual form"],
    [{ "x-key": "Bearer k" }, "key_format", "the credentials do not have the usual form"],
  ])("%j", async (keys, cause, words) => {
    const found = await withKeys(keys);
    expect(found).toMatchObject({ ok: false, cause });
    expect(wordsMissing(page, found.message, words)).toEqual([]);
  });

  test("and mended it works", async () =>
    expect(await withKeys({ "x-key": "k" })).toMatchObject({ ok: true }));
});

describe("(e) calls wait for approval, or are refused by the tool settings", () => {
  let app: TestApp;
  let server: ModernServer;
  let admin: string;
  beforeAll(async () => {
    app = await createTestApp();
    server = await startModernServer();
    // In the place of the operator's key, which has every role on loopback.
    admin = (await app.makeKey({ project: null, roles: ["admin"] })).key;
  });
  afterAll(async () => {
    await server.stop();
    await app.stop();
  });
  const found = async (properties: Body): Promise<Validation> => {
    const body = { properties: { authType: "None", target: server.url, ...properties } };
    const put = await app.send("PUT", `${base}/connections/held`, { key: admin, body });
    expect(put.status).toBe(200);
    const answer = await app.send("POST", `${base}/connections/held:validate`, { key: admin });
    return answer.body as Validation;
  };

  test("all of them wait for a role that nobody has, until a key or an issuer gives it", async () => {
    const held = { requireApproval: "always", approvers: "role" };
    const nobody = await found(held);
    expect(nobody).toMatchObject({ ok: false, cause: "no_approver" });
    const words = [
      "Every tool needs approval by the role approver",
      "no key and no issuer of this project gives",
    ];
    expect(wordsMissing(page, nobody.message, ...words)).toEqual([]);

    const roles = [{ claim: "roles", value: "Broker.Approver", roles: ["approver"] }];
    const entry = { type: "oidc", name: "corp", issuer: issuer.issuer, audiences: ["broker"], roles };
    const settle = (issuers: Body[]) =>
      app.send("PATCH", `${base}/settings`, { key: admin, body: { issuers } });
    expect((await settle([entry])).status).toBe(200);
    expect(await found(held)).toMatchObject({ ok: true, cause: "none" });
    await settle([]);
    await app.makeKey({ roles: ["approver"] });
    expect(await found(held)).toMatchObject({ ok: true, cause: "none" });
  });

  test("some of them wait, or it is left to requests", async () => {
    const waiting = await found({ requireApproval: "always" });
    expect(wordsMissing(page, waiting.notes, "Calls wait for approval: ")).toEqual([]);
    const left = await found({});
    const words = "each request's own require_approval decides; left out, it is always";
    expect(wordsMissing(page, left.notes, words)).toEqual([]);
  });

  test("a tool changed, is hidden, or is not there", async () => {
    const [first] = server.tools;
    if (!first) throw new Error("the server has no tools");
    await found({});
    const { description } = first;
    first.description = "Another one";
    const changed = await app.send("POST", `${base}/connections/held:validate`, { key: admin });
    expect(wordsMissing(page, changed.body, "Changed since they were accepted")).toEqual([]);
    first.description = description ?? "";

    const hidden = await found({ allowedTools: ["none-of-them"] });
    expect(hidden).toMatchObject({ ok: false, cause: "all_hidden" });
    expect(wordsMissing(page, hidden.message, "allowedTools hides all of them")).toEqual([]);
    const tools = server.tools.splice(0);
    const empty = await found({});
    expect(empty).toMatchObject({ ok: true, cause: "no_tools" });
    expect(wordsMissing(page, empty.message, "The server answered and listed no tools.")).toEqual([]);
    server.tools.push(...tools);
  });
});

// The last ones: the broker's clock goes ahead.
describe("(g) tokens end, and cannot be renewed", () => {
  test("the refresh token is taken no longer", async () => {
    await connected("dead", "ann");
    world.advance(61 * MINUTE);
    authServer.knobs.refresh = () => "invalid_grant";
    const found = await validateIn(world, "dead", "ann");
    expect(found).toMatchObject({
      ok: false,
      cause: "authorization",
      authorization: { grant: "needs_consent", grantReason: "invalid_grant" },
    });
    expect(wordsMissing(page, found.message, "can be used no longer")).toEqual([]);
    expect(found.message).toContain("(invalid_grant)");
    const again = await validateIn(world, "dead", "ann");
    expect(again).toMatchObject({
      ok: true,
      cause: "none",
      authorization: { grant: "needs_consent", grantReason: "invalid_grant" },
    });
    expect(wordsMissing(page, again.notes, "The next call asks app:ann for consent again")).toEqual([]);
    expect(linkOf(await ask("dead", "ann"))).toContain("/consent/");
  });

  test("the app's secret has ended: it is not the person's fault, and it does not pass", async () => {
    await connected("ended", "ann");
    world.advance(61 * MINUTE);
    authServer.knobs.refresh = () => "invalid_client";
    const found = await validateIn(world, "ended", "ann");
    expect(found).toMatchObject({
      ok: false,
      cause: "authorization",
      hints: [],
      authorization: { grant: "active" },
    });
    expect(wordsMissing(page, found.message, "It takes our client no longer")).toEqual([]);
    const [failed] = itemsOf(await ask("ended", "ann"), "mcp_call");
    expect(failed).toMatchObject({
      error: { code: 502, message: expect.stringContaining("credentials.clientSecret") as string },
    });
  });

  test("the authorization server is in trouble, which passes", async () => {
    await connected("busy", "ann");
    world.advance(61 * MINUTE);
    authServer.knobs.refresh = () => "temporarily_unavailable";
    const found = await validateIn(world, "busy", "ann");
    expect(found).toMatchObject({ ok: false, cause: "authorization", authorization: { grant: "active" } });
    expect(wordsMissing(page, found.message, "cannot be used right now")).toEqual([]);
    authServer.knobs.refresh = () => null;
    world.advance(MINUTE);
    expect(await validateIn(world, "busy", "ann")).toMatchObject({ ok: true });
  });
});
