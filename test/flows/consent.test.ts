// OAuth passthrough from outside: an unmodified client, a real authorization server, an MCP server that its tokens protect,
// and people with browsers.
import type OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { headingOf } from "../../demo/browser.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { type ScriptedModel, startModel } from "../helpers/model.ts";
import { allow, consentsOf, linkOf, person } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, createWorld, itemsOf, MODES, respond, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;
let model: ScriptedModel;
let ann: OpenAI;
let bob: OpenAI;

beforeEach(async () => {
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  model = await startModel(() => ({ text: "done" }));
  world = await createWorld({ model });
  await discovered("notes");
  const rights = ["act_for_users"];
  ann = await world.runtime({ user: "ann", rights });
  bob = await world.runtime({ user: "bob", rights });
});
afterEach(async () => {
  await world.stop();
  await model.close();
  await server.stop();
  await authServer.stop();
});

const discovered = (name: string, more: Record<string, unknown> = {}) =>
  world.connect(name, {
    authType: "OAuth2",
    target: server.url,
    credentials: {},
    requireApproval: "never",
    ...more,
  });
const mcp = (label = "notes") => ({
  type: "mcp" as const,
  server_label: label,
  require_approval: "never" as const,
});
const whoami = (label = "notes", id = "call_1") => call(label, "whoami", {}, id);
const connect = async (client: OpenAI, account: string, label = "notes") => {
  const page = await allow(
    person(authServer, account),
    linkOf(await client.responses.create({ tools: [mcp(label)] })),
  );
  expect(headingOf(page)).toContain("Connected");
};
const outputOf = (response: Parameters<typeof itemsOf>[0]) =>
  itemsOf(response, "mcp_call").map(({ output }) => output);

describe.each(MODES)("%s", (mode) => {
  test("the first call asks for consent, and afterwards runs as the person", async () => {
    const asked = await respond(ann, { tools: [mcp()], input: [whoami()] }, mode);
    expect(asked.status).toBe("completed");
    expect(asked.output.map(({ type }) => type as string)).toEqual(["oauth_consent_request", "message"]);
    const [item] = consentsOf(asked);
    expect(item).toEqual({
      type: "oauth_consent_request",
      id: expect.stringMatching(/^oauthreq_[0-9a-f]{50}$/),
      created_by: {},
      consent_link: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/consent\/[\w.-]+$/),
      server_label: "notes",
    });
    expect(asked.output_text).toContain(item?.consent_link);

    const page = await allow(person(authServer, "ann@provider"), item?.consent_link ?? "");
    expect(page.status).toBe(200);
    expect(headingOf(page)).toContain("Connected");

    const called = await respond(ann, { tools: [mcp()], input: [whoami()] }, mode);
    expect(outputOf(called)).toEqual(["ann@provider"]);
  });

  test("with a model, the server's tools are listed after the consent, and the model speaks once", async () => {
    const asked = await respond(ann, { model: "m", tools: [mcp()], input: "who am I?" }, mode);
    expect(asked.output.map(({ type }) => type as string)).toEqual(["oauth_consent_request", "message"]);
    expect(model.requests).toHaveLength(0);
    await allow(person(authServer, "ann"), linkOf(asked));
    const resumed = await respond(ann, { previous_response_id: asked.id, input: "who am I?" }, mode);
    expect(resumed.output.map(({ type }) => type)).toEqual(["mcp_list_tools", "message"]);
    expect(resumed.output_text).toBe("done");
    const said = model.requests.map(({ body }) => body.messages.filter(({ role }) => role === "user"));
    expect(said).toEqual([[{ role: "user", content: "who am I?" }]]);
  });
});

test("two people have two accounts, and a third has none", async () => {
  await connect(ann, "ann@provider");
  await connect(bob, "bob@provider");
  const carol = await world.runtime({ user: "carol", rights: ["act_for_users"] });
  const ask = (client: OpenAI) => client.responses.create({ tools: [mcp()], input: [whoami()] });
  const [anns, bobs, carols] = await Promise.all([ask(ann), ask(bob), ask(carol)]);
  expect([outputOf(anns), outputOf(bobs), outputOf(carols)]).toEqual([
    ["ann@provider"],
    ["bob@provider"],
    [],
  ]);
  expect(consentsOf(carols)).toHaveLength(1);
  expect(server.calls.map(({ sub }) => sub).toSorted()).toEqual(["ann@provider", "bob@provider"]);
});

test("while the consent is open, every request gives the same item", async () => {
  const [one, two] = await Promise.all([
    ann.responses.create({ tools: [mcp()] }),
    ann.responses.create({ tools: [mcp()], input: [whoami()] }),
  ]);
  const three = await ann.responses.create({ previous_response_id: two.id, input: [] });
  expect(consentsOf(two)).toEqual(consentsOf(one));
  expect(consentsOf(three)).toEqual(consentsOf(one));
});

