import { decodeJwt } from "jose";
import OpenAI from "openai";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { createUserExchange } from "../../src/core/user-exchange.ts";
import { startHttpServer } from "../helpers/http-server.ts";
import { type IdentityProvider, startIdentityProvider } from "../helpers/identity-provider.ts";
import { startModel } from "../helpers/model.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, clientOf, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

const AUDIENCE = "api://contoso-notes";

let world: TestWorld;
/** Lets in whom the broker vouches for. */
let server: ProtectedServer;
/** Where people sign in. */
let home: IdentityProvider;
const stops: (() => Promise<void>)[] = [];

beforeAll(async () => {
  const model = await startModel(({ messages }) => {
    const said = messages.at(-1);
    return said?.role === "tool" ? { text: "Done." } : { calls: [{ name: "ledger__whoami", arguments: {} }] };
  });
  world = await createWorld({ model });
  home = await startIdentityProvider();
  server = await startProtectedServer({
    authServer: { issuer: world.url, jwksUri: `${world.url}/.well-known/jwks.json` },
  });
  server.knobs.audience = AUDIENCE;
  await trust({});
  stops.push(model.close, home.stop, server.stop, world.stop);
});
afterAll(async () => {
  for (const stop of stops.toReversed()) await stop();
});
afterEach(() => {
  server.calls.length = 0;
  server.requests.length = 0;
});

/** The project believes `home`, and is its client for exchanges. */
const trust = (changes: Record<string, unknown>) =>
  world.rest("PATCH", "/api/projects/default/settings", {
    issuers: [
      {
        type: "oidc",
        name: "home",
        issuer: home.issuer,
        audiences: ["broker-api"],
        algorithms: ["ES256"],
        delegated: { claim: "scope", value: "chat" },
        roles: [{ claim: "scope", value: "chat", roles: ["runtime"] }],
        exchange: { ...home.client, subjectTokenType: "access_token" },
        ...changes,
      },
    ],
  });

const asksAs = (label: string) => ({
  tools: [{ type: "mcp" as const, server_label: label, require_approval: "never" as const }],
  input: [call(label, "whoami", {})],
  store: false,
});

/** What the server's `whoami` answered, or how the call failed. */
async function seen(client: OpenAI, label: string): Promise<string> {
  const [item] = itemsOf(await client.responses.create(asksAs(label)), "mcp_call");
  return item?.output ?? JSON.stringify(item?.error);
}

async function anns(claims: Record<string, unknown> = { scope: "chat" }): Promise<string> {
  return home.userToken("ann", claims);
}

const withToken = (token: string) => clientOf(world.url, token, { project: "default" });

/** A server that lets in people's tokens of an issuer, for an audience. */
async function serverFor(issuer: string, audience: string | null): Promise<ProtectedServer> {
  const made = await startProtectedServer({ authServer: { issuer } });
  if (audience !== null) made.knobs.audience = audience;
  stops.push(made.stop);
  return made;
}

