// The AI SDK as it is: generateText and streamText with openai.tools.mcp. Its label must come with a server_url, for which the
// connection of that name stands in; its approvals are parts of messages.
import { createOpenAI } from "@ai-sdk/openai";
import {
  generateText,
  isStepCount,
  type ModelMessage,
  streamText,
  tool,
  type TextStreamPart,
  type ToolSet,
} from "ai";
import { expect, test } from "vitest";
import { z } from "zod";
import { calls, DELETES_TWO, FAILS, READS_AND_ASKS, setClientStage } from "../helpers/client-stage.ts";

const stage = setClientStage();
const openai = () =>
  createOpenAI({ baseURL: stage.baseURL(), apiKey: stage.apiKey(), headers: stage.headers });
const never = (serverLabel: string) =>
  openai().tools.mcp({ serverLabel, serverUrl: "https://connection.example" });
const always = (serverLabel: string) =>
  openai().tools.mcp({
    serverLabel,
    serverUrl: "https://connection.example",
    requireApproval: "always",
  });

type Options = { store?: boolean; previousResponseId?: string; conversation?: string };
const optionsOf = (input: string | ModelMessage[], tools: ToolSet, { store = true, ...more }: Options) => ({
  model: openai().responses("m"),
  messages: typeof input === "string" ? [says(input)] : input,
  tools,
  maxRetries: 0,
  providerOptions: { openai: { store, ...more } },
});
const ask = (input: string | ModelMessage[], tools: ToolSet, options: Options = {}) =>
  generateText({
    ...optionsOf(input, tools, options),
    stopWhen: isStepCount(3),
    include: { responseBody: true },
  });
const says = (content: string): ModelMessage => ({ role: "user", content });

type Content = Awaited<ReturnType<typeof ask>>["content"];

/** The person's answers to what was asked, in order; null leaves one open. Without `providerExecuted` the client drops them without a word. */
function answersTo(content: Content, ...answers: (boolean | null)[]): ModelMessage {
  const asked = content.flatMap((part) => (part.type === "tool-approval-request" ? [part] : []));
  expect(asked).toHaveLength(answers.length);
  return {
    role: "tool",
    content: answers.flatMap((approved, at) => {
      const approvalId = asked[at]?.approvalId;
      if (approved === null || approvalId === undefined) return [];
      const reason = "it is precious";
      return [{ type: "tool-approval-response", approvalId, approved, reason, providerExecuted: true }];
    }),
  };
}

const resultsOf = (content: Content) =>
  content.flatMap((part) => (part.type === "tool-result" ? [[part.toolName, part.output]] : []));

async function streamed(input: string | ModelMessage[], tools: ToolSet) {
  const errors: unknown[] = [];
  const stream = streamText({
    ...optionsOf(input, tools, {}),
    onError: ({ error }) => {
      errors.push(error);
    },
  });
  const parts: TextStreamPart<ToolSet>[] = [];
  for await (const part of stream.fullStream) parts.push(part);
  return { stream, errors, types: parts.map(({ type }) => type) };
}

test("approval never: the tool runs, and the model answers with its result", async () => {
  stage.script(calls("notes__read_note", { id: "7" }), { text: "You need milk." });
  const { content, text, warnings } = await ask("what do I need?", { notes: never("notes") });
  expect(content.map(({ type }) => type)).toEqual(["tool-call", "tool-result", "text"]);
  expect(resultsOf(content)).toMatchObject([
    ["mcp.read_note", { serverLabel: "notes", output: "note 7: buy milk" }],
  ]);
  expect([text, warnings]).toEqual(["You need milk.", []]);
});

test("approval always: the client asks, the person approves, and the call runs once as it was stored", async () => {
  for (const store of [true, false]) {
    stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." });
    const tools = { notes: always("notes") };
    const asked = await ask("delete note 1", tools, { store });
    expect(asked.content).toMatchObject([
      { type: "tool-call", toolName: "mcp.delete_note", input: { id: "1" } },
      { type: "tool-approval-request", approvalId: expect.stringMatching(/^mcpr_/) },
    ]);
    const before = stage.ran().length;
    const messages = [says("delete note 1"), ...asked.responseMessages, answersTo(asked.content, true)];
    const done = await ask(messages, tools, { store });
    expect(resultsOf(done.content)).toMatchObject([["mcp.delete_note", { output: "deleted 1" }]]);
    expect(done.text).toBe("It is gone.");
    expect(stage.ran()).toHaveLength(before + 1);
  }
});

