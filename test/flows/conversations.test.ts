import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type OpenAI from "openai";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import {
  type ChatRequest,
  lastText,
  type ScriptedModel,
  type ScriptedTurn,
  startModel,
} from "../helpers/model.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { allow, linkOf, person } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, createWorld, itemsOf, MODES, respond, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let notes: ModernServer;
let model: ScriptedModel;
let client: OpenAI;
let script: ScriptedTurn[] | ((request: ChatRequest) => ScriptedTurn | Promise<ScriptedTurn>);

beforeAll(async () => {
  const play = async (request: ChatRequest) =>
    (typeof script === "function" ? await script(request) : script.shift()) ?? {
      status: 500,
      body: { error: { message: "no more turns" } },
    };
  [notes, model] = await Promise.all([startModernServer(), startModel(play)]);
  world = await createWorld({ model });
  await world.connect("notes", { target: notes.url });
  client = await world.runtime();
});
beforeEach(() => {
  model.requests.length = 0;
});
afterAll(async () => {
  await world.stop();
  await Promise.all([notes.stop(), model.close()]);
});

const said = (role: "user" | "assistant", content: string) => ({ type: "message" as const, role, content });
const typesOf = async (conversation: string, by = client) => {
  const types: string[] = [];
  for await (const item of by.conversations.items.list(conversation, { order: "asc", limit: 3 }))
    types.push(item.type);
  return types;
};
const notesTool = (more = {}) => ({ type: "mcp" as const, server_label: "notes", ...more });
const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => "done",
    ({ status, code }: { status: number; code: string }) => `${status} ${code}`,
  );

describe("conversations, by the unmodified client", () => {
  test("are made, read, changed and deleted", async () => {
    const made = await client.conversations.create({
      items: [said("user", "hello")],
      metadata: { topic: "milk" },
    });
    expect(made).toMatchObject({ object: "conversation", metadata: { topic: "milk" } });
    expect(made.id).toMatch(/^conv_[0-9a-f]{50}$/);
    expect(await client.conversations.retrieve(made.id)).toEqual(made);
    const changed = await client.conversations.update(made.id, { metadata: { a: "1" } });
    expect(changed.metadata).toEqual({ a: "1" });
    expect(await client.conversations.delete(made.id)).toEqual({
      id: made.id,
      object: "conversation.deleted",
      deleted: true,
    });
    expect(await codeOf(client.conversations.retrieve(made.id))).toBe("404 conversation_not_found");
    expect((await client.conversations.create()).metadata).toEqual({});
  });

  test("take items, give them in pages and one by one, and lose those that are deleted", async () => {
    const { id } = await client.conversations.create({});
    const added = await client.conversations.items.create(id, {
      items: Array.from({ length: 7 }, (_, n) => said(n % 2 ? "assistant" : "user", `line ${n}`)),
    });
    expect(added.data).toHaveLength(7);
    expect(added.has_more).toBe(false);
    const all = [];
    for await (const item of client.conversations.items.list(id, { limit: 3 })) all.push(item.id);
    expect(all).toEqual(added.data.map((item) => item.id).toReversed());
    const first = added.data[0]?.id ?? "";
    expect(await client.conversations.items.retrieve(first, { conversation_id: id })).toEqual(added.data[0]);
    expect((await client.conversations.items.delete(first, { conversation_id: id })).id).toBe(id);
    const gone = client.conversations.items.retrieve(first, { conversation_id: id });
    expect(await codeOf(gone)).toBe("404 conversation_item_not_found");
    expect(await typesOf(id)).toHaveLength(6);
    const nothing = client.conversations.items.list(id, { after: "msg_nothing" });
    expect(await codeOf(Promise.resolve(nothing))).toBe("400 null");
  });

  test("run nothing that is added to them", async () => {
    const before = notes.seen("tools/call").length;
    const explicit = client.conversations.create({ items: [call("notes", "echo", { text: "x" })] });
    expect(await codeOf(explicit)).toBe("400 null");
    expect(notes.seen("tools/call").length).toBe(before);
  });
});