describe("an identity of our own issuer", () => {
  test("the project's calls come as the project, each project as itself", async () => {
    await world.connect("as-project", {
      authType: "ProjectManagedIdentity",
      target: server.url,
      audience: AUDIENCE,
    });
    expect(await seen(await world.runtime(), "as-project")).toBe("project:default");

    await world.rest("POST", "/api/projects", { name: "other" });
    const properties = { authType: "ProjectManagedIdentity", target: server.url, audience: AUDIENCE };
    await world.connect("as-project", properties, "other");
    expect(await seen(await world.runtime({ project: "other" }), "as-project")).toBe("project:other");
  });

  test("an agent with an identity of its own comes as itself, all others as the one they share", async () => {
    await world.connect("ledger", {
      authType: "AgenticIdentityToken",
      target: server.url,
      audience: AUDIENCE,
    });
    const runtime = await world.runtime();
    expect(await seen(runtime, "ledger")).toBe("project:default:agent:shared");

    const definition = {
      kind: "prompt",
      model: "scripted",
      tools: [{ type: "mcp", server_label: "ledger", require_approval: "never" }],
    };
    for (const [name, identity] of [
      ["bookkeeper", "own"],
      ["helper", "shared"],
    ]) {
      expect(
        (await world.rest("POST", "/api/projects/default/agents", { name, identity, definition })).status,
      ).toBe(200);
    }
    server.calls.length = 0;
    for (const name of ["bookkeeper", "helper"]) {
      const body = { agent_reference: { type: "agent_reference", name } };
      await runtime.responses.create({ input: "who are you?" }, { body: { input: "who are you?", ...body } });
    }
    expect(server.calls.map(({ sub }) => sub)).toEqual([
      "project:default:agent:bookkeeper",
      "project:default:agent:shared",
    ]);
  });

  test(":validate looks as the agent that it is asked for", async () => {
    await world.connect("ledger", {
      authType: "AgenticIdentityToken",
      target: server.url,
      audience: AUDIENCE,
    });
    const definition = { kind: "prompt", model: "scripted", tools: [] };
    await world.rest("POST", "/api/projects/default/agents", {
      name: "auditor",
      identity: "own",
      definition,
    });
    const ask = (query: string) =>
      world.rest("POST", `/api/projects/default/connections/ledger:validate${query}`);
    expect((await ask("")).body).toMatchObject({ principal: { subject: "project:default:agent:shared" } });
    expect((await ask("?agent=auditor")).body).toMatchObject({
      ok: true,
      principal: { subject: "project:default:agent:auditor" },
    });
    expect((await ask("?agent=nobody")).status).toBe(404);
    expect((await ask("?agnet=auditor")).status).toBe(400);
  });

  test("an agent that is deleted and made again under its name is another one to the server, at once", async () => {
    await world.connect("ledger", {
      authType: "AgenticIdentityToken",
      target: server.url,
      audience: AUDIENCE,
    });
    const runtime = await world.runtime();
    const definition = {
      kind: "prompt",
      model: "scripted",
      tools: [{ type: "mcp", server_label: "ledger", require_approval: "never" }],
    };
    const objectIds: unknown[] = [];
    for (let round = 0; round < 2; round++) {
      await world.rest("POST", "/api/projects/default/agents", {
        name: "again",
        identity: "own",
        definition,
      });
      const agent_reference = { type: "agent_reference", name: "again" };
      await runtime.responses.create({ input: "who are you?" }, { body: { input: "who?", agent_reference } });
      const [, token = ""] = server.requests.at(-1)?.authorization?.split(" ") ?? [];
      objectIds.push(decodeJwt(token)["oid"]);
      await world.rest("DELETE", "/api/projects/default/agents/again", {});
    }
    expect(server.calls.map(({ sub }) => sub)).toEqual(Array(2).fill("project:default:agent:again"));
    expect(new Set(objectIds).size).toBe(2);
  });

  test("a call that waited does not run as an agent that was made again or disabled meanwhile", async () => {
    await world.connect("ledger", {
      authType: "AgenticIdentityToken",
      target: server.url,
      audience: AUDIENCE,
    });
    const runtime = await world.runtime();
    const path = "/api/projects/default/agents";
    const definition = {
      kind: "prompt",
      model: "scripted",
      tools: [{ type: "mcp", server_label: "ledger", require_approval: "always" }],
    };
    const make = () => world.rest("POST", path, { name: "waiting", identity: "own", definition });
    const agent_reference = { type: "agent_reference", name: "waiting" };
    const nothing = async () => {};
    const again = async () => {
      await world.rest("DELETE", `${path}/waiting`, {});
      world.advance(5);
      await make();
    };
    const disable = () => world.rest("POST", `${path}/waiting:disable`);
    await make();
    // A response that is stored tells of the agent by itself: the whole request is refused.
    for (const { change, store, outcome } of [
      { change: nothing, store: true, outcome: "completed" },
      { change: nothing, store: false, outcome: "completed" },
      { change: again, store: true, outcome: "failed" },
      { change: again, store: false, outcome: "failed" },
      { change: disable, store: true, outcome: "400" },
      { change: disable, store: false, outcome: "failed" },
    ]) {
      await world.rest("POST", `${path}/waiting:enable`);
      server.calls.length = 0;
      const body = { input: "who are you?", agent_reference, store };
      const asked = await runtime.responses.create({ input: "who?" }, { body });
      const [request] = itemsOf(asked, "mcp_approval_request");
      await change();
      const input = [
        { type: "mcp_approval_response" as const, approval_request_id: request?.id ?? "", approve: true },
      ];
      let why = "";
      const answer = await runtime.responses.create({ input }).then(
        (given) => {
          const [item] = itemsOf(given, "mcp_call");
          why = JSON.stringify(item?.error ?? "");
          return item?.status;
        },
        (error: unknown) => (error instanceof OpenAI.APIError ? String(error.status) : error),
      );
      // And for no other reason.
      expect(why).toContain(outcome === "failed" ? "agent waiting" : "");
      expect([outcome, answer, server.calls.length]).toEqual([
        outcome,
        outcome,
        outcome === "completed" ? 1 : 0,
      ]);
    }
  });

  test("its token opens no door of the broker's own, whoever has it", async () => {
    await world.connect("as-project", {
      authType: "ProjectManagedIdentity",
      target: server.url,
      audience: AUDIENCE,
    });
    await seen(await world.runtime(), "as-project");
    const token = server.requests.at(-1)?.authorization?.replace("Bearer ", "") ?? "";
    expect(decodeJwt(token)).toMatchObject({ iss: world.url, sub: "project:default", aud: AUDIENCE });
    for (const path of [
      "/api/projects/default/connections",
      "/api/projects/default/whoami",
      "/api/projects",
    ]) {
      const answer = await world.rest("GET", path, undefined, { authorization: `Bearer ${token}` });
      expect([path, answer.status]).toEqual([path, 401]);
    }
  });

  test("a redirect to somewhere else takes no token along", async () => {
    const thief = await startHttpServer((_request, response) => void response.writeHead(200).end("{}"));
    const lure = await startHttpServer(
      (_request, response) => void response.writeHead(307, { location: `${thief.url}/mcp` }).end(),
    );
    await world.connect("lure", {
      authType: "ProjectManagedIdentity",
      target: `${lure.url}/mcp`,
      audience: AUDIENCE,
    });
    expect(await seen(await world.runtime(), "lure")).toMatch(/redirect/);
    expect(lure.requests[0]?.headers.authorization).toMatch(/^Bearer /);
    expect(thief.sockets).toEqual([]);
    await lure.stop();
    await thief.stop();
  });

  test("a server that expects another audience turns it down, and :validate says what to look at", async () => {
    await world.connect("misnamed", {
      authType: "ProjectManagedIdentity",
      target: server.url,
      audience: "api://misnamed",
    });
    const { body } = await world.rest("POST", "/api/projects/default/connections/misnamed:validate");
    expect(body).toMatchObject({
      ok: false,
      cause: "token_rejected",
      principal: { issuer: world.url, subject: "project:default" },
    });
    expect(JSON.stringify(body)).toContain("api://misnamed");
  });

  test("an identity without a role is told apart from one that is not known", async () => {
    server.knobs.needs["whoami"] = "notes.read";
    await world.connect("as-project", {
      authType: "ProjectManagedIdentity",
      target: server.url,
      audience: AUDIENCE,
    });
    const runtime = await world.runtime();
    const [item] = itemsOf(await runtime.responses.create(asksAs("as-project")), "mcp_call");
    expect(item).toMatchObject({ status: "failed", error: { code: 403 } });
    delete server.knobs.needs["whoami"];
  });
});