test("a denial runs nothing, and the model is told", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "I leave it." });
  const tools = { notes: always("notes") };
  const asked = await ask("delete note 1", tools);
  const messages = [says("delete note 1"), ...asked.responseMessages, answersTo(asked.content, false)];
  expect((await ask(messages, tools)).text).toBe("I leave it.");
  // It keeps the reason to itself.
  expect(stage.results()).toEqual(["Not run: the user denied this call."]);
  expect(stage.ran()).toEqual([]);
});

test("two questions at once, one approved and one denied: one call runs", async () => {
  stage.script(DELETES_TWO, { text: "One is gone." });
  const tools = { notes: always("notes") };
  const asked = await ask("delete both", tools);
  const messages = [says("delete both"), ...asked.responseMessages, answersTo(asked.content, true, false)];
  expect((await ask(messages, tools)).text).toBe("One is gone.");
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("allowed_tools hides the other tools, and a call of one of them does not run", async () => {
  const only = (allowedTools: string[] | { readOnly: boolean }) => ({
    notes: openai().tools.mcp({
      serverLabel: "notes",
      serverUrl: "https://connection.example",
      allowedTools,
    }),
  });
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "I could not." });
  expect((await ask("delete note 1", only(["read_note", "echo"]))).text).toBe("I could not.");
  expect(stage.offered()).toEqual(["notes__echo", "notes__read_note"]);

  stage.script({ text: "I only read." });
  await ask("hi", only({ readOnly: true }));
  expect(stage.offered()).toEqual(["notes__read_note"]);
  expect(stage.ran()).toEqual([]);
});

test("a tool that fails is shown as failed, and the model goes on", async () => {
  stage.script(calls("notes__fail"), { text: "The printer burns." });
  const { content, text } = await ask("print", { notes: never("notes") });
  // A result with an error in it, no tool-error: so this client shows what a provider ran.
  const error = {
    type: "mcp_tool_execution_error",
    content: [{ type: "text", text: "the printer is on fire" }],
  };
  expect(resultsOf(content)).toMatchObject([["mcp.fail", { error }]]);
  expect(text).toBe("The printer burns.");
});

test("a server that is down is shown as failed, and the model works with the others", async () => {
  stage.script({ text: "One is down." });
  const { content, text, response } = await ask("hi", { down: never("down"), notes: never("notes") });
  // It drops lists of tools, failed or not: they are in the body alone.
  expect(content.map(({ type }) => type)).toEqual(["text"]);
  expect(response.body).toMatchObject({
    output: [{ server_label: "down", tools: [], error: expect.any(String) }, {}, {}],
  });
  expect(text).toBe("One is down.");
});

test("a model that fails when a tool has run: the client says why, in one body and streamed", async () => {
  stage.script(calls("notes__read_note"), FAILS);
  await expect(ask("read", { notes: never("notes") })).rejects.toThrow("too warm today");
  stage.script(calls("notes__read_note"), FAILS);
  const { types, errors } = await streamed("read", { notes: never("notes") });
  expect(types).toContain("error");
  expect(errors.map(String)).toEqual([expect.stringContaining("too warm today")]);
});

test("a tool of the client's own beside the server's: the model reads both results", async () => {
  stage.script(READS_AND_ASKS, { text: "Buy milk, it is sunny." });
  const weather = tool({
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `sunny in ${city}`,
  });
  const { text } = await ask("what do I do?", { notes: never("notes"), weather });
  expect(text).toBe("Buy milk, it is sunny.");
  expect(stage.results()).toEqual(["sunny in Rome", "note 7: buy milk"]);
});

test("consent as item and message: the person finds the link, and the next request runs", async () => {
  // In one body, a kind of item that it does not know fails the whole answer; a project for it asks by message.
  await expect(ask("who am I?", { team: never("team") })).rejects.toThrow("Invalid JSON response");
});

