// The Agents SDK as it is: agents with hosted MCP tools, run and streamed, with its own approvals.
import {
  Agent,
  hostedMcpTool,
  type HostedMCPTool,
  MemorySession,
  OpenAIConversationsSession,
  OpenAIProvider,
  Runner,
  RunState,
  type RunStreamEvent,
  setTracingDisabled,
  type Tool,
  tool,
  user,
} from "@openai/agents";
import OpenAI from "openai";
import { expect, test } from "vitest";
import { z } from "zod";
import { calls, DELETES_TWO, FAILS, READS_AND_ASKS, setClientStage } from "../helpers/client-stage.ts";

const stage = setClientStage();
// Its traces would go to OpenAI.
setTracingDisabled(true);

const openaiOfAnn = () =>
  new OpenAI({ baseURL: stage.baseURL(), apiKey: stage.apiKey(), defaultHeaders: stage.headers });

function runnerOfAnn(): Runner {
  return new Runner({
    modelProvider: new OpenAIProvider({ openAIClient: openaiOfAnn(), useResponses: true }),
  });
}

const clerkWith = (...tools: Tool[]) => new Agent({ name: "clerk", model: "m", tools });
const never = (serverLabel: string) => hostedMcpTool({ serverLabel });
const always = (serverLabel: string): HostedMCPTool =>
  hostedMcpTool({ serverLabel, requireApproval: "always" });
const ask = (clerk: Agent, input: string) => runnerOfAnn().run(clerk, input);

type Run = Awaited<ReturnType<typeof ask>>;

/** What a run has brought, by the names that the wire has for it. */
const itemsOf = ({ newItems }: Run) =>
  newItems.map(({ type, rawItem }) => ("name" in rawItem ? rawItem.name : type));
const detailsOf = ({ newItems }: Run, name: string) =>
  newItems.flatMap(({ rawItem }) =>
    "name" in rawItem && rawItem.name === name ? [rawItem.providerData] : [],
  );

type Asking = Pick<Run, "interruptions"> & { state: Pick<Run["state"], "approve" | "reject"> };

/** Approves or rejects what a run asks, in order. */
function decide({ state, interruptions }: Asking, ...answers: boolean[]): void {
  expect(interruptions).toHaveLength(answers.length);
  for (const [at, question] of interruptions.entries()) {
    if (answers[at] === true) state.approve(question);
    else state.reject(question, { message: "it is precious" });
  }
}

/** Asked, the person allows, and the next request with all that was said: what it answers. */
const consents = async (presentation: string) => {
  await stage.settings({ consent_presentation: presentation });
  const clerk = clerkWith(never("team"));
  const asked = await ask(clerk, "who am I?");
  await stage.consentBy(asked.finalOutput ?? "");
  stage.script(calls("team__whoami"), { text: "Ann." });
  const done = await runnerOfAnn().run(clerk, [...asked.history, user("again, please")]);
  expect(stage.ranAs()).toEqual(["ann@provider"]);
  expect(JSON.stringify(stage.told())).not.toContain("/consent/");
  return done.finalOutput;
};

test("approval never: the tool runs, and the model answers with its result", async () => {
  stage.script(calls("notes__read_note", { id: "7" }), { text: "You need milk." });
  const result = await ask(clerkWith(never("notes")), "what do I need?");
  expect(itemsOf(result)).toEqual(["mcp_list_tools", "mcp_call", "message_output_item"]);
  expect(result.finalOutput).toBe("You need milk.");
  expect(stage.results()).toEqual(["note 7: buy milk"]);
});

test("approval always: the client asks, the person approves, and the call runs once as it was stored", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." });
  const clerk = clerkWith(always("notes"));
  const asked = await ask(clerk, "delete note 1");
  expect(asked.interruptions.map(({ name, rawItem }) => [name, rawItem.providerData])).toMatchObject([
    ["delete_note", { server_label: "notes", arguments: '{"id":"1"}' }],
  ]);
  expect(stage.ran()).toEqual([]);
  // As it is kept while the person thinks.
  const state = await RunState.fromString<undefined, Agent>(clerk, asked.state.toString());
  decide({ state, interruptions: state.getInterruptions() }, true);
  const done = await runnerOfAnn().run(clerk, state);
  expect(done.finalOutput).toBe("It is gone.");
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("a denial runs nothing, and the model is told", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "I leave it." });
  const clerk = clerkWith(always("notes"));
  const asked = await ask(clerk, "delete note 1");
  decide(asked, false);
  const done = await runnerOfAnn().run(clerk, asked.state);
  expect(done.finalOutput).toBe("I leave it.");
  expect(stage.results()).toEqual(["Not run: the user denied this call. Reason: it is precious"]);
  expect(stage.ran()).toEqual([]);
});