describe.each(MODES)("a response in a conversation, %s", (mode) => {
  test("reads what was said and adds what it was asked and answered", async () => {
    const { id } = await client.conversations.create({ items: [said("user", "my name is Ann")] });
    script = [{ text: "Hello Ann." }, { text: "You are Ann." }];
    const first = await respond(client, { model: "m", conversation: id, input: "hi" }, mode);
    expect(first.conversation).toEqual({ id });
    expect(first.previous_response_id).toBeNull();
    const second = await respond(client, { conversation: { id }, input: "who am I?" }, mode);
    expect(second.output_text).toBe("You are Ann.");
    const told = model.requests.at(-1)?.body.messages.map(({ content }) => content);
    expect(told).toEqual(["my name is Ann", "hi", "Hello Ann.", "who am I?"]);
    expect(await typesOf(id)).toEqual(Array(5).fill("message"));
    expect((await client.responses.retrieve(second.id)).conversation).toEqual({ id });
  });

  test("cannot name a previous response beside it, nor a conversation that is not there", async () => {
    const { id } = await client.conversations.create({});
    const both = { model: "m", input: "x", conversation: id, previous_response_id: "resp_1" };
    expect(await codeOf(respond(client, both, mode))).toBe("400 null");
    const unknown = { model: "m", input: "x", conversation: "conv_1" };
    expect(await codeOf(respond(client, unknown, mode))).toBe("400 conversation_not_found");
  });

  test("that failed is kept beside its conversation, in which nothing is left of it", async () => {
    const { id } = await client.conversations.create({ items: [said("user", "one")] });
    script = [{ status: 500, body: { error: { message: "down" } } }];
    await respond(client, { model: "m", conversation: id, input: "two" }, mode).catch(() => {});
    expect(await typesOf(id)).toEqual(["message"]);
  });

  test("asks for an approval there, and the answer runs the stored call once", async () => {
    const { id } = await client.conversations.create({});
    const before = notes.seen("tools/call").length;
    const asked = await respond(
      client,
      { conversation: id, tools: [notesTool()], input: [call("notes", "echo", { text: "x" })] },
      mode,
    );
    const request = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
    // Nothing new was said: the same question, once in the list.
    const again = await respond(client, { conversation: id, input: [] }, mode);
    expect(itemsOf(again, "mcp_approval_request")[0]?.id).toBe(request);
    expect(await typesOf(id)).toEqual(["mcp_call", "mcp_approval_request"]);
    const answer = { type: "mcp_approval_response" as const, approval_request_id: request, approve: true };
    const ran = await respond(client, { conversation: id, input: [answer] }, mode);
    expect(itemsOf(ran, "mcp_call")).toMatchObject([{ output: "x", approval_request_id: request }]);
    const replayed = await respond(client, { conversation: id, input: [answer] }, mode);
    expect(itemsOf(replayed, "mcp_call")).toEqual([]);
    expect(notes.seen("tools/call").length).toBe(before + 1);
  });

  test("does not run a call again that the conversation holds", async () => {
    const { id } = await client.conversations.create({});
    const before = notes.seen("tools/call").length;
    const body = {
      conversation: id,
      tools: [notesTool({ require_approval: "never" })],
      input: [call("notes", "echo", { text: "once" }, "call_1")],
    };
    const outputs = [await respond(client, body, mode), await respond(client, body, mode)];
    expect(outputs.map((one) => itemsOf(one, "mcp_call")[0]?.output)).toEqual(["once", "once"]);
    expect(notes.seen("tools/call").length).toBe(before + 1);
  });
});

test("two responses at once in one conversation: the second stands behind the first, nothing is lost or doubled", async () => {
  const { id } = await client.conversations.create({ items: [said("user", "begin")] });
  const all = Promise.withResolvers<void>();
  let waiting = 0;
  script = async (request) => {
    if (++waiting === 4) all.resolve();
    await all.promise;
    return { text: `answer to ${lastText(request)}` };
  };
  const replayed = { ...said("user", "the same"), id: "msg_same" };
  await Promise.all(
    [0, 1, 2, 3].map((n) =>
      client.responses.create({
        model: "m",
        conversation: id,
        input: [replayed as never, said("user", `question ${n}`)],
      }),
    ),
  );
  const texts: string[] = [];
  for await (const item of client.conversations.items.list(id, { order: "asc" }))
    texts.push(
      item.type === "message" ? JSON.stringify(item.content[0]).replace(/.*"text":"([^"]*)".*/, "$1") : "",
    );
  expect(texts).toHaveLength(10);
  expect(texts.slice(0, 2)).toEqual(["begin", "the same"]);
  const pairs = [2, 4, 6, 8].map((at) => [texts[at], texts[at + 1]]);
  expect(new Set(pairs.map((pair) => pair.join(": ")))).toEqual(
    new Set([0, 1, 2, 3].map((n) => `question ${n}: answer to question ${n}`)),
  );
  // What a model reads afterwards is the same, each once.
  script = [{ text: "done" }];
  await client.responses.create({ model: "m", conversation: id, input: "end" });
  expect(model.requests.at(-1)?.body.messages.map(({ content }) => content)).toEqual([...texts, "end"]);
});

test("store:false keeps no response, and its conversation goes on all the same", async () => {
  const { id } = await client.conversations.create({});
  script = [{ text: "noted" }];
  const response = await client.responses.create({ model: "m", conversation: id, input: "x", store: false });
  expect(await codeOf(client.responses.retrieve(response.id))).toBe("404 response_not_found");
  expect(await typesOf(id)).toEqual(["message", "message"]);
});

