// Clients that discovery registers: who renews them, when servers are asked again, and what is not kept.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Database from "better-sqlite3";
import type OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { audited, consentsOf, linkOf } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { type ScriptedAuthServer, startScriptedAuthServer } from "../helpers/scripted-auth-server.ts";
import { call, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

const MINUTE = 60_000;
const keyOf = (fill: number) => Buffer.alloc(32, fill).toString("base64");

let folder: string;
let world: TestWorld;
let authServer: ScriptedAuthServer;
let server: ProtectedServer;
let resourceReads: number;

const start = (keyring = `old:${keyOf(7)}`) =>
  createWorld({
    env: {
      CONSENTRY_AUDIT: "sync",
      CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
      CONSENTRY_KEYRING: keyring,
    },
  });
const restart = async (keyring: string) => {
  await world.stop();
  world = await start(keyring);
};

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "consentry-clients-"));
  authServer = await startScriptedAuthServer();
  server = await startProtectedServer({ authServer });
  server.knobs.audience = null;
  resourceReads = 0;
  server.knobs.prm = (document) => {
    resourceReads++;
    return document;
  };
  world = await start();
  await world.connect("notes", { authType: "OAuth2", target: server.url, credentials: {} });
});
afterEach(async () => {
  await world.stop();
  await server.stop();
  await authServer.stop();
  await rm(folder, { recursive: true, force: true });
});

const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];
const runtime = (user: string) => world.runtime({ user, rights: ["act_for_users"] });
const ask = (client: OpenAI) => client.responses.create({ tools, input: [call("notes", "whoami", {})] });
const outputsOf = (response: Parameters<typeof itemsOf>[0]) =>
  itemsOf(response, "mcp_call").map(({ output }) => output);
const connect = async (client: OpenAI, account: string) => {
  const page = await authServer.allow(linkOf(await ask(client)), account);
  if (!page.includes("Connected")) throw new Error(page);
};
const clientsKept = (): unknown => {
  const database = new Database(join(folder, "consentry.db"), { readonly: true });
  try {
    return database.prepare("SELECT client_id FROM registrations ORDER BY created_at, id").pluck().all();
  } finally {
    database.close();
  }
};

describe("a client that is not known any more", () => {
  test("is renewed once, however late another's refusal comes", async () => {
    const [ann, bob] = [await runtime("ann"), await runtime("bob")];
    await connect(ann, "ann");
    await connect(bob, "bob");
    world.advance(61 * MINUTE);
    const asked = Promise.withResolvers<void>();
    const held = Promise.withResolvers<void>();
    let refreshes = 0;
    authServer.knobs.refresh = async () => {
      if (++refreshes === 1) {
        asked.resolve();
        await held.promise;
      }
      return "invalid_client";
    };
    const bobs = ask(bob);
    await asked.promise;
    await connect(ann, "ann");
    expect(outputsOf(await ask(ann))).toEqual(["ann"]);
    held.resolve();
    expect(consentsOf(await bobs)).toHaveLength(1);
    expect(outputsOf(await ask(ann))).toEqual(["ann"]);
    expect(authServer.registrations()).toBe(2);
  });

  test("is renewed once for all who find out at the same time", async () => {
    const people = await Promise.all(["u1", "u2", "u3", "u4", "u5", "u6"].map(runtime));
    for (const [at, client] of people.entries()) await connect(client, `u${at}`);
    world.advance(61 * MINUTE);
    authServer.knobs.refresh = () => "invalid_client";
    const answers = await Promise.all(people.map(ask));
    expect(answers.map((answer) => consentsOf(answer).length)).toEqual([1, 1, 1, 1, 1, 1]);
    expect(authServer.registrations()).toBe(2);
    expect(await audited(world, "client_registered")).toHaveLength(2);
  });

  test("and cannot be renewed: one of its users asks for another, not each", async () => {
    const people = await Promise.all(["u1", "u2", "u3"].map(runtime));
    for (const [at, client] of people.entries()) await connect(client, `u${at}`);
    world.advance(61 * MINUTE);
    authServer.knobs.refresh = () => "invalid_client";
    authServer.knobs.registration = 400;
    for (const client of people) expect(consentsOf(await ask(client))).toEqual([]);
    expect(authServer.registrations()).toBe(2);
  });
});