test("consent as an item alone", async () => {
  await stage.settings({ consent_presentation: "item" });
  await expect(ask("who am I?", { team: never("team") })).rejects.toThrow("Invalid JSON response");
});

test("consent as a message alone: the person finds the link, and the next request runs", async () => {
  await stage.settings({ consent_presentation: "message" });
  const tools = { team: never("team") };
  const asked = await ask("who am I?", tools);
  expect(asked.finishReason).toBe("stop");
  await stage.consentBy(asked.text);
  stage.script(calls("team__whoami"), { text: "Ann." });
  const messages = [says("who am I?"), ...asked.responseMessages, says("again, please")];
  expect((await ask(messages, tools)).text).toBe("Ann.");
  expect(stage.ranAs()).toEqual(["ann@provider"]);
  expect(JSON.stringify(stage.told())).not.toContain("/consent/");
});

test("consent with the status incomplete", async () => {
  await stage.settings({ consent_presentation: "message", consent_status: "incomplete" });
  const tools = { team: never("team") };
  const asked = await ask("who am I?", tools);
  // No word of the status: it takes an incomplete answer without a reason for a whole one.
  expect(asked.finishReason).toBe("stop");
  await stage.consentBy(asked.text);
  stage.script(calls("team__whoami"), { text: "Ann." });
  expect((await ask("who am I?", tools)).text).toBe("Ann.");
});

test("a stream arrives in the client's own events, in order", async () => {
  stage.script(calls("notes__echo", { text: "hello" }), { text: ["It ", "says ", "hello."] });
  const { types, stream, errors } = await streamed("say hello", { notes: never("notes") });
  expect(types).toEqual([
    "start",
    "start-step",
    "tool-call",
    "tool-result",
    "text-start",
    ...Array.from({ length: 3 }, () => "text-delta"),
    "text-end",
    "finish-step",
    "finish",
  ]);
  expect([await stream.text, await stream.warnings, errors]).toEqual(["It says hello.", [], []]);
});

test("the progress of a call is no trouble in a stream", async () => {
  stage.script(calls("notes__count"), { text: "Two." });
  const { stream, errors } = await streamed("count", { notes: never("notes") });
  expect([await stream.text, await stream.warnings, errors]).toEqual(["Two.", [], []]);
  expect(stage.results()).toEqual(["counted"]);
});