test("an answer to the last response of a conversation goes on with it; one to an older is a fork", async () => {
  const { id } = await client.conversations.create({});
  script = [{ text: "1" }, { text: "2" }, { text: "3" }];
  const first = await client.responses.create({ model: "m", conversation: id, input: "a" });
  const second = await client.responses.create({ previous_response_id: first.id, input: "b" });
  expect(second.conversation).toEqual({ id });
  const fork = await client.responses.create({ previous_response_id: first.id, input: "c" });
  expect(fork.conversation).toBeNull();
  expect(await typesOf(id)).toHaveLength(4);
  expect(model.requests.at(-1)?.body.messages.map(({ content }) => content)).toEqual(["a", "1", "c"]);
});

test("an item that is deleted is not told to the model; what waits in the conversation is found all the same", async () => {
  const { id } = await client.conversations.create({ items: [said("user", "secret"), said("user", "kept")] });
  const items = await client.conversations.items.list(id, { order: "asc" });
  await client.conversations.items.delete(items.data[0]?.id ?? "", { conversation_id: id });
  script = [{ text: "ok" }];
  await client.responses.create({ model: "m", conversation: id, input: "go" });
  expect(model.requests.at(-1)?.body.messages.map(({ content }) => content)).toEqual(["kept", "go"]);
});

test("a conversation is its user's: foreign and unknown look the same", async () => {
  const rights = ["act_for_users"];
  const [ann, bob] = [
    await world.runtime({ rights, user: "ann" }),
    await world.runtime({ rights, user: "bob" }),
  ];
  const { id } = await ann.conversations.create({ items: [said("user", "of ann")] });
  const item = (await ann.conversations.items.list(id)).data[0]?.id ?? "";
  const foreign = (at: string) => [
    bob.conversations.retrieve(at),
    bob.conversations.update(at, { metadata: {} }),
    bob.conversations.items.create(at, { items: [said("user", "x")] }),
    Promise.resolve(bob.conversations.items.list(at)),
    bob.conversations.items.retrieve(item, { conversation_id: at }),
    bob.conversations.items.delete(item, { conversation_id: at }),
    bob.conversations.delete(at),
  ];
  for (const at of [id, `conv_${"0".repeat(50)}`]) {
    const codes = await Promise.all(foreign(at).map(codeOf));
    expect(codes).toEqual(Array(7).fill("404 conversation_not_found"));
    const response = bob.responses.create({ model: "m", conversation: at, input: "x" });
    expect(await codeOf(response)).toBe("400 conversation_not_found");
    const reference = bob.responses.create({
      model: "m",
      input: [{ type: "item_reference", id: item }],
    });
    expect(await codeOf(reference)).toBe("400 null");
  }
  expect((await ann.conversations.items.list(id)).data).toHaveLength(1);
});

test("a conversation made for nobody becomes the first user's who speaks in it", async () => {
  const rights = ["act_for_users"];
  const runtime = await world.runtime({ rights });
  const { id } = await runtime.conversations.create({});
  script = [{ text: "hello ann" }];
  await runtime.responses.create({ model: "m", conversation: id, input: "hi", safety_identifier: "ann" });
  const bobs = runtime.responses.create({
    model: "m",
    conversation: id,
    input: "what did she say?",
    safety_identifier: "bob",
  });
  expect(await codeOf(bobs)).toBe("400 conversation_not_found");
});

test("a user's answer to a response in a conversation of nobody's, or of another user's by now, does not get into it", async () => {
  const rights = ["act_for_users"];
  const runtime = await world.runtime({ rights });
  const { id } = await runtime.conversations.create({});
  script = [{ text: "hello" }, { text: "for ann" }, { text: "for bob" }, { text: "for ann again" }];
  const first = await runtime.responses.create({ model: "m", conversation: id, input: "hi" });
  const answer = (user: string, input: string) =>
    runtime.responses.create({ previous_response_id: first.id, input, safety_identifier: user });
  expect((await answer("ann", "ann's secret")).conversation).toBeNull();
  expect(await typesOf(id, runtime)).toHaveLength(2);
  await runtime.conversations.items.create(
    id,
    { items: [said("user", "bob's now")] },
    { headers: { "x-ms-user-identity": "bob" } },
  );
  expect((await answer("ann", "ann's other secret")).conversation).toBeNull();
  const items = await runtime.conversations.items.list(id, {}, { headers: { "x-ms-user-identity": "bob" } });
  expect(JSON.stringify(items.data)).not.toContain("secret");
});