describe("what failed", () => {
  const reads = () => [resourceReads, authServer.metadataReads(), authServer.registrations()];
  const messageOf = async (client: OpenAI) => JSON.stringify((await ask(client)).output);

  test("is not asked again by each of many calls, at once or in a row", async () => {
    authServer.knobs.registration = 400;
    const ann = await runtime("ann");
    await Promise.all(Array.from({ length: 10 }, () => ask(ann)));
    for (let more = 0; more < 10; more++) {
      expect(await messageOf(ann)).toContain("refused to register a client");
    }
    expect(reads()).toEqual([1, 1, 1]);
    authServer.knobs.registration = 201;
    world.advance(31_000);
    expect(consentsOf(await ask(ann))).toHaveLength(1);
  });

  test("for a moment is asked again after a moment", async () => {
    authServer.knobs.registration = 503;
    const ann = await runtime("ann");
    for (let calls = 0; calls < 3; calls++) expect(consentsOf(await ask(ann))).toEqual([]);
    expect(reads()).toEqual([1, 1, 1]);
    authServer.knobs.registration = 201;
    world.advance(6_000);
    expect(consentsOf(await ask(ann))).toHaveLength(1);
  });

  test("is looked at anew by an admin who validates, and by calls after an edit", async () => {
    authServer.knobs.registration = 400;
    const ann = await runtime("ann");
    await ask(ann);
    authServer.knobs.registration = 201;
    const validated = await world.rest("POST", "/api/projects/default/connections/notes:validate");
    expect(validated.body).toMatchObject({ ok: true });
    expect(consentsOf(await ask(ann))).toHaveLength(1);

    authServer.knobs.registration = 400;
    await world.connect("notes", { authType: "OAuth2", target: `${server.url}?a=1`, credentials: {} });
    expect(consentsOf(await ask(ann))).toEqual([]);
    authServer.knobs.registration = 201;
    await world.connect("notes", { authType: "OAuth2", target: `${server.url}?a=2`, credentials: {} });
    expect(consentsOf(await ask(ann))).toHaveLength(1);
  });

  test("a server that turns every token down has its metadata read once a minute", async () => {
    const ann = await runtime("ann");
    await connect(ann, "ann");
    // Not a token that was made a moment ago.
    world.advance(2 * MINUTE);
    server.knobs.accepts = () => false;
    authServer.knobs.refresh = () => "temporarily_unavailable";
    const before = reads();
    await Promise.all(Array.from({ length: 5 }, () => ask(ann)));
    for (let calls = 0; calls < 5; calls++) await ask(ann);
    expect(reads()).toEqual(before.map((count, at) => (at === 2 ? count : count + 1)));
    world.advance(MINUTE + 1_000);
    await ask(ann);
    expect(reads()).toEqual(before.map((count, at) => (at === 2 ? count : count + 2)));
  });

  test.each([1, 30])(
    "a secret that ends %i s from now is no client, and is not asked for at each call",
    async (seconds) => {
      authServer.knobs.secretExpiresAt = Math.floor(Date.now() / 1000) + seconds;
      const ann = await runtime("ann");
      for (let calls = 0; calls < 3; calls++)
        expect(await messageOf(ann)).toContain("whose secret ends at once");
      expect(authServer.registrations()).toBe(1);
      expect(clientsKept()).toEqual([]);
    },
  );
});

describe("a client whose secret was sealed with a key that is gone", () => {
  test("is made anew, and its people are asked, for that reason", async () => {
    await connect(await runtime("ann"), "ann");
    await restart(`new:${keyOf(8)}`);
    const bob = await runtime("bob");
    expect(consentsOf(await ask(bob))).toHaveLength(1);
    expect(clientsKept()).toEqual(["client-2"]);
    const ann = await runtime("ann");
    expect(consentsOf(await ask(ann))).toHaveLength(1);
    expect(await audited(world, "grant_failed")).toMatchObject([{ detail: { reason: "client_changed" } }]);
    await connect(ann, "ann");
    expect(outputsOf(await ask(ann))).toEqual(["ann"]);
    expect(world.logs.filter(({ event }) => event === "registration_unreadable")).toHaveLength(1);
  });

  test("the first to find out may be somebody with a grant", async () => {
    await connect(await runtime("ann"), "ann");
    await restart(`new:${keyOf(8)}`);
    const ann = await runtime("ann");
    expect(consentsOf(await ask(ann))).toHaveLength(1);
    expect(await audited(world, "grant_failed")).toMatchObject([{ detail: { reason: "client_changed" } }]);
    expect(await audited(world, "consent_opened")).toMatchObject([{ detail: { why: "client_changed" } }, {}]);
  });

  test("an app of the admin's own stays a failure", async () => {
    await world.connect("notes", {
      authType: "OAuth2",
      target: server.url,
      credentials: { clientId: "mine", clientSecret: "a secret of the admin" },
      authorizationUrl: `${authServer.issuer}/authorize`,
      tokenUrl: `${authServer.issuer}/token`,
    });
    await restart(`new:${keyOf(8)}`);
    const answer = await ask(await runtime("ann"));
    expect(itemsOf(answer, "mcp_call")).toMatchObject([{ error: { type: "http_error", code: 503 } }]);
  });
});

describe("a registration that nobody needs", () => {
  test.each(["DELETE", "PUT"])("is not kept when its connection went meanwhile (%s)", async (method) => {
    const path = "/api/projects/default/connections/notes";
    const properties = { category: "RemoteTool", authType: "None", target: server.url };
    authServer.knobs.beforeRegistration = async () => {
      await world.rest(method, path, method === "PUT" ? { properties } : undefined);
    };
    expect(consentsOf(await ask(await runtime("ann")))).toEqual([]);
    expect(authServer.registrations()).toBe(1);
    expect(clientsKept()).toEqual([]);
  });

  test("is one at yet another authorization server, of a server that names a new one each time", async () => {
    const others = await Promise.all(Array.from({ length: 20 }, startScriptedAuthServer));
    try {
      const ann = await runtime("ann");
      const [last, ...first] = [...others, authServer];
      let named = authServer.issuer;
      server.knobs.prm = (document) => ({ ...document, authorization_servers: [named] });
      for (const { issuer } of first) {
        named = issuer;
        expect(consentsOf(await ask(ann))).toHaveLength(1);
        world.advance(6 * MINUTE);
      }
      named = last?.issuer ?? "";
      expect(JSON.stringify((await ask(ann)).output)).toContain("has named 20 authorization servers");
      expect(last?.registrations()).toBe(0);
      expect(clientsKept()).toHaveLength(20);
      // Those before are still good, and an admin who names one begins anew.
      world.advance(6 * MINUTE);
      named = authServer.issuer;
      expect(consentsOf(await ask(ann))).toHaveLength(1);
      named = last?.issuer ?? "";
      const properties = { authType: "OAuth2", target: server.url, credentials: {}, issuer: named };
      await world.connect("notes", properties);
      expect(consentsOf(await ask(ann))).toHaveLength(1);
    } finally {
      for (const other of others) await other.stop();
    }
  });
});
