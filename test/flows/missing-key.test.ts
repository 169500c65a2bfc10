// A key that was taken out too early: what it sealed is refused, each thing by itself and by the key's name; everything else goes on. With the
// key back, everything opens, and is sealed anew.
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { type ModernServer, say, schemaOf, startModernServer } from "../helpers/mcp-servers.ts";
import { allow, beginAuthorization, linkOf, person, visit } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, clientOf, createWorld, itemsOf, type TestWorld } from "../helpers/world.ts";

const key = (id: string) => `${id}:${randomBytes(32).toString("base64")}`;
const [old, next] = [key("old"), key("next")];
const NAMED = 'the keyring has no key "old", which must be put back';

let folder: string;
let authServer: TestAuthServer;
let notes: ProtectedServer;
let server: ModernServer;
let runtimeKey: string;
let made: Awaited<ReturnType<typeof makeEverything>>;

const start = (keyring: string) =>
  createWorld({
    env: {
      CONSENTRY_DATABASE_URL: `file:${join(folder, "consentry.db")}`,
      CONSENTRY_KEYRING: keyring,
    },
  });
const clientFor = (world: TestWorld, user = "ann") =>
  clientOf(world.url, runtimeKey, { project: "default", user });
const ask = (client: OpenAI, label: string, name: string, more = {}) =>
  client.responses.create({
    tools: [{ type: "mcp", server_label: label, require_approval: "never" }],
    input: [call(label, name, {}, `call_${randomBytes(8).toString("hex")}`)],
    ...more,
  });
const work = (client: OpenAI, label: string) => ask(client, label, "work");
const outcomeOf = (response: Awaited<ReturnType<typeof ask>>) => {
  const [one] = itemsOf(response, "mcp_call");
  return one?.output ?? JSON.stringify(one?.error ?? response.output);
};
const problemOf = (promise: Promise<unknown>) =>
  promise.then(
    () => "done",
    ({ status, message }: { status: number; message: string }) => `${status} ${message}`,
  );

async function makeEverything(world: TestWorld) {
  const { clientId } = authServer.clients.public;
  await world.connect("open", { target: server.url });
  await world.connect("keyed", {
    authType: "CustomKeys",
    target: server.url,
    credentials: { keys: { Authorization: "Bearer of-a-test" } },
  });
  const oauth = await world.connect("notes", {
    authType: "OAuth2",
    target: notes.url,
    authorizationUrl: `${authServer.issuer}/auth`,
    tokenUrl: `${authServer.issuer}/token`,
    credentials: { clientId },
  });
  authServer.addRedirectUris(String(oauth.body["redirectUrl"]));
  const model = { name: "mine", baseUrl: "http://127.0.0.1:9/v1", api: "chat", apiKey: "sk-of-a-test" };
  await world.rest("PATCH", "/api/projects/default/settings", { models: [model] });
  await world.world.workload.jwks();
  const ann = clientFor(world);
  await allow(person(authServer, "ann"), linkOf(await ask(ann, "notes", "whoami")));
  const bob = await beginAuthorization(linkOf(await ask(clientFor(world, "bob"), "notes", "whoami")));
  const response = await work(ann, "open");
  const held = await ann.responses.create({
    tools: [{ type: "mcp", server_label: "open" }],
    input: [call("open", "work", {}, "held")],
  });
  const conversation = await ann.conversations.create({
    items: [{ type: "message", role: "user", content: "hello" }],
  });
  const input = { store: false, input: [call("open", "work", {}, "once")] };
  const once = (by: OpenAI) =>
    by.responses.create(
      { tools: [{ type: "mcp", server_label: "open", require_approval: "never" }], ...input },
      { headers: { "Idempotency-Key": "once" } },
    );
  await once(ann);
  return { response, held, conversation, bob, once };
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "consentry-missing-"));
  authServer = await startAuthServer();
  notes = await startProtectedServer({ authServer });
  server = await startModernServer({
    tools: [{ name: "work", inputSchema: schemaOf({}, []), run: async () => say("worked") }],
  });
  const world = await start(old);
  const { body } = await world.rest("POST", "/api/projects/default/keys", {
    name: "runtime",
    roles: ["runtime"],
    rights: ["act_for_users"],
  });
  runtimeKey = String(body["key"]);
  made = await makeEverything(world);
  await world.stop();
});
afterAll(async () => {
  await Promise.all([server.stop(), notes.stop(), authServer.stop()]);
  await rm(folder, { recursive: true, force: true });
});

const approve = (client: OpenAI) =>
  client.responses.create({
    previous_response_id: made.held.id,
    input: [
      {
        type: "mcp_approval_response",
        approval_request_id: itemsOf(made.held, "mcp_approval_request")[0]?.id ?? "",
        approve: true,
      },
    ],
  });
const finish = async (world: TestWorld) => {
  const { cookie, authorizationUrl } = made.bob;
  const callback = await authServer.authorize(authorizationUrl.href, "bob");
  return visit(new URL(`${callback.pathname}${callback.search}`, world.url), cookie);
};

test("what its key has sealed is refused by the name of the key, and nothing else is", async () => {
  const world = await start(next);
  const ann = clientFor(world);
  expect(outcomeOf(await work(ann, "open"))).toBe("worked");
  expect(outcomeOf(await work(ann, "keyed"))).toContain('no key \\"old\\"');
  expect(outcomeOf(await ask(ann, "notes", "whoami"))).toContain("no key");
  expect(await problemOf(ann.responses.inputItems.list(made.response.id))).toContain(
    `503 Not available right now: a sealed value cannot be opened: ${NAMED}`,
  );
  expect(await problemOf(ann.responses.retrieve(made.response.id))).toContain(NAMED);
  expect(await problemOf(ann.conversations.items.list(made.conversation.id))).toContain(NAMED);
  expect(await problemOf(approve(ann))).toContain("no key");
  // Whether it is the same request cannot be told, and it is not run again.
  expect(await problemOf(made.once(ann))).toContain("used for another request");
  expect(await problemOf(ann.responses.create({ model: "mine/gpt", input: "hi" }))).toContain(NAMED);
  expect((await fetch(`${world.url}/.well-known/jwks.json`)).status).toBe(503);
  const page = await finish(world);
  expect([page.status, page.text.includes("This cannot go on right now")]).toEqual([503, true]);
  // Written anew, a connection works again.
  await world.connect("keyed", {
    authType: "CustomKeys",
    target: server.url,
    credentials: { keys: { Authorization: "Bearer of-a-test" } },
  });
  expect(outcomeOf(await work(ann, "keyed"))).toBe("worked");
  await world.stop();
}, 60_000);

test("with the key back everything opens, and afterwards without it", async () => {
  for (const keyring of [`${next},${old}`, next]) {
    const world = await start(keyring);
    const ann = clientFor(world);
    expect(outcomeOf(await work(ann, "keyed"))).toBe("worked");
    expect(outcomeOf(await ask(ann, "notes", "whoami"))).toBe("ann");
    expect((await ann.responses.inputItems.list(made.response.id)).data).toHaveLength(1);
    expect((await ann.conversations.items.list(made.conversation.id)).data).toHaveLength(1);
    expect((await fetch(`${world.url}/.well-known/jwks.json`)).status).toBe(200);
    await expect
      .poll(
        () => world.logs.some(({ event, fields }) => event === "reseal_ended" && fields["how"] === "ended"),
        { timeout: 20_000 },
      )
      .toBe(true);
    await world.stop();
  }
}, 60_000);