test("a stream that ends with a question, and one that begins with its answer", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." });
  const tools = { notes: always("notes") };
  const asked = await streamed("delete note 1", tools);
  expect(asked.types).toContain("tool-approval-request");
  const done = await streamed(
    [
      says("delete note 1"),
      ...(await asked.stream.responseMessages),
      answersTo(await asked.stream.content, true),
    ],
    tools,
  );
  expect(await done.stream.text).toBe("It is gone.");
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("a stream that asks for consent", async () => {
  for (const consent_status of ["completed", "incomplete"]) {
    for (const consent_presentation of ["item+message", "message"]) {
      await stage.settings({ consent_presentation, consent_status });
      const { stream, errors } = await streamed("who am I?", { team: never("team") });
      expect([await stream.text, errors]).toEqual([expect.stringContaining("/consent/"), []]);
    }
  }
  // Streamed, an item that it does not know is passed over: nobody sees that something is asked.
  await stage.settings({ consent_presentation: "item", consent_status: "completed" });
  const { types, errors } = await streamed("who am I?", { team: never("team") });
  expect([types, errors]).toEqual([["start", "start-step", "finish-step", "finish"], []]);
});

test("the history that the client sends back is read, and nothing in it runs again", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." }, { text: "Welcome." });
  await talk(true);
  expect(stage.told().map(({ role }) => role)).toEqual(["user", "assistant", "tool", "assistant", "user"]);
  expect(stage.results()).toEqual(["deleted 1"]);
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("a question that is left open is not sent back: the model reads the other alone, and nothing else runs", async () => {
  stage.script(DELETES_TWO, { text: "One is gone." });
  const tools = { notes: always("notes") };
  const asked = await ask("delete both", tools);
  const messages = [says("delete both"), ...asked.responseMessages];
  const done = await ask([...messages, answersTo(asked.content, true, null)], tools);
  expect(done.text).toBe("One is gone.");
  expect(stage.results()).toEqual(["deleted 1"]);
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("Chat Completions are not spoken, and it says so", async () => {
  const asked = generateText({ model: openai().chat("m"), prompt: "hi", maxRetries: 0 });
  await expect(asked).rejects.toMatchObject({ statusCode: 404, message: "There is nothing at this path." });
});

test("previousResponseId goes on where that response was", async () => {
  stage.script(calls("notes__read_note"), { text: "Milk." }, { text: "Welcome." });
  const { response } = await ask("read", { notes: never("notes") });
  await ask("thanks", { notes: never("notes") }, { previousResponseId: response.id });
  expect(stage.told().map(({ role }) => role)).toEqual(["user", "assistant", "tool", "assistant", "user"]);
});

test("a denial that is streamed is said twice by the client, and is one denial", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "I leave it." }, { text: "Welcome." });
  const tools = { notes: always("notes") };
  const asked = await streamed("delete note 1", tools);
  const messages = [says("delete note 1"), ...(await asked.stream.responseMessages)];
  messages.push(answersTo(await asked.stream.content, false));
  const done = await streamed(messages, tools);
  expect([await done.stream.text, done.errors]).toEqual(["I leave it.", []]);
  messages.push(...(await done.stream.responseMessages), says("thanks"));
  const thanked = await streamed(messages, tools);
  expect([await thanked.stream.text, thanked.errors]).toEqual(["Welcome.", []]);
  expect(stage.results()).toEqual(["Not run: the user denied this call."]);
  expect(stage.ran()).toEqual([]);
});

test("with store: false a call that was approved is remembered, and one that was not asked about is not", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." }, { text: "Welcome." });
  await talk(false);
  expect(stage.results()).toEqual(["deleted 1"]);

  stage.script(calls("notes__read_note"), { text: "Milk." }, { text: "Welcome." });
  const tools = { notes: never("notes") };
  const first = await ask("read", tools, { store: false });
  await ask([says("read"), ...first.responseMessages, says("thanks")], tools, { store: false });
  expect(stage.told().map(({ role }) => role)).toEqual(["user", "assistant", "user"]);
  // It says so itself.
  expect(stage.complaints().join()).toContain("are not sent to the API when store is false");
});

test("in a conversation each turn reads what was said before, and what was approved there runs once", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." }, { text: "Welcome." });
  // Conversations are made elsewhere, as it says itself.
  const made = await fetch(`${stage.baseURL()}/conversations`, {
    method: "POST",
    headers: {
      ...stage.headers,
      authorization: `Bearer ${stage.apiKey()}`,
      "content-type": "application/json",
    },
    body: "{}",
  });
  const { id: conversation } = z.object({ id: z.string() }).parse(await made.json());
  const tools = { notes: always("notes") };
  const asked = await ask("delete note 1", tools, { conversation });
  const answer = answersTo(asked.content, true);
  // It wants to see the question that is answered, and does not send it: what has an id is in the conversation.
  const done = await ask([...asked.responseMessages, answer], tools, { conversation });
  expect(done.text).toBe("It is gone.");
  expect((await ask("thanks", tools, { conversation })).text).toBe("Welcome.");
  expect(stage.told().map(({ role }) => role)).toEqual(["user", "assistant", "tool", "assistant", "user"]);
  expect(stage.ran()).toEqual(["delete_note"]);
});

/** Asks for a deletion, approves it, and says thanks, each time with all messages so far. */
async function talk(store: boolean): Promise<void> {
  const tools = { notes: always("notes") };
  const messages = [says("delete note 1")];
  const asked = await ask(messages, tools, { store });
  messages.push(...asked.responseMessages, answersTo(asked.content, true));
  const done = await ask(messages, tools, { store });
  messages.push(...done.responseMessages, says("thanks"));
  expect((await ask(messages, tools, { store })).text).toBe("Welcome.");
}