test("two questions at once, one approved and one denied: one call runs", async () => {
  stage.script(DELETES_TWO, { text: "One is gone." });
  const clerk = clerkWith(always("notes"));
  const asked = await ask(clerk, "delete both");
  decide(asked, true, false);
  const done = await runnerOfAnn().run(clerk, asked.state);
  expect(done.finalOutput).toBe("One is gone.");
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("allowed_tools hides the other tools, and a call of one of them does not run", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "I could not." });
  const some = hostedMcpTool({ serverLabel: "notes", allowedTools: ["read_note", "echo"] });
  const result = await ask(clerkWith(some), "delete note 1");
  expect(stage.offered()).toEqual(["notes__echo", "notes__read_note"]);
  expect(result.finalOutput).toBe("I could not.");
  expect(stage.ran()).toEqual([]);
});

test("a tool that fails is shown as failed, and the model goes on", async () => {
  stage.script(calls("notes__fail"), { text: "The printer burns." });
  const result = await ask(clerkWith(never("notes")), "print");
  // The item's own status is "completed" in this client, whatever the broker says; its details have both.
  expect(detailsOf(result, "mcp_call")).toMatchObject([
    {
      status: "failed",
      error: {
        type: "mcp_tool_execution_error",
        content: [{ type: "text", text: "the printer is on fire" }],
      },
    },
  ]);
  expect(result.finalOutput).toBe("The printer burns.");
});

test("a server that is down is shown as failed, and the model works with the others", async () => {
  stage.script({ text: "One is down." });
  const result = await ask(clerkWith(never("down"), never("notes")), "hi");
  const [down, notes] = detailsOf(result, "mcp_list_tools");
  expect(down).toMatchObject({ server_label: "down", tools: [], error: expect.any(String) });
  expect(notes).not.toHaveProperty("error");
  expect(result.finalOutput).toBe("One is down.");
});

test("a model that fails when a tool has run: the client says why, in one body and streamed", async () => {
  const clerk = clerkWith(never("notes"));
  // In one body this client keeps the reason to itself.
  stage.script(calls("notes__read_note"), FAILS);
  await expect(ask(clerk, "read")).rejects.toThrow('unsuccessful terminal state "response.failed"');
  stage.script(calls("notes__read_note"), FAILS);
  await expect(streamed(clerk, "read")).rejects.toThrow("too warm today");
});

test("a tool of the client's own beside the server's: the model reads both results", async () => {
  stage.script(READS_AND_ASKS, { text: "Buy milk, it is sunny." });
  const weather = tool({
    name: "weather",
    description: "The weather in a city",
    parameters: z.object({ city: z.string() }),
    execute: async ({ city }) => `sunny in ${city}`,
  });
  const result = await ask(clerkWith(never("notes"), weather), "what do I do?");
  expect(result.finalOutput).toBe("Buy milk, it is sunny.");
  expect(stage.results()).toEqual(["sunny in Rome", "note 7: buy milk"]);
});

test("consent as item and message: the person finds the link, and the next request runs", async () => {
  expect(await consents("item+message")).toBe("Ann.");
});

test("consent as an item alone", async () => {
  // It drops items that it does not know, takes an answer without words for none, and asks until its turns are over.
  await stage.settings({ consent_presentation: "item" });
  await expect(ask(clerkWith(never("team")), "who am I?")).rejects.toThrow("Max turns (10) exceeded");
});

test("consent as a message alone: the person finds the link, and the next request runs", async () => {
  expect(await consents("message")).toBe("Ann.");
});

test("consent with the status incomplete", async () => {
  await stage.settings({ consent_status: "incomplete" });
  const asked = ask(clerkWith(never("team")), "who am I?");
  await expect(asked).rejects.toThrow('unsuccessful terminal state "response.incomplete"');
});

test("a stream arrives in the client's own events, in order", async () => {
  stage.script(calls("notes__echo", { text: "hello" }), { text: ["It ", "says ", "hello."] });
  const { stream, events } = await streamed(clerkWith(never("notes")), "say hello");
  expect(events.flatMap(deltaOf)).toEqual(["It ", "says ", "hello."]);
  expect(events.flatMap(nameOf)).toEqual([
    "response_started",
    ...Array.from({ length: 3 }, () => "output_text_delta"),
    "response_done",
    "tool_called",
    "tool_called",
    "message_output_created",
  ]);
  expect(stream.finalOutput).toBe("It says hello.");
});

test("the progress of a call is no trouble in a stream", async () => {
  stage.script(calls("notes__count"), { text: "Two." });
  const { stream } = await streamed(clerkWith(never("notes")), "count");
  expect(stream.finalOutput).toBe("Two.");
  expect(stage.results()).toEqual(["counted"]);
});