test("a turn for nobody is not put behind what a user says there meanwhile, where others could read it", async () => {
  const rights = ["act_for_users"];
  const runtime = await world.runtime({ rights });
  const { id } = await runtime.conversations.create({});
  const [asked, answers] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  script = async (request) => {
    if (!lastText(request).includes("slow")) return { text: "for ann" };
    asked.resolve();
    await answers.promise;
    return { text: "for nobody" };
  };
  const nobodys = runtime.responses.create({ model: "m", conversation: id, input: "slow" });
  await asked.promise;
  await runtime.responses.create({
    model: "m",
    conversation: id,
    input: "ann's secret",
    safety_identifier: "ann",
  });
  answers.resolve();
  const { id: response, conversation } = await nobodys;
  expect(conversation).toBeNull();
  const bob = { headers: { "x-ms-user-identity": "bob" } };
  const items = await runtime.responses.inputItems.list(response, {}, bob);
  expect(JSON.stringify(items.data)).not.toContain("ann");
  const anns = await runtime.conversations.items.list(id, {}, { headers: { "x-ms-user-identity": "ann" } });
  expect(JSON.stringify(anns.data)).not.toContain("nobody");
});

test.each([{ store: true }, { store: false }])(
  "a conversation that is deleted during a turn does not get that turn, which is kept by itself (%j)",
  async ({ store }) => {
    for (const before of [[], ["first"]]) {
      const { id } = await client.conversations.create({});
      script = before.map((text) => ({ text }));
      for (const input of before) await client.responses.create({ model: "m", conversation: id, input });
      script = async () => {
        await client.conversations.delete(id);
        return { text: "too late" };
      };
      const late = await client.responses.create({ model: "m", conversation: id, input: "more", store });
      expect([late.status, late.conversation, late.output_text]).toEqual(["completed", null, "too late"]);
      expect(await codeOf(client.conversations.retrieve(id))).toBe("404 conversation_not_found");
      const kept = await codeOf(client.responses.retrieve(late.id));
      expect(kept).toBe(store ? "done" : "404 response_not_found");
      script = [{ text: "again" }];
      const again = client.responses.create({ model: "m", conversation: id, input: "x" });
      expect(await codeOf(again)).toBe("400 conversation_not_found");
    }
  },
);

test("what the broker keeps of a conversation is sealed", async () => {
  const { id } = await client.conversations.create({ items: [said("user", "canary-of-a-conversation")] });
  script = [{ text: "canary-of-an-answer" }];
  await client.responses.create({ model: "m", conversation: id, input: "canary-of-a-question" });
  const bytes = await world.databaseBytes();
  expect(bytes.includes("canary-of-a")).toBe(false);
  expect(JSON.stringify(world.logs)).not.toContain("canary-of-a");
});

test("the kill switch takes a user's conversations, and what a running turn says then is in none", async () => {
  const ann = await world.runtime({ rights: ["act_for_users"], user: "kim" });
  const { id } = await ann.conversations.create({ items: [said("user", "x")] });
  script = async () => {
    await world.rest("DELETE", "/api/projects/default/users/app:kim");
    return { text: "too late" };
  };
  const response = await ann.responses.create({ model: "m", conversation: id, input: "hi" });
  expect(response.conversation ?? null).toBeNull();
  await world.rest("POST", "/api/projects/default/users/app:kim:restore");
  expect(await codeOf(ann.conversations.retrieve(id))).toMatch(/^40[34]/);
});

describe("a consent in a conversation", () => {
  let authServer: TestAuthServer;
  let server: ProtectedServer;
  let ann: OpenAI;
  beforeAll(async () => {
    authServer = await startAuthServer();
    server = await startProtectedServer({ authServer });
    await world.connect("accounts", {
      authType: "OAuth2",
      target: server.url,
      credentials: {},
      requireApproval: "never",
    });
    ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
  });
  afterAll(async () => {
    await server.stop();
    await authServer.stop();
  });

  test("is asked for there, and an empty input runs what waited, once", async () => {
    const { id } = await ann.conversations.create({});
    const asked = await ann.responses.create({
      conversation: id,
      tools: [{ type: "mcp", server_label: "accounts", require_approval: "never" }],
      input: [call("accounts", "whoami", {}, "call_7")],
    });
    expect((await ann.conversations.items.list(id)).data.map(({ type }) => type as string)).toEqual([
      "message",
      "oauth_consent_request",
      "mcp_call",
    ]);
    // What was added in between does not hide what waits.
    await ann.conversations.items.create(id, { items: [said("assistant", "one moment")] });
    await allow(person(authServer, "ann@provider"), linkOf(asked));
    const resumed = await ann.responses.create({ conversation: id, input: [] });
    expect(itemsOf(resumed, "mcp_call")).toMatchObject([{ id: "call_7", output: "ann@provider" }]);
    expect(server.calls).toHaveLength(1);
  });
});