describe("the person's own token", () => {
  test("is exchanged at the person's issuer for one that the server takes, and goes nowhere itself", async () => {
    const notes = await serverFor(home.issuer, "api://notes");
    await world.connect("notes", { authType: "UserEntraToken", target: notes.url, audience: "api://notes" });
    const inbound = await anns();
    expect(await seen(withToken(inbound), "notes")).toBe("ann");
    expect(await seen(withToken(await home.userToken("bob", { scope: "chat" })), "notes")).toBe("bob");
    expect(home.tokenRequests.at(-1)?.get("audience")).toBe("api://notes");

    const sent = JSON.stringify(notes.requests) + JSON.stringify(world.logs);
    expect(sent).not.toContain(inbound);
    expect((await world.databaseBytes()).includes(inbound)).toBe(false);
  });

  test("many calls of one person with one token make one exchange", async () => {
    const notes = await serverFor(home.issuer, "api://burst-notes");
    await world.connect("burst-notes", {
      authType: "UserEntraToken",
      target: notes.url,
      audience: "api://burst-notes",
    });
    const client = withToken(await anns());
    const before = home.tokenRequests.length;
    await Promise.all(Array.from({ length: 50 }, () => seen(client, "burst-notes")));
    expect(notes.calls).toHaveLength(50);
    expect(home.tokenRequests.length - before).toBe(1);
  });

  test("may be passed on by an application that has no right to name users", async () => {
    const notes = await serverFor(home.issuer, "api://notes");
    await world.connect("passed-on", {
      authType: "UserEntraToken",
      target: notes.url,
      audience: "api://notes",
    });
    expect(await seen(await world.runtime({ user: await anns() }), "passed-on")).toBe("ann");
  });

  test("gives its person a link to what they connected, and no other person's", async () => {
    const ask = (body: object, headers: Record<string, string>) =>
      world.rest("POST", "/api/projects/default/me-links", body, headers);
    const own = { authorization: `Bearer ${await anns()}` };
    const link = await ask({}, own);
    expect([link.status, typeof link.body["url"]]).toEqual([200, "string"]);
    expect((await ask({ user: "bob" }, own)).status).toBe(403);
    expect((await ask({}, {})).status).toBe(400);
    expect((await ask({}, { "x-ms-user-identity": await anns() })).status).toBe(200);
  });

  test("an application's token, a key alone, and a name without proof are refused before anything runs", async () => {
    const notes = await serverFor(home.issuer, "api://notes");
    await world.connect("persons", {
      authType: "UserEntraToken",
      target: notes.url,
      audience: "api://notes",
    });
    const before = home.tokenRequests.length;
    const asApp = withToken(await home.userToken("app", { roles: "chat", scope: "other" }));
    await expect(asApp.responses.create(asksAs("persons"))).rejects.toMatchObject({ status: 403 });
    for (const client of [
      await world.runtime(),
      await world.runtime({ rights: ["act_for_users"], user: "ann" }),
    ]) {
      await expect(client.responses.create(asksAs("persons"))).rejects.toMatchObject({
        status: 400,
        message: expect.stringContaining("that person's own token") as string,
      });
    }
    expect([notes.requests.length, home.tokenRequests.length - before]).toEqual([0, 0]);
  });

  test("is needed to run a call that waited, which waits on where the answer brings none", async () => {
    const notes = await serverFor(home.issuer, "api://held-notes");
    await world.connect("held-notes", {
      authType: "UserEntraToken",
      target: notes.url,
      audience: "api://held-notes",
    });
    const runtime = await world.runtime({ rights: ["act_for_users"] });
    const passing = { headers: { "x-ms-user-identity": await anns() } };
    for (const store of [true, false]) {
      const body = {
        tools: [{ type: "mcp" as const, server_label: "held-notes", require_approval: "always" as const }],
        input: [call("held-notes", "whoami", {})],
        store,
      };
      const [request] = itemsOf(await runtime.responses.create(body, passing), "mcp_approval_request");
      const input = [
        { type: "mcp_approval_response" as const, approval_request_id: request?.id ?? "", approve: true },
      ];
      await expect(runtime.responses.create({ input })).rejects.toMatchObject({
        status: 400,
        message: expect.stringContaining("that person's own token") as string,
      });
      const [made] = itemsOf(await runtime.responses.create({ input }, passing), "mcp_call");
      expect(made?.output).toBe("ann");
    }
  });

  test("an exchange that the issuer refuses fails that server, with its reason and without the token", async () => {
    const notes = await serverFor(home.issuer, "api://notes");
    await world.connect("refused", {
      authType: "UserEntraToken",
      target: notes.url,
      audience: "api://notes",
    });
    const inbound = await anns();
    home.knobs.error = "access_denied";
    const said = await seen(withToken(inbound), "refused");
    expect(said).toContain("access_denied");
    expect(said).not.toContain(inbound);
    expect(notes.requests).toEqual([]);
  });

  test("is exchanged for nothing that would open the broker itself, however late that audience became one", async () => {
    const thief = await serverFor(home.issuer, "api://later");
    const properties = { authType: "UserEntraToken", target: thief.url, audience: "api://later" };
    await world.connect("later", properties);
    expect(await seen(withToken(await anns()), "later")).toBe("ann");
    await trust({ audiences: ["broker-api", "api://later", "https://later.example"] });
    const before = [thief.requests.length, home.tokenRequests.length];
    expect(await seen(withToken(await anns()), "later")).toContain("audience of this project's callers");
    expect([thief.requests.length, home.tokenRequests.length]).toEqual(before);
    // Said as a resource (RFC 8707) it means the same.
    const asResource = { resource: "https://later.example", overrideReason: "why not" };
    const refused = await world.connect("later", { ...properties, audience: "api://notes", ...asResource });
    expect([refused.status, JSON.stringify(refused.body)]).toEqual([
      400,
      expect.stringContaining("properties.resource") as string,
    ]);
    await trust({});
    expect((await world.connect("later", { ...properties, ...asResource })).status).toBe(200);
    await trust({ audiences: ["broker-api", "https://later.example"] });
    expect(await seen(withToken(await anns()), "later")).toContain("audience of this project's callers");
    await trust({});
  });

  test("exchanged by a client that the project no longer has is of no more use", async () => {
    const notes = await serverFor(home.issuer, "api://notes");
    await world.connect("left", { authType: "UserEntraToken", target: notes.url, audience: "api://notes" });
    const client = withToken(await anns());
    expect(await seen(client, "left")).toBe("ann");
    await trust({ exchange: null });
    expect(await seen(client, "left")).toContain("exchanged by nobody");
    await trust({});
  });

  test("is exchanged by a client with its own secret, though the settings change while the request is under way", async () => {
    const { store } = world.world;
    const wayOf = createUserExchange(world.world);
    const ann = { token: "a.b.c", issuer: "home", tenant: null, expiresAt: Infinity };
    const atFirst = await store.projects.get("default");
    if (!atFirst) throw new Error("no project");
    await world.rest("PATCH", "/api/projects/default/settings", { consentStatus: "completed" });
    expect(await wayOf(atFirst, ann, AbortSignal.timeout(5_000))).toMatchObject({ ok: true });
    await trust({
      exchange: { clientId: "another", clientSecret: "canary", subjectTokenType: "access_token" },
    });
    const found = await wayOf(atFirst, ann, AbortSignal.timeout(5_000));
    expect([found.ok, JSON.stringify(found).includes("canary")]).toEqual([false, false]);
    await trust({});
  });

  test("is not passed on where the issuer gives it back, or another that calls the broker", async () => {
    const notes = await serverFor(home.issuer, "api://lied-notes");
    const properties = { authType: "UserEntraToken", target: notes.url, audience: "api://lied-notes" };
    await world.connect("lied-notes", properties);
    for (const gives of [
      (subjectToken: string) => subjectToken,
      () => home.userToken("ann", { aud: ["api://lied-notes", "broker-api"], scope: "chat" }),
    ]) {
      home.knobs.gives = gives;
      expect(await seen(withToken(await anns()), "lied-notes")).toContain("calls the broker");
    }
    home.knobs.gives = null;
    expect(notes.requests).toEqual([]);
    expect(await seen(withToken(await anns()), "lied-notes")).toBe("ann");
  });

  test("becomes an ID-JAG for a server whose own authorization server trusts the person's issuer", async () => {
    const away = await startIdentityProvider({ trusts: home.issuer });
    stops.push(away.stop);
    const notes = await serverFor(away.issuer, null);
    const { clientId, clientSecret } = away.client;
    const made = await world.connect("managed", {
      authType: "UserEntraToken",
      exchange: "id-jag",
      target: notes.url,
      audience: away.issuer,
      credentials: { clientId, clientSecret },
    });
    expect([made.status, JSON.stringify(made.body).includes(clientSecret)]).toEqual([200, false]);
    expect(await seen(withToken(await anns()), "managed")).toBe("ann");
    expect(home.tokenRequests.at(-1)?.get("requested_token_type")).toMatch(/id-jag$/);
  });
});

