// What takes people's accounts back at once, whatever becomes of the process that does it, and that the authorization server
// is told in the end.
import type OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createAuthorizationDesk } from "../../src/core/authorization.ts";
import { createDisconnect } from "../../src/core/disconnect.ts";
import { BrokerError } from "../../src/core/errors.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { allow, audited, beginAuthorization, consentsOf, linkOf, person, visit } from "../helpers/people.ts";
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
  await world.connect("notes", discovered());
  ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
  await connect();
});
afterEach(async () => {
  await world.stop();
  await server.stop();
  await authServer.stop();
});

const PATH = "/api/projects/default/connections/notes";
const discovered = () => ({ authType: "OAuth2", target: server.url, credentials: {} });
const moved = () => ({ ...discovered(), target: `${server.url}?x=1` });
const whoami = () =>
  ann.responses.create({
    tools: [{ type: "mcp", server_label: "notes", require_approval: "never" }],
    input: [call("notes", "whoami", {})],
  });
const connect = async () => {
  await allow(person(authServer, "ann"), linkOf(await whoami()));
  const [output] = itemsOf(await whoami(), "mcp_call").map((item) => item.output);
  if (output !== "ann") throw new Error("ann is not connected");
};
const grants = async () => (await world.rest("GET", `${PATH}/grants`)).body["value"] as unknown as object[];
const untold = async () => (await world.world.store.grants.unrevoked({ after: null, limit: 9 })).rows.length;
/** As far as `work` comes when the process dies as soon as its first change is there. */
async function dyingAfter(work: () => Promise<unknown>): Promise<void> {
  const { grants: store } = world.world.store;
  const { unrevoked } = store;
  store.unrevoked = () => Promise.reject(new BrokerError("unavailable", { what: "database" }));
  await work();
  store.unrevoked = unrevoked;
}
const sweep = () => createDisconnect(world.world, createAuthorizationDesk(world.world)).sweep();
const tokenTold = async () => {
  expect(authServer.revocations).toHaveLength(1);
  return authServer.introspect(authServer.revocations[0]?.get("token") ?? "");
};

const block = () => world.rest("DELETE", "/api/projects/default/users/ann");
const ways: [string, string, () => Promise<unknown>][] = [
  ["its user is blocked", "user_blocked", block],
  ["its connection means something else", "connection_changed", () => world.connect("notes", moved())],
  ["its connection is deleted", "connection_deleted", () => world.rest("DELETE", PATH)],
];

describe.each(ways)("when %s", (_, why, take) => {
  test("the authorization server that discovery found is told", async () => {
    await take();
    expect(await tokenTold()).toEqual({ active: false });
    expect(await audited(world, "grant_revoked")).toMatchObject([
      { user: "app:ann", connection: "notes", detail: { why } },
    ]);
    expect(await untold()).toBe(0);
  });

  test("it is over at once even if the process dies then, and the sweep tells", async () => {
    await dyingAfter(take);
    expect(await audited(world, "grant_revoked")).toMatchObject([{ user: "app:ann", detail: { why } }]);
    expect([authServer.revocations.length, await untold()]).toEqual([0, 1]);
    await sweep();
    expect(await tokenTold()).toEqual({ active: false });
    expect(await untold()).toBe(0);
  });
});

test("a disconnect ends the consent that would bring the account back, and its tokens are given back", async () => {
  const record = await world.world.store.connections.get("default", "notes");
  const key = {
    project: "default",
    connectionId: record?.connection.id ?? "conn_",
    user: "app:ann",
  } as const;
  await world.world.store.grants.fail(key, 1, "invalid_grant", []);
  const { cookie, authorizationUrl } = await beginAuthorization(linkOf(await whoami()));
  const callback = await authServer.authorize(authorizationUrl.href, "ann");
  const exchanges = authServer.countTokenRequests("authorization_code");
  authServer.knobs.tokenLatencyMs = 300;
  const finishing = visit(callback, cookie);
  await expect.poll(() => authServer.countTokenRequests("authorization_code")).toBe(exchanges + 1);
  expect((await world.rest("DELETE", `${PATH}/grants/ann`)).status).toBe(200);
  expect((await finishing).text).toContain("The permission was taken back while you were on your way.");
  expect(await grants()).toMatchObject([{ user: "app:ann", status: "revoked" }]);
  expect(authServer.revocations).toHaveLength(2);
  for (const told of authServer.revocations)
    expect(await authServer.introspect(told.get("token") ?? "")).toEqual({ active: false });
  authServer.knobs.tokenLatencyMs = 0;
  await connect();
});

