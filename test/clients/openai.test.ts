// The `openai` package as it is: responses.create(), and responses.stream(), which throws on any slip of the protocol.
import OpenAI from "openai";
import type { Response, ResponseStreamEvent } from "openai/resources/responses/responses";
import { expect, test } from "vitest";
import { calls, DELETES_TWO, FAILS, READS_AND_ASKS, setClientStage } from "../helpers/client-stage.ts";
import { itemsOf, type Body } from "../helpers/world.ts";

const stage = setClientStage();
const clientOfAnn = () =>
  new OpenAI({ baseURL: stage.baseURL(), apiKey: stage.apiKey(), defaultHeaders: stage.headers });
const ask = (body: Body) => clientOfAnn().responses.create({ model: "m", ...body });
const tool = (label: string, more: object = { require_approval: "never" }) => ({
  type: "mcp" as const,
  server_label: label,
  ...more,
});
const typesOf = ({ output }: Response) => output.map(({ type }) => type as string);
const answer = (asked: Response, approve: boolean, at = 0) => ({
  type: "mcp_approval_response" as const,
  approval_request_id: itemsOf(asked, "mcp_approval_request")[at]?.id ?? "",
  approve,
});

async function streamed(body: Body): Promise<{ response: Response; events: ResponseStreamEvent[] }> {
  const stream = clientOfAnn().responses.stream({ model: "m", ...body } as Parameters<
    OpenAI["responses"]["stream"]
  >[0]);
  const events: ResponseStreamEvent[] = [];
  for await (const event of stream) events.push(event);
  return { response: await stream.finalResponse(), events };
}

test("approval never: the tool runs, and the model answers with its result", async () => {
  stage.script(calls("notes__read_note", { id: "7" }), { text: "You need milk." });
  const response = await ask({ input: "what do I need?", tools: [tool("notes")] });
  expect(typesOf(response)).toEqual(["mcp_list_tools", "mcp_call", "message"]);
  expect(itemsOf(response, "mcp_call")).toMatchObject([{ output: "note 7: buy milk", error: null }]);
  expect(response.output_text).toBe("You need milk.");
});

test("approval always: the client asks, the person approves, and the call runs once as it was stored", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." });
  const asked = await ask({ input: "delete note 1", tools: [tool("notes", {})] });
  expect(itemsOf(asked, "mcp_approval_request")).toMatchObject([
    { name: "delete_note", arguments: '{"id":"1"}' },
  ]);
  expect(stage.ran()).toEqual([]);
  const done = await ask({ previous_response_id: asked.id, input: [answer(asked, true)] });
  expect(typesOf(done)).toEqual(["mcp_call", "message"]);
  expect(done.output_text).toBe("It is gone.");
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("a denial runs nothing, and the model is told", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "I leave it." });
  const asked = await ask({ input: "delete note 1", tools: [tool("notes", {})] });
  const input = [{ ...answer(asked, false), reason: "it is precious" }];
  const done = await ask({ previous_response_id: asked.id, input });
  expect(typesOf(done)).toEqual(["message"]);
  expect(JSON.stringify(stage.told())).toContain("it is precious");
  expect(stage.ran()).toEqual([]);
});

test("two questions at once, one approved and one denied: one call runs", async () => {
  stage.script(DELETES_TWO, { text: "One is gone." });
  const asked = await ask({ input: "delete both", tools: [tool("notes", {})] });
  const input = [answer(asked, true, 0), answer(asked, false, 1)];
  const done = await ask({ previous_response_id: asked.id, input });
  expect(itemsOf(done, "mcp_call").map(({ output }) => output)).toEqual(["deleted 1"]);
  expect(done.output_text).toBe("One is gone.");
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("allowed_tools hides the other tools, and a call of one of them does not run", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "I could not." });
  const allowed = { require_approval: "never", allowed_tools: ["read_note", "echo"] };
  const response = await ask({ input: "delete note 1", tools: [tool("notes", allowed)] });
  expect(stage.offered()).toEqual(["notes__echo", "notes__read_note"]);
  expect(response.output_text).toBe("I could not.");

  stage.script({ text: "I only read." });
  await ask({ input: "hi", tools: [tool("notes", { allowed_tools: { read_only: true } })] });
  expect(stage.offered()).toEqual(["notes__read_note"]);
  expect(stage.ran()).toEqual([]);
});