test("a stream that ends with a question, and one that begins with its answer", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." });
  const clerk = clerkWith(always("notes"));
  const asked = await streamed(clerk, "delete note 1");
  expect(asked.events.flatMap(nameOf)).toContain("tool_approval_requested");
  decide(asked.stream, true);
  const done = await streamed(clerk, asked.stream.state);
  expect(done.stream.finalOutput).toBe("It is gone.");
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("a stream that asks for consent", async () => {
  for (const consent_presentation of ["item+message", "message"]) {
    await stage.settings({ consent_presentation });
    const { stream } = await streamed(clerkWith(never("team")), "who am I?");
    expect(stream.finalOutput).toContain("/consent/");
  }
});

test("the history that the client sends back is read, and nothing in it runs again", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." }, { text: "Welcome." });
  const clerk = clerkWith(always("notes"));
  const asked = await ask(clerk, "delete note 1");
  decide(asked, true);
  const done = await runnerOfAnn().run(clerk, asked.state);
  const thanked = await runnerOfAnn().run(clerk, [...done.history, user("thanks")]);
  expect(thanked.finalOutput).toBe("Welcome.");
  expect(stage.told().map(({ role }) => role)).toEqual(["user", "assistant", "tool", "assistant", "user"]);
  // It sends calls back without what came of them.
  expect(stage.results()).toEqual(["deleted 1"]);
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("an answer by onApproval needs no interruption", async () => {
  stage.script(DELETES_TWO, { text: "One is gone." });
  const careful = hostedMcpTool({
    serverLabel: "notes",
    requireApproval: "always",
    onApproval: async (_context, { rawItem }) => ({
      approve: rawItem.providerData?.["arguments"] === '{"id":"1"}',
      reason: "only the first",
    }),
  });
  const result = await ask(clerkWith(careful), "delete both");
  expect(result.interruptions).toEqual([]);
  expect(stage.results()).toEqual([
    "deleted 1",
    "Not run: the user denied this call. Reason: only the first",
  ]);
});

test("a session, and previousResponseId, go on where the conversation was", async () => {
  const clerk = clerkWith(always("notes"));
  const session = new MemorySession();
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." }, { text: "Welcome." });
  const asked = await runnerOfAnn().run(clerk, "delete note 1", { session });
  decide(asked, true);
  await runnerOfAnn().run(clerk, asked.state, { session });
  const thanked = await runnerOfAnn().run(clerk, "thanks", { session });
  const roles = ["user", "assistant", "tool", "assistant", "user"];
  expect(stage.told().map(({ role }) => role)).toEqual(roles);

  stage.script({ text: "Bye." });
  const previousResponseId = thanked.lastResponseId ?? "";
  await runnerOfAnn().run(clerk, "bye", { previousResponseId });
  expect(stage.told().map(({ role }) => role)).toEqual([...roles, "assistant", "user"]);
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("in a conversation each turn reads what was said before, and what was approved there runs once", async () => {
  const clerk = clerkWith(always("notes"));
  const { id: conversationId } = await openaiOfAnn().conversations.create({});
  const roles = ["user", "assistant", "tool", "assistant", "user"];
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." }, { text: "Welcome." });
  const asked = await runnerOfAnn().run(clerk, "delete note 1", { conversationId });
  decide(asked, true);
  await runnerOfAnn().run(clerk, asked.state, { conversationId });
  const thanked = await runnerOfAnn().run(clerk, "thanks", { conversationId });
  expect(thanked.finalOutput).toBe("Welcome.");
  expect(stage.told().map(({ role }) => role)).toEqual(roles);
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("a session in a conversation: the client reads it, adds to it, and takes back what was said last", async () => {
  const clerk = clerkWith(always("notes"));
  const session = new OpenAIConversationsSession({ client: openaiOfAnn() });
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." }, { text: "Welcome." });
  const asked = await runnerOfAnn().run(clerk, "delete note 1", { session });
  decide(asked, true);
  await runnerOfAnn().run(clerk, asked.state, { session });
  const thanked = await runnerOfAnn().run(clerk, "thanks", { session });
  expect(thanked.finalOutput).toBe("Welcome.");
  expect(stage.told().map(({ role }) => role)).toEqual(["user", "assistant", "tool", "assistant", "user"]);
  expect(stage.ran()).toEqual(["delete_note"]);
  const before = await session.getItems();
  expect((await session.popItem())?.type).toBe("message");
  expect(await session.getItems()).toEqual(before.slice(0, -1));
  expect(await session.getItems(2)).toEqual(before.slice(-3, -1));
  await session.clearSession();
  expect(await session.getItems()).toEqual([]);
});

async function streamed(clerk: Agent, input: string | RunState<undefined, Agent>) {
  const stream = await runnerOfAnn().run(clerk, input, { stream: true });
  const events: RunStreamEvent[] = [];
  for await (const event of stream) events.push(event);
  await stream.completed;
  return { stream, events };
}

/** The events that the client makes; those that it passes on as they came are the broker's own. */
function nameOf(event: RunStreamEvent): string[] {
  if (event.type === "run_item_stream_event") return [event.name];
  if (event.type !== "raw_model_stream_event" || event.data.type === "model") return [];
  return [event.data.type];
}

function deltaOf(event: RunStreamEvent): string[] {
  if (event.type !== "raw_model_stream_event" || event.data.type !== "output_text_delta") return [];
  return [event.data.delta];
}
