// A25: somebody who can write to the database, but has no key: what is sealed opens in its own place alone, and where it does
// not open nothing is sent. And the keyring: a missing key, and a new one; in a vault, one that is added, taken away, or out of reach.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Database from "better-sqlite3";
import type OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { headingOf } from "../../demo/browser.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { failed } from "../helpers/azure-vault.ts";
import { type AzureHere, startAzure } from "../helpers/broker-identity.ts";
import { allow, beginAuthorization, consentsOf, linkOf, person, visit } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { startModernServer } from "../helpers/mcp-servers.ts";
import { scriptedClock } from "../helpers/scripted-clock.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const keyOf = (fill: number) => Buffer.alloc(32, fill).toString("base64");
const OLD = `old:${keyOf(7)}`;
const NEW = `new:${keyOf(8)}`;

let folder: string;
let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "consentry-vault-"));
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  world = await start(OLD);
});
afterEach(async () => {
  await world.stop();
  await server.stop();
  await authServer.stop();
  await rm(folder, { recursive: true, force: true });
});

/** A broker on the one database, with this keyring. Its port, and so its links, are its own. */
const start = (keyring: string) =>
  createWorld({
    env: { CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`, CONSENTRY_KEYRING: keyring },
  });
const restart = async (keyring: string) => {
  await world.stop();
  world = await start(keyring);
};
const sql = (statement: string, ...values: unknown[]) => {
  const database = new Database(join(folder, "consentry.db"));
  try {
    return database.prepare(statement).run(...values).changes;
  } finally {
    database.close();
  }
};
const read = (query: string): unknown => {
  const database = new Database(join(folder, "consentry.db"), { readonly: true });
  try {
    return database.prepare(query).pluck().all();
  } finally {
    database.close();
  }
};

const runtime = (user: string, project = "default") =>
  world.runtime({ user, rights: ["act_for_users"], project });
const tools = (label: string) => [
  { type: "mcp" as const, server_label: label, require_approval: "never" as const },
];
const whoami = (client: OpenAI, label = "notes") =>
  client.responses.create({ tools: tools(label), input: [call(label, "whoami", {})] });
const outputsOf = (response: Parameters<typeof itemsOf>[0]) =>
  itemsOf(response, "mcp_call").map(({ output }) => output);
const connect = async (client: OpenAI, account: string, label = "notes") => {
  const page = await allow(person(authServer, account), linkOf(await whoami(client, label)));
  if (!headingOf(page).startsWith("Connected")) throw new Error(headingOf(page));
};
/** All that anybody was sent: tokens to the server, requests to the token endpoint. */
const sent = () => [
  server.requests.filter(({ authorization }) => authorization !== null).length,
  authServer.tokenRequests.length,
];
const fails = async (client: OpenAI, label = "notes") => {
  const before = sent();
  const response = await whoami(client, label);
  expect(itemsOf(response, "mcp_call")).toMatchObject([
    { status: "failed", output: null, error: { type: "http_error", code: 503 } },
  ]);
  expect(consentsOf(response)).toEqual([]);
  expect(sent()).toEqual(before);
};

describe("a grant's row", () => {
  let ann: OpenAI;
  let bob: OpenAI;
  const at = ({ user, connection = "notes", project = "default" }: Row) =>
    `project = '${project}' AND user_id = 'app:${user}' AND connection_id =
      (SELECT id FROM connections WHERE project = '${project}' AND name = '${connection}')`;
  type Row = { user: string; connection?: string; project?: string };
  /** As a thief would: the box, with the version and issuer that it was sealed for. */
  const copy = (from: Row, to: Row) => {
    const changed = ["sealed", "version", "issuer", "expires_at", "scopes"].map(
      (column) => `${column} = (SELECT ${column} FROM grants WHERE ${at(from)})`,
    );
    expect(sql(`UPDATE grants SET ${changed.join(", ")} WHERE ${at(to)}`)).toBe(1);
  };

  beforeEach(async () => {
    await world.rest("POST", "/api/projects", { name: "other" });
    const properties = { authType: "OAuth2", target: server.url, credentials: {} };
    await world.connect("notes", properties);
    await world.connect("mail", properties);
    await world.connect("notes", properties, "other");
    [ann, bob] = await Promise.all([runtime("ann"), runtime("bob")]);
    await connect(ann, "ann");
    await connect(bob, "bob");
  });

  test("of another user does not open as one's own", async () => {
    copy({ user: "ann" }, { user: "bob" });
    await fails(bob);
    await fails(bob);
    expect(outputsOf(await whoami(ann))).toEqual(["ann"]);
  });

  test("of another connection does not open, though it is the same person's", async () => {
    await connect(ann, "ann@mail", "mail");
    copy({ user: "ann", connection: "mail" }, { user: "ann" });
    await fails(ann);
    expect(outputsOf(await whoami(ann, "mail"))).toEqual(["ann@mail"]);
  });

  test("of another project does not open, though user and connection are called the same", async () => {
    const stranger = await runtime("ann", "other");
    await connect(stranger, "stranger");
    copy({ user: "ann", project: "other" }, { user: "ann" });
    await fails(ann);
    expect(outputsOf(await whoami(stranger))).toEqual(["stranger"]);
  });

  test("of an earlier version does not open as the present one", async () => {
    sql("CREATE TABLE kept AS SELECT sealed FROM grants WHERE user_id = 'app:ann'");
    world.advance(2 * HOUR);
    expect(outputsOf(await whoami(ann))).toEqual(["ann"]);
    expect(sql(`UPDATE grants SET sealed = (SELECT sealed FROM kept) WHERE ${at({ user: "ann" })}`)).toBe(1);
    await fails(ann);
    world.advance(2 * HOUR);
    await fails(ann);
  });

  test("that is damaged does not open", async () => {
    const flipped = "CAST(substr(sealed, 1, length(sealed) - 1) || x'00' AS BLOB)";
    for (const box of [flipped, "x''", "x'01'", "zeroblob(400)"]) {
      sql(`UPDATE grants SET sealed = ${box} WHERE ${at({ user: "ann" })}`);
      await fails(ann);
    }
    expect(outputsOf(await whoami(bob))).toEqual(["bob"]);
  });

  test("of another issuer, or another client, is not used: the person is asked", async () => {
    for (const change of ["issuer = 'https://evil.example'", "client_generation = '9/x'", "resource = 'x'"]) {
      const before = sent();
      sql(`UPDATE grants SET status = 'active', ${change} WHERE ${at({ user: "ann" })}`);
      expect(consentsOf(await whoami(ann))).toHaveLength(1);
      expect(sent()).toEqual(before);
    }
  });

  test("that does not open can still be taken back", async () => {
    copy({ user: "ann" }, { user: "bob" });
    const path = "/api/projects/default/connections/notes/grants/bob";
    expect((await world.rest("DELETE", path)).body).toMatchObject({
      status: "revoked",
      upstream: "impossible",
    });
    expect(authServer.revocations).toEqual([]);
    await connect(bob, "bob");
    expect(outputsOf(await whoami(bob))).toEqual(["bob"]);
  });
});

describe("other boxes", () => {
  const own = (client: TestAuthServer["clients"]["post"]) => ({
    authType: "OAuth2",
    target: server.url,
    credentials: { clientId: client.clientId, clientSecret: client.clientSecret },
    clientAuth: client.auth,
    authorizationUrl: `${authServer.issuer}/auth`,
    tokenUrl: `${authServer.issuer}/token`,
    scopes: ["read"],
  });

  test("a client's secret of another connection is not sent for this one", async () => {
    const { post, basic } = authServer.clients;
    await world.connect("notes", own(post));
    await world.connect("mail", own(basic));
    const stolen = "SELECT sealed FROM connections WHERE name = 'mail'";
    expect(sql(`UPDATE connections SET sealed = (${stolen}) WHERE name = 'notes'`)).toBe(1);
    await fails(await runtime("ann"));
  });

  test("what Allow sealed for one consent does not serve another's callback", async () => {
    await world.connect("notes", { authType: "OAuth2", target: server.url, credentials: {} });
    const [ann, bob] = [
      await beginAuthorization(linkOf(await whoami(await runtime("ann")))),
      await beginAuthorization(linkOf(await whoami(await runtime("bob")))),
    ];
    const stolen = "SELECT sealed_flow FROM consents WHERE user_id = 'app:bob'";
    expect(sql(`UPDATE consents SET sealed_flow = (${stolen}) WHERE user_id = 'app:ann'`)).toBe(1);
    const page = await visit(await authServer.authorize(ann.authorizationUrl.href, "ann"), ann.cookie);
    expect(page.status).toBe(503);
    expect(page.text).not.toContain("Connected");
    expect(authServer.tokenRequests).toEqual([]);
    const other = await visit(await authServer.authorize(bob.authorizationUrl.href, "bob"), bob.cookie);
    expect(other.text).toContain("Connected");
  });
});

describe("the keyring", () => {
  const publicApp = () => ({
    authType: "OAuth2",
    target: server.url,
    credentials: { clientId: authServer.clients.public.clientId },
    authorizationUrl: `${authServer.issuer}/auth`,
    tokenUrl: `${authServer.issuer}/token`,
    scopes: ["read"],
  });
  const callbackHere = async () => {
    const { body } = await world.rest("GET", "/api/projects/default/connections/notes");
    authServer.addRedirectUris(String(body["redirectUrl"]));
  };
  const keysOfGrants = () => read("SELECT CAST(substr(sealed, 3, 3) AS TEXT) FROM grants");

  test("without the key: the call fails, nobody is asked, and with the key all is as before", async () => {
    await world.connect("notes", publicApp());
    await callbackHere();
    await connect(await runtime("ann"), "ann");
    await restart(NEW);
    const ann = await runtime("ann");
    await fails(ann);
    world.advance(2 * HOUR);
    await fails(ann);
    expect(JSON.stringify(world.logs)).not.toContain(keyOf(8));
    await restart(OLD);
    expect(outputsOf(await whoami(await runtime("ann")))).toEqual(["ann"]);
  });

  test("a new key in front opens what the old one sealed, and seals what is new; then the old one may go", async () => {
    await world.connect("notes", publicApp());
    await callbackHere();
    await connect(await runtime("ann"), "ann");
    const { pathname } = new URL(linkOf(await whoami(await runtime("bob"))));
    expect(keysOfGrants()).toEqual(["old"]);

    await restart(`${NEW},${OLD}`);
    await callbackHere();
    const [ann, bob] = [await runtime("ann"), await runtime("bob")];
    expect(outputsOf(await whoami(ann))).toEqual(["ann"]);
    // Sealed anew without anybody's request.
    await expect.poll(keysOfGrants).toEqual(["new"]);
    world.advance(2 * HOUR);
    expect(outputsOf(await whoami(ann))).toEqual(["ann"]);
    expect(keysOfGrants()).toEqual(["new"]);
    // A link of before the change is ours still; its ten minutes are over.
    expect((await visit(`${world.url}${pathname}`)).text).toContain("This link has ended");
    await connect(bob, "bob");
    expect(keysOfGrants()).toEqual(["new", "new"]);

    await restart(NEW);
    expect(outputsOf(await whoami(await runtime("ann")))).toEqual(["ann"]);
    expect(outputsOf(await whoami(await runtime("bob")))).toEqual(["bob"]);
    expect((await visit(`${world.url}${pathname}`)).text).toContain("There is nothing at this link");
  });
});

describe("a keyring in a vault", () => {
  const random = () => Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("base64");
  let azure: AzureHere;
  let clock: ReturnType<typeof scriptedClock>;
  let keyed: Awaited<ReturnType<typeof startModernServer>>;
  let replicas: TestWorld[];

  beforeEach(async () => {
    azure = await startAzure();
    clock = scriptedClock();
    keyed = await startModernServer({ header: { name: "x-api-key", value: "the key" } });
    azure.vault.put("keyring", random());
    await world.stop();
    replicas = [await replica(), await replica()];
    // What the outer hooks stop.
    world = replicas[0] ?? world;
  });
  afterEach(async () => {
    await replicas[1]?.stop();
    await keyed.stop();
    await azure.stop();
  });

  const replica = () =>
    createWorld({
      clock,
      vaults: azure.vaults,
      env: {
        CONSENTRY_DATABASE_URL: `file:${join(folder, "vaulted.db")}`,
        CONSENTRY_KEYRING: `${azure.vault.url}/secrets/keyring`,
      },
    });
  const both = () => {
    const [one, other] = replicas;
    if (!one || !other) throw new Error("there are two");
    return { one, other };
  };
  const connect = (to: TestWorld, name: string) =>
    to.connect(name, {
      authType: "CustomKeys",
      target: keyed.url,
      credentials: { keys: { "x-api-key": "the key" } },
    });
  const echo = async (client: OpenAI, label: string) => {
    const response = await client.responses.create({
      tools: tools(label),
      input: [call(label, "echo", { text: "hello" })],
      store: false,
    });
    const [made] = itemsOf(response, "mcp_call");
    return made?.output ?? made?.error;
  };
  const sealedOf = (name: string): Buffer => {
    const database = new Database(join(folder, "vaulted.db"), { readonly: true });
    try {
      const found = database.prepare("SELECT sealed FROM connections WHERE name = ?").pluck().get(name);
      return Buffer.isBuffer(found) ? found : Buffer.alloc(0);
    } finally {
      database.close();
    }
  };
  const lists = () => azure.vault.asked.filter((path) => path.endsWith("/versions")).length;

  test("is read by every replica: what one seals under a new key, another opens by a look of its own", async () => {
    const { one, other } = both();
    const client = await other.runtime();
    const version = azure.vault.put("keyring", random());
    const before = lists();
    clock.advance(5 * MINUTE);
    await expect.poll(() => lists() - before).toBe(2);
    await expect
      .poll(() => replicas.map(({ logs }) => logs.some(({ event }) => event === "keyring_changed")))
      .toEqual([true, true]);
    const newest = azure.vault.put("keyring", random());
    // One was started anew, as at a roll-out, and seals under what the other has not seen.
    const third = await replica();
    await connect(third, "notes");
    expect(sealedOf("notes").includes(newest)).toBe(true);
    expect(await echo(client, "notes")).toBe("hello");
    expect(other.logs.filter(({ event }) => event === "keyring_changed").at(-1)?.fields["keyIds"]).toEqual([
      newest,
      version,
      expect.any(String),
    ]);
    await third.stop();
    await connect(one, "mail");
    expect(await echo(client, "mail")).toBe("hello");
  });

  test("that is away when a key is missing makes nothing anew and gives nothing up: it opens when it is back", async () => {
    const { one, other } = both();
    const properties = { authType: "OAuth2", target: server.url, credentials: {} };
    const keys = { user: "ann", rights: ["act_for_users"] };
    azure.vault.put("keyring", random());
    const third = await replica();
    await third.connect("notes", properties);
    const here = await third.runtime(keys);
    await allow(person(authServer, "ann"), linkOf(await whoami(here)));
    const there = await other.runtime(keys);
    azure.vault.knobs.answer = () => failed(503, "Unavailable");
    const registered = authServer.registrations.length;
    const response = await whoami(there);
    expect(consentsOf(response)).toEqual([]);
    expect(itemsOf(response, "mcp_call")).toMatchObject([{ status: "failed", error: { code: 503 } }]);
    const path = "/api/projects/default/connections/notes/grants/ann";
    expect((await one.rest("DELETE", path)).body).toMatchObject({ status: "revoked", upstream: "failed" });
    expect(authServer.registrations).toHaveLength(registered);
    expect(authServer.revocations).toEqual([]);
    azure.vault.knobs.answer = () => null;
    clock.advance(10 * MINUTE);
    await expect.poll(() => authServer.revocations.length).toBeGreaterThan(0);
    await third.stop();
  });

  test("is not asked again and again for boxes that name a key of nobody: once a minute, and nothing opens", async () => {
    const { one } = both();
    await connect(one, "notes");
    const client = await one.runtime();
    const database = new Database(join(folder, "vaulted.db"));
    // A box of somebody's own making, under a key that they call as they like.
    const forged = Buffer.concat([Buffer.from([1, 4]), Buffer.from("evil"), Buffer.alloc(60, 1)]);
    database.prepare("UPDATE connections SET sealed = ?").run(forged);
    database.close();
    const before = [lists(), keyed.requests.length];
    for (let n = 0; n < 5; n++)
      expect(await echo(client, "notes")).toMatchObject({
        message: expect.stringContaining('no key "evil"'),
      });
    expect([lists(), keyed.requests.length]).toEqual([(before[0] ?? 0) + 1, before[1]]);
    clock.advance(MINUTE);
    await echo(client, "notes");
    await echo(client, "notes");
    expect(lists()).toBe((before[0] ?? 0) + 2);
  });

  test("that cannot be reached any more serves for a day; then nothing is opened, sealed or sent", async () => {
    const { one } = both();
    await connect(one, "notes");
    await one.connect("asked", { authType: "OAuth2", target: server.url, credentials: {} });
    const client = await one.runtime({ user: "ann", rights: ["act_for_users"] });
    azure.vault.knobs.answer = () => failed(503, "Unavailable");
    clock.advance(24 * HOUR - MINUTE);
    expect(await echo(client, "notes")).toBe("hello");
    clock.advance(6 * MINUTE);
    const before = keyed.requests.length;
    expect(await echo(client, "notes")).toMatchObject({
      code: 503,
      message: expect.stringContaining("was last read 24 hours ago, which is too long"),
    });
    expect((await connect(one, "other")).status).toBe(503);
    const registered = authServer.registrations.length;
    expect(await echo(client, "asked")).toMatchObject({ code: 503 });
    expect(authServer.registrations).toHaveLength(registered);
    expect(keyed.requests).toHaveLength(before);
    expect(one.logs.filter(({ event }) => event === "keyring_unreachable")).toHaveLength(1);
    azure.vault.knobs.answer = () => null;
    clock.advance(MINUTE);
    await expect.poll(() => echo(client, "notes")).toBe("hello");
    expect((await connect(one, "other")).status).toBe(200);
  });
});