test("a tool that fails is shown as failed, and the model goes on", async () => {
  stage.script(calls("notes__fail"), { text: "The printer burns." });
  const response = await ask({ input: "print", tools: [tool("notes")] });
  expect(itemsOf(response, "mcp_call")).toMatchObject([
    {
      status: "failed",
      error: {
        type: "mcp_tool_execution_error",
        content: [{ type: "text", text: "the printer is on fire" }],
      },
    },
  ]);
  expect(response.output_text).toBe("The printer burns.");
});

test("a server that is down is shown as failed, and the model works with the others", async () => {
  stage.script({ text: "One is down." });
  const response = await ask({ input: "hi", tools: [tool("down"), tool("notes")] });
  const [down, notes] = itemsOf(response, "mcp_list_tools");
  expect([down?.tools, down?.error, notes?.error]).toEqual([[], expect.any(String), undefined]);
  expect(response.output_text).toBe("One is down.");
});

test("a model that fails when a tool has run: the client says why, in one body and streamed", async () => {
  const body = { input: "read note 7", tools: [tool("notes")] };
  stage.script(calls("notes__read_note", { id: "7" }), FAILS);
  const response = await ask(body);
  expect(response).toMatchObject({
    status: "failed",
    error: { message: expect.stringContaining("too warm") },
  });
  expect(itemsOf(response, "mcp_call")).toMatchObject([{ output: "note 7: buy milk" }]);
  stage.script(calls("notes__read_note", { id: "7" }), FAILS);
  await expect(streamed(body)).rejects.toThrow("too warm today");
});

test("a tool of the client's own beside the server's: the model reads both results", async () => {
  stage.script(READS_AND_ASKS, { text: "Buy milk, it is sunny." });
  const own = { type: "function" as const, name: "weather", parameters: {}, strict: null };
  const tools = [tool("notes"), own];
  const asked = await ask({ input: "what do I do?", tools });
  const [wanted] = itemsOf(asked, "function_call");
  expect(wanted).toMatchObject({ name: "weather", arguments: '{"city":"Rome"}' });
  const input = [{ type: "function_call_output" as const, call_id: wanted?.call_id ?? "", output: "sunny" }];
  const done = await ask({ previous_response_id: asked.id, input, tools });
  expect(done.output_text).toBe("Buy milk, it is sunny.");
  expect(stage.results()).toEqual(["sunny", "note 7: buy milk"]);
});

test("consent as item and message: the person finds the link, and the next request runs", async () => {
  const asked = await ask({ input: "who am I?", tools: [tool("team")] });
  expect([asked.status, ...typesOf(asked)]).toEqual(["completed", "oauth_consent_request", "message"]);
  await stage.consentBy(asked.output_text);
  stage.script(calls("team__whoami"), { text: "Ann." });
  const done = await ask({ previous_response_id: asked.id, input: "who am I?" });
  expect(done.output_text).toBe("Ann.");
  expect(stage.ranAs()).toEqual(["ann@provider"]);
});

test("consent as an item alone", async () => {
  await stage.settings({ consent_presentation: "item" });
  const asked = await ask({ input: "who am I?", tools: [tool("team")] });
  expect(typesOf(asked)).toEqual(["oauth_consent_request"]);
  expect(asked.output_text).toBe("");
  await stage.consentBy(JSON.stringify(asked.output));
  stage.script(calls("team__whoami"), { text: "Ann." });
  expect((await ask({ previous_response_id: asked.id, input: [] })).output_text).toBe("Ann.");
});

test("consent as a message alone: the person finds the link, and the next request runs", async () => {
  await stage.settings({ consent_presentation: "message" });
  const asked = await ask({ input: "who am I?", tools: [tool("team")] });
  expect(typesOf(asked)).toEqual(["message"]);
  await stage.consentBy(asked.output_text);
  stage.script(calls("team__whoami"), { text: "Ann." });
  expect((await ask({ previous_response_id: asked.id, input: [] })).output_text).toBe("Ann.");
});