describe("whoami", () => {
  test("says as whom each connection would call, for whoever asks", async () => {
    await world.connect("open-door", { target: server.url });
    await world.connect("as-agent", {
      authType: "AgenticIdentityToken",
      target: server.url,
      audience: AUDIENCE,
    });
    const ask = async (query: string, token?: string) => {
      const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
      const answer = await world.rest("GET", `/api/projects/default/whoami${query}`, undefined, headers);
      expect(answer.status).toBe(200);
      return answer.body as unknown as {
        caller: unknown;
        value: { connection: string; presents: unknown }[];
      };
    };
    const whole = await ask("");
    expect(whole.value.find(({ connection }) => connection === "open-door")?.presents).toEqual({
      kind: "nobody",
    });
    expect((await ask("?connection=as-agent")).value).toEqual([
      {
        connection: "as-agent",
        authType: "AgenticIdentityToken",
        presents: {
          kind: "identity",
          of: "agent",
          audience: AUDIENCE,
          principal: {
            issuer: world.url,
            subject: "project:default:agent:shared",
            clientId: "project:default:agent:shared",
            tenant: null,
          },
        },
        fault: null,
      },
    ]);
    const asBookkeeper = await ask("?connection=as-agent&agent=bookkeeper");
    expect(JSON.stringify(asBookkeeper.value)).toContain("project:default:agent:bookkeeper");

    const ann = await ask("", await anns());
    expect(ann.caller).toMatchObject({ user: "home:ann", roles: ["runtime"], userToken: true });
  });

  test("says why a person's token would not be exchanged", async () => {
    const properties = { authType: "UserEntraToken", target: server.url, audience: "api://notes" };
    await world.connect("person", properties);
    const faultFor = async (token: string) => {
      const path = "/api/projects/default/whoami?connection=person";
      const { body } = await world.rest("GET", path, undefined, { authorization: `Bearer ${token}` });
      return (body as unknown as { value: { fault: string | null }[] }).value[0]?.fault;
    };
    const before = home.tokenRequests.length;
    expect(await faultFor(await anns())).toBeNull();
    await trust({ exchange: null });
    expect(await faultFor(await anns())).toContain("exchanged by nobody");
    await trust({});
    expect(home.tokenRequests.length).toBe(before);
  });

  test("an agent or a connection that is not there is not found, and a stranger hears nothing", async () => {
    const get = (query: string, headers = {}) =>
      world.rest("GET", `/api/projects/default/whoami${query}`, undefined, headers);
    expect((await get("?agent=nobody")).status).toBe(404);
    expect((await get("?connection=nothing")).status).toBe(404);
    expect((await get("", { authorization: "Bearer csk_no" })).status).toBe(401);
  });
});

// The last one: the broker's clock goes ahead, and servers on this machine do not follow it.
test("two hundred calls at once carry one token, and a new one comes before it ends", async () => {
  await world.connect("burst", {
    authType: "ProjectManagedIdentity",
    target: server.url,
    audience: "api://burst",
  });
  server.knobs.audience = "api://burst";
  const runtime = await world.runtime();
  const tokens = () => new Set(server.requests.map(({ authorization }) => authorization));
  await Promise.all(Array.from({ length: 200 }, () => seen(runtime, "burst")));
  expect(server.calls).toHaveLength(200);
  expect(tokens().size).toBe(1);
  world.advance(9 * 60_000);
  await seen(runtime, "burst");
  expect(tokens().size).toBe(2);
  server.knobs.audience = AUDIENCE;
});
