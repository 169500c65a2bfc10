// A consent that is found missing in the middle: of a model's loop, of an approved call, of a request for several things.
import type OpenAI from "openai";
import { afterEach, beforeEach, expect, test } from "vitest";
import { headingOf } from "../../demo/browser.ts";
import { startAuthServer, type TestAuthServer } from "../helpers/auth-server.ts";
import { lastText, type ScriptedModel, startModel } from "../helpers/model.ts";
import { allow, consentsOf, linkOf, person } from "../helpers/people.ts";
import { type ProtectedServer, startProtectedServer } from "../helpers/protected-server.ts";
import { call, createWorld, itemsOf, MODES, respond, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let authServer: TestAuthServer;
let server: ProtectedServer;
let model: ScriptedModel;
let ann: OpenAI;

beforeEach(async () => {
  authServer = await startAuthServer();
  server = await startProtectedServer({ authServer });
  server.knobs.challengeScope = "read";
  model = await startModel((request) => {
    const said = lastText(request);
    if (said === "note milk") return { calls: [{ name: "notes__write_note", arguments: { text: "milk" } }] };
    return { text: `I read: ${said}` };
  });
  world = await createWorld({ model });
  await world.connect("notes", { authType: "OAuth2", target: server.url, credentials: {} });
  ann = await world.runtime({ user: "ann", rights: ["act_for_users"] });
  await connect(linkOf(await ann.responses.create({ tools: [mcp("never")] })));
});
afterEach(async () => {
  await world.stop();
  await model.close();
  await server.stop();
  await authServer.stop();
});

const mcp = (require_approval: "never" | "always") => ({
  type: "mcp" as const,
  server_label: "notes",
  require_approval,
});
const connect = async (link: string) => {
  const heading = headingOf(await allow(person(authServer, "ann"), link));
  if (!heading.includes("Connected")) throw new Error(heading);
};
const disconnect = () => world.rest("DELETE", "/api/projects/default/connections/notes/grants/ann");
const written = () => server.calls.filter(({ tool }) => tool === "write_note").length;

test.each(MODES)(
  "a model's call that needs more ends the turn with the question, and the model goes on afterwards: %s",
  async (mode) => {
    server.knobs.needs = { write_note: "write" };
    const asked = await respond(ann, { model: "m", tools: [mcp("never")], input: "note milk" }, mode);
    expect(asked.output.map(({ type }) => type as string)).toEqual([
      "mcp_list_tools",
      "mcp_call",
      "oauth_consent_request",
      "message",
    ]);
    expect(itemsOf(asked, "mcp_call")).toMatchObject([
      { status: "failed", error: { type: "http_error", code: 401 } },
    ]);
    expect(model.requests).toHaveLength(1);
    expect(written()).toBe(0);
    await connect(linkOf(asked));
    const resumed = await respond(ann, { previous_response_id: asked.id, input: [] }, mode);
    expect(resumed.status).toBe("completed");
    expect(consentsOf(resumed)).toEqual([]);
    // The model knows that its call was not made.
    expect(JSON.stringify(model.requests.at(-1)?.body.messages)).toContain(
      "wants more than the user allowed",
    );
  },
);

test("an approved call of somebody who disconnected meanwhile stays approved, and runs once after the consent", async () => {
  const tools = [mcp("always")];
  const asked = await ann.responses.create({
    tools,
    input: [call("notes", "write_note", { text: "milk" }, "w1")],
  });
  const id = itemsOf(asked, "mcp_approval_request")[0]?.id ?? "";
  await disconnect();
  const approve = { type: "mcp_approval_response" as const, approval_request_id: id, approve: true };
  const waits = await ann.responses.create({ previous_response_id: asked.id, tools, input: [approve] });
  expect(waits.output.map(({ type }) => type as string)).toEqual(["oauth_consent_request", "message"]);
  expect(written()).toBe(0);
  await connect(linkOf(waits));
  const done = await ann.responses.create({ previous_response_id: waits.id, input: [] });
  expect(itemsOf(done, "mcp_call")).toMatchObject([{ approval_request_id: id, status: "completed" }]);
  expect(written()).toBe(1);
  const again = await ann.responses.create({ previous_response_id: waits.id, input: [] });
  expect(itemsOf(again, "mcp_call")).toEqual([]);
  expect(written()).toBe(1);
});

test("a grant that died at its authorization server is asked for again, and nothing is lost of the request", async () => {
  // The answer to a refresh is lost, and the second try is a token that has been used: the family is revoked.
  authServer.mishaps.push("lost_response");
  world.advance(2 * 60 * 60_000);
  const asked = await ann.responses.create({
    tools: [mcp("never")],
    input: [call("notes", "whoami", {}, "c1")],
  });
  expect(consentsOf(asked)).toHaveLength(1);
  await connect(linkOf(asked));
  const resumed = await ann.responses.create({ previous_response_id: asked.id, input: [] });
  expect(itemsOf(resumed, "mcp_call")).toMatchObject([{ id: "c1", output: "ann" }]);
});

test("a server that turns down every token is a failed call, and costs one refresh, not one for each", async () => {
  server.knobs.accepts = () => false;
  const ask = () => ann.responses.create({ tools: [mcp("never")], input: [call("notes", "whoami", {})] });
  const answers = [await ask(), await ask(), await ask()];
  expect(answers.flatMap(consentsOf)).toEqual([]);
  for (const answer of answers) {
    expect(itemsOf(answer, "mcp_call")).toMatchObject([{ error: { type: "http_error", code: 401 } }]);
  }
  expect(authServer.countTokenRequests("refresh_token")).toBe(1);
});