test("consent with the status incomplete", async () => {
  await stage.settings({ consent_status: "incomplete" });
  const asked = await ask({ input: "who am I?", tools: [tool("team")] });
  expect([asked.status, asked.incomplete_details]).toEqual(["incomplete", null]);
  await stage.consentBy(asked.output_text);
  stage.script(calls("team__whoami"), { text: "Ann." });
  expect((await ask({ previous_response_id: asked.id, input: [] })).output_text).toBe("Ann.");
});

test("a stream arrives in the client's own events, in order", async () => {
  stage.script(calls("notes__echo", { text: "hello" }), { text: ["It ", "says ", "hello."] });
  const { response, events } = await streamed({ input: "say hello", tools: [tool("notes")] });
  expect(events.map(({ type }) => type)).toEqual([
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.mcp_list_tools.in_progress",
    "response.mcp_list_tools.completed",
    "response.output_item.done",
    "response.output_item.added",
    "response.mcp_call.in_progress",
    "response.mcp_call_arguments.delta",
    "response.mcp_call_arguments.done",
    "response.mcp_call.completed",
    "response.output_item.done",
    "response.output_item.added",
    "response.content_part.added",
    ...Array.from({ length: 3 }, () => "response.output_text.delta"),
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
  ]);
  expect(events.map(({ sequence_number: number }) => number)).toEqual([...events.keys()]);
  expect(response.output_text).toBe("It says hello.");
});

test("the progress of a call is no trouble in a stream", async () => {
  stage.script(calls("notes__count"), { text: "Two." });
  const { response, events } = await streamed({ input: "count", tools: [tool("notes")] });
  const told = events.flatMap((event) => ("progress" in event ? [event.progress] : []));
  expect(told[0]).toEqual({ progress: 1, total: 2, message: "counted to 1" });
  expect(itemsOf(response, "mcp_call")).toMatchObject([{ output: "counted" }]);
  expect(response.output_text).toBe("Two.");
});

test("a stream that ends with a question, and one that begins with its answer", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." });
  const asked = await streamed({ input: "delete note 1", tools: [tool("notes", {})] });
  expect(typesOf(asked.response)).toEqual(["mcp_list_tools", "mcp_approval_request"]);
  const input = [answer(asked.response, true)];
  const done = await streamed({ previous_response_id: asked.response.id, input });
  expect(typesOf(done.response)).toEqual(["mcp_call", "message"]);
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("a stream that asks for consent", async () => {
  for (const consent_presentation of ["item", "message", "item+message"]) {
    for (const consent_status of ["completed", "incomplete"]) {
      await stage.settings({ consent_presentation, consent_status });
      const { response, events } = await streamed({ input: "who am I?", tools: [tool("team")] });
      expect([response.status, events.at(-1)?.type]).toEqual([consent_status, `response.${consent_status}`]);
      expect(JSON.stringify(response.output)).toContain("/consent/");
    }
  }
});

test("the history that the client sends back is read, and nothing in it runs again", async () => {
  const tools = [tool("notes", {})];
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." }, { text: "Welcome." });
  const input: unknown[] = [{ role: "user", content: "delete note 1" }];
  const turn = async () => {
    const response = await ask({ store: false, input: input as never, tools });
    input.push(...response.output);
    return response;
  };
  input.push(answer(await turn(), true));
  await turn();
  input.push({ role: "user", content: "thanks" });
  expect((await turn()).output_text).toBe("Welcome.");
  expect(stage.told().map(({ role }) => role)).toEqual(["user", "assistant", "tool", "assistant", "user"]);
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("in a conversation each turn reads what was said before, and what was approved there runs once", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." }, { text: "Welcome." });
  const { id: conversation } = await clientOfAnn().conversations.create({});
  const tools = [tool("notes", {})];
  const asked = await ask({ conversation, input: "delete note 1", tools });
  await ask({ conversation, input: [answer(asked, true)] });
  const thanked = await streamed({ conversation, input: "thanks" });
  expect(thanked.response.output_text).toBe("Welcome.");
  expect(stage.told().map(({ role }) => role)).toEqual(["user", "assistant", "tool", "assistant", "user"]);
  expect(stage.ran()).toEqual(["delete_note"]);
  const types: string[] = [];
  for await (const { type } of clientOfAnn().conversations.items.list(conversation, { order: "asc" }))
    types.push(type);
  expect(types).toEqual([
    "message",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "message",
    "message",
    "message",
  ]);
});