test("a user who is blocked and restored is asked again, whatever died in between", async () => {
  await dyingAfter(block);
  await world.rest("POST", "/api/projects/default/users/ann:restore");
  expect(consentsOf(await whoami())).toHaveLength(1);
});

test("an account of the new settings stays, however late those of the old ones are told of", async () => {
  await dyingAfter(() => world.connect("notes", moved()));
  await connect();
  await sweep();
  expect(await grants()).toMatchObject([{ user: "app:ann", status: "active" }]);
  expect(itemsOf(await whoami(), "mcp_call")).toMatchObject([{ output: "ann" }]);
});

describe("what a process has left after an edit is told by the sweep", () => {
  const post = () => {
    const { clientId, clientSecret } = authServer.clients.post;
    return { clientAuth: "post", credentials: { clientId, clientSecret } };
  };
  const own = () => ({ ...discovered(), ...post(), issuer: authServer.issuer });
  const custom = () => ({
    ...discovered(),
    ...post(),
    authorizationUrl: `${authServer.issuer}/auth`,
    tokenUrl: `${authServer.issuer}/token`,
  });
  const edited = async (of: Record<string, unknown>, to: Record<string, unknown>) => {
    await world.connect("notes", { authType: "None", target: server.url });
    authServer.revocations.splice(0);
    const { body } = await world.connect("notes", of);
    authServer.addRedirectUris(String(body["redirectUrl"]));
    await connect();
    await dyingAfter(() => world.connect("notes", to));
    expect(authServer.revocations).toEqual([]);
    await sweep();
    expect(await untold()).toBe(0);
  };

  test("with a client of the admin's own that is still the connection's", async () => {
    await edited(own(), { ...own(), target: `${server.url}?x=1` });
    expect(await tokenTold()).toEqual({ active: false });
  });

  test("with the operator's, as long as it is the same one", async () => {
    const { clientAuth, credentials } = post();
    const { authorizationUrl, tokenUrl } = custom();
    const targets = [new URL(server.url).host];
    const made = await world.rest("PUT", "/api/connectors/shared", {
      ...credentials,
      clientAuth,
      authorizationUrl,
      tokenUrl,
      targets,
    });
    authServer.addRedirectUris(String(made.body["redirectUrl"]));
    const of = { authType: "OAuth2", target: server.url, connectorName: "shared" };
    await edited(of, { ...of, target: `${server.url}?x=1` });
    expect(await tokenTold()).toEqual({ active: false });
  });

  const lost: [string, () => Record<string, unknown>, () => Record<string, unknown>][] = [
    ["another client of the admin's own", own, () => ({ ...own(), ...basic() })],
    ["no client of the admin's own any more", own, discovered],
    ["an app whose client was edited", custom, () => ({ ...custom(), ...basic() })],
    ["no OAuth at all", custom, () => ({ authType: "None", target: server.url })],
  ];
  const basic = () => {
    const { clientId, clientSecret } = authServer.clients.basic;
    return { clientAuth: "basic", credentials: { clientId, clientSecret } };
  };
  test.each(lost)("but not with %s, whose secret is gone", async (_, of, to) => {
    await edited(of(), to());
    expect(authServer.revocations).toEqual([]);
    expect(await grants()).toMatchObject([{ user: "app:ann", status: "revoked", reason: "impossible" }]);
  });
});

test("a database that is away for a moment gives no account up: its server is told later", async () => {
  const { registrations } = world.world.store;
  const { get } = registrations;
  // As the adapters of databases say it.
  const away = new BrokerError("unavailable", { what: "database", passing: true });
  registrations.get = () => Promise.reject(away);
  const { body } = await world.rest("DELETE", `${PATH}/grants/ann`);
  expect(body).toMatchObject({ status: "revoked", upstream: "failed" });
  expect(await untold()).toBe(1);
  registrations.get = get;
  await sweep();
  expect(await tokenTold()).toMatchObject({ active: false });
});