test("an empty input runs again what waited", async () => {
  const asked = await ann.responses.create({ tools: [mcp()], input: [whoami("notes", "call_7")] });
  await allow(person(authServer, "ann"), linkOf(asked));
  const resumed = await ann.responses.create({ previous_response_id: asked.id, input: [] });
  expect(itemsOf(resumed, "mcp_call")).toMatchObject([{ id: "call_7", output: "ann", status: "completed" }]);
  const again = await ann.responses.create({
    previous_response_id: resumed.id,
    tools: [mcp()],
    input: [whoami("notes", "call_7")],
  });
  expect(outputOf(again)).toEqual(["ann"]);
  expect(server.calls).toHaveLength(1);
});

test("a stored response shows the item with its link, and the link is kept nowhere", async () => {
  const asked = await ann.responses.create({ tools: [mcp()] });
  const stored = await ann.responses.retrieve(asked.id);
  expect(consentsOf(stored)).toEqual(consentsOf(asked));
  expect(stored.output_text).toBe(asked.output_text);
  const ticket = linkOf(asked).split("/").at(-1) ?? "";
  expect((await world.databaseBytes()).includes(ticket)).toBe(false);
});

describe("a person who declines", () => {
  test("is heard: with a model the server's list has failed", async () => {
    const asked = await ann.responses.create({ model: "m", tools: [mcp()], input: "who am I?" });
    const browser = person(authServer, "ann");
    const page = await browser.press(await browser.open(linkOf(asked)), "decline");
    expect(headingOf(page).toLowerCase()).toContain("declined");
    for (const input of ["who am I?", []]) {
      const resumed = await ann.responses.create({ previous_response_id: asked.id, input });
      expect(itemsOf(resumed, "mcp_list_tools")).toMatchObject([
        { error: "The user declined to connect notes" },
      ]);
      expect(resumed.output_text).toBe("done");
    }
  });

  test("is heard: an explicit call has failed, on every resume of that response; a new request asks again", async () => {
    const asked = await ann.responses.create({ tools: [mcp()], input: [whoami()] });
    // At the authorization server this time.
    await allow(person(authServer, "ann", "decline"), linkOf(asked));
    const error = { type: "mcp_protocol_error", code: -32001, message: "The user declined to connect notes" };
    for (const _ of ["once", "twice"]) {
      const resumed = await ann.responses.create({ previous_response_id: asked.id, input: [whoami()] });
      expect(itemsOf(resumed, "mcp_call")).toMatchObject([{ status: "failed", error }]);
    }
    const anew = await ann.responses.create({ tools: [mcp()], input: [whoami()] });
    expect(consentsOf(anew)).toHaveLength(1);
    expect(consentsOf(anew)).not.toEqual(consentsOf(asked));
  });
});

describe("several servers", () => {
  test("give an item each, in the order of the tools, and one message", async () => {
    await discovered("other");
    const asked = await ann.responses.create({
      model: "m",
      tools: [mcp("other"), mcp("notes")],
      input: "hi",
    });
    expect(consentsOf(asked).map(({ server_label }) => server_label)).toEqual(["other", "notes"]);
    expect(asked.output.map(({ type }) => type as string)).toEqual([
      "oauth_consent_request",
      "oauth_consent_request",
      "message",
    ]);
    for (const { consent_link: link } of consentsOf(asked)) {
      expect(asked.output_text).toContain(link);
      await allow(person(authServer, "ann"), link);
    }
    const resumed = await ann.responses.create({ previous_response_id: asked.id, input: [] });
    expect(resumed.output.map(({ type }) => type)).toEqual(["mcp_list_tools", "mcp_list_tools", "message"]);
  });

  test("a call that needs no consent runs beside one that does", async () => {
    await connect(ann, "ann");
    await discovered("other");
    const asked = await ann.responses.create({
      tools: [mcp("other"), mcp("notes")],
      input: [whoami("other", "a"), whoami("notes", "b")],
    });
    expect(asked.output.map(({ type }) => type as string)).toEqual([
      "mcp_call",
      "oauth_consent_request",
      "message",
    ]);
    expect(itemsOf(asked, "mcp_call")).toMatchObject([{ id: "b", output: "ann" }]);
  });

  test("a list that fails for another reason is a failed list, beside a consent", async () => {
    await world.connect("broken", { target: "http://127.0.0.1:9/mcp" });
    const asked = await ann.responses.create({ tools: [mcp("broken"), mcp("notes")] });
    expect(asked.output.map(({ type }) => type as string)).toEqual([
      "mcp_list_tools",
      "oauth_consent_request",
      "message",
    ]);
    expect(itemsOf(asked, "mcp_list_tools")[0]?.error).toBeTruthy();
  });
});

