// Clients that discovery registers: who renews them, when servers are asked again, and what is not kept.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
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

const start = (keyring = `old:${keyOf(7)}`) =>
  createWorld({
    env: {
      CONSENTRY_AUDIT: "sync",
      CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
      CONSENTRY_KEYRING: keyring,
    },
  });

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "consentry-clients-"));
  authServer = await startScriptedAuthServer();
  server = await startProtectedServer({ authServer });
  server.knobs.audience = null;
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
});