describe("how a project wants to be asked", () => {
  const presentations = [
    ["item+message", ["oauth_consent_request", "message"]],
    ["item", ["oauth_consent_request"]],
    ["message", ["message"]],
  ] as const;
  test.each(presentations)("%s", async (consent_presentation, types) => {
    await world.rest("PATCH", "/api/projects/default/settings", { consent_presentation });
    for (const mode of MODES) {
      const asked = await respond(ann, { tools: [mcp()] }, mode);
      expect(asked.output.map(({ type }) => type as string)).toEqual(types);
      expect(asked.status).toBe("completed");
    }
  });

  test("incomplete: the status says so, and its details are null", async () => {
    await world.rest("PATCH", "/api/projects/default/settings", { consent_status: "incomplete" });
    for (const mode of MODES) {
      const asked = await respond(ann, { tools: [mcp()] }, mode);
      expect(asked).toMatchObject({ status: "incomplete", incomplete_details: null });
    }
  });

  test("Foundry's old event comes between the item's two, where a project wants it, and nowhere else", async () => {
    const typesOf = async () => {
      const response = await fetch(`${ann.baseURL}/responses`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${ann.apiKey}`,
          "content-type": "application/json",
          "x-ms-user-identity": "ann",
        },
        body: JSON.stringify({ tools: [mcp()], stream: true }),
      });
      return [...(await response.text()).matchAll(/^event: (.*)$/gm)].map(([, type]) => type);
    };
    expect(await typesOf()).not.toContain("response.oauth_consent_requested");
    await world.rest("PATCH", "/api/projects/default/settings", { consent_event: true });
    expect((await typesOf()).slice(2, 5)).toEqual([
      "response.output_item.added",
      "response.oauth_consent_requested",
      "response.output_item.done",
    ]);
  });

  test("a message alone is resumed all the same", async () => {
    await world.rest("PATCH", "/api/projects/default/settings", { consent_presentation: "message" });
    const asked = await ann.responses.create({ tools: [mcp()], input: [whoami()] });
    await allow(person(authServer, "ann"), /http\S+/.exec(asked.output_text)?.[0] ?? "");
    const resumed = await ann.responses.create({ previous_response_id: asked.id, input: [] });
    expect(outputOf(resumed)).toEqual(["ann"]);
  });
});

test("our question, sent back by a client that keeps its own history, is not told to the model", async () => {
  const input = [{ role: "user" as const, content: "who am I?" }];
  const asked = await ann.responses.create({ model: "m", tools: [mcp()], input, store: false });
  await allow(person(authServer, "ann"), linkOf(asked));
  const replayed = [...input, ...asked.output] as typeof input;
  await ann.responses.create({ model: "m", tools: [mcp()], input: replayed, store: false });
  expect(JSON.stringify(model.requests.at(-1)?.body.messages)).not.toContain("/consent/");
});

test("a request that names no user is refused before anything runs", async () => {
  const nobody = await world.runtime();
  const refused = await nobody.responses.create({ tools: [mcp()] }).catch((error: unknown) => error);
  expect(refused).toMatchObject({ status: 400, message: expect.stringContaining("names none: send") });
  const unheard = await nobody.responses
    .create({ tools: [mcp()], user: "ann" })
    .catch((error: unknown) => error);
  expect(unheard).toMatchObject({ status: 400, message: expect.stringContaining("lacks the right") });
  expect(server.requests).toEqual([]);
});

describe("scopes", () => {
  test("a tool that needs more asks for the union, once, and then runs", async () => {
    server.knobs.needs = { write_note: "write" };
    server.knobs.challengeScope = "read";
    await connect(ann, "ann");
    const write = call("notes", "write_note", { text: "milk" }, "w1");
    const asked = await ann.responses.create({ tools: [mcp()], input: [write] });
    expect(itemsOf(asked, "mcp_call")).toMatchObject([{ id: "w1", status: "failed" }]);
    const browser = person(authServer, "ann");
    const page = await browser.open(linkOf(asked));
    expect(page.html).toContain("write");
    expect(headingOf(await browser.press(page, "allow"))).toContain("Connected");
    const scopes = authServer.tokenRequests.filter(({ grantType }) => grantType === "authorization_code");
    expect(scopes).toHaveLength(2);
    const resumed = await ann.responses.create({ previous_response_id: asked.id, input: [] });
    expect(itemsOf(resumed, "mcp_call")).toMatchObject([{ id: "w1", status: "completed" }]);
    expect(server.calls.at(-1)?.scope.split(" ")).toEqual(expect.arrayContaining(["read", "write"]));
  });
});

test("an access token that ends is refreshed, and nobody is asked", async () => {
  await connect(ann, "ann");
  world.advance(2 * 60 * 60_000);
  const called = await ann.responses.create({ tools: [mcp()], input: [whoami()] });
  expect(outputOf(called)).toEqual(["ann"]);
  expect(authServer.countTokenRequests("refresh_token")).toBe(1);
});

test("an access token that the server turns down is refreshed once, and the call made again", async () => {
  await connect(ann, "ann");
  await ann.responses.create({ tools: [mcp()] });
  const first = server.requests.at(-1)?.authorization;
  server.knobs.accepts = ({ token }) => `Bearer ${token}` !== first;
  const called = await ann.responses.create({ tools: [mcp()], input: [whoami()] });
  expect(outputOf(called)).toEqual(["ann"]);
  expect(authServer.countTokenRequests("refresh_token")).toBe(1);
});
