// LangChain's ChatOpenAI as it is, on the Responses API. What the server's tools did is in additional_kwargs.tool_outputs.
import { ChatOpenAI, tools as builtIn } from "@langchain/openai";
import { expect, test } from "vitest";
import { z } from "zod";
import { calls, DELETES_TWO, FAILS, READS_AND_ASKS, setClientStage } from "../helpers/client-stage.ts";

const stage = setClientStage();
// Its traces would go to LangSmith.
process.env["LANGSMITH_TRACING"] = "false";

const chatWith = (...tools: Tools) =>
  new ChatOpenAI({
    model: "m",
    apiKey: stage.apiKey(),
    useResponsesApi: true,
    maxRetries: 0,
    configuration: { baseURL: stage.baseURL(), defaultHeaders: stage.headers },
  }).bindTools(tools);
type Tools = Parameters<ChatOpenAI["bindTools"]>[0];
const never = (server_label: string, more: object = {}) => ({
  type: "mcp",
  server_label,
  require_approval: "never",
  ...more,
});
const always = (server_label: string) => ({ type: "mcp", server_label });

type Chat = ReturnType<typeof chatWith>;
type Answer = Awaited<ReturnType<Chat["invoke"]>>;
type Messages = Exclude<Parameters<Chat["invoke"]>[0], string | { toChatMessages: unknown }>;
type Said = Messages[number];

const says = (content: string): Said => ({ role: "user", content });
const output = z.looseObject({ type: z.string(), id: z.string() });
const outputsOf = ({ additional_kwargs }: Answer) =>
  z.array(output).parse(additional_kwargs["tool_outputs"] ?? []);
const typesOf = (answer: Answer) => outputsOf(answer).map(({ type }) => type);
/** Everything of the response, also what it has no place for. */
const outputOf = ({ response_metadata }: Answer) => z.array(output).parse(response_metadata["output"]);

/** The person's answers to what was asked, in order. */
function answersTo(asked: Answer, ...answers: boolean[]): Said {
  const questions = outputsOf(asked).filter(({ type }) => type === "mcp_approval_request");
  expect(questions).toHaveLength(answers.length);
  const content = questions.map(({ id }, at) => ({
    type: "mcp_approval_response",
    approval_request_id: id,
    approve: answers[at] === true,
    reason: "it is precious",
  }));
  return { role: "user", content };
}
const after = ({ response_metadata }: Answer) => ({
  previous_response_id: String(response_metadata["id"]),
});

async function streamed(chat: Chat, messages: Messages): Promise<{ whole: Answer; seen: string[] }> {
  const chunks: Answer[] = [];
  for await (const chunk of await chat.stream(messages)) chunks.push(chunk);
  const seen = chunks.flatMap((chunk) => [...typesOf(chunk), chunk.text]).filter((piece) => piece !== "");
  return { whole: chunks.reduce((whole, chunk) => whole.concat(chunk)), seen };
}

/** Asked, the person allows, and the next request with all that was said: what it answers. */
const consents = async (presentation: string, status = "completed") => {
  await stage.settings({ consent_presentation: presentation, consent_status: status });
  const chat = chatWith(never("team"));
  const asked = await chat.invoke("who am I?");
  expect([asked.response_metadata["status"], asked.text === ""]).toEqual([status, presentation === "item"]);
  await stage.consentBy(asked.text === "" ? JSON.stringify(outputsOf(asked)) : asked.text);
  stage.script(calls("team__whoami"), { text: "Ann." });
  const done = await chat.invoke([says("who am I?"), asked, says("again, please")]);
  expect(stage.ranAs()).toEqual(["ann@provider"]);
  expect(JSON.stringify(stage.told())).not.toContain("/consent/");
  return done.text;
};

test("approval never: the tool runs, and the model answers with its result", async () => {
  stage.script(calls("notes__read_note", { id: "7" }), { text: "You need milk." });
  const answer = await chatWith(never("notes")).invoke("what do I need?");
  expect(typesOf(answer)).toEqual(["mcp_list_tools", "mcp_call"]);
  expect(outputsOf(answer)[1]).toMatchObject({ output: "note 7: buy milk", error: null });
  expect(answer.text).toBe("You need milk.");
});

test("approval always: the client asks, the person approves, and the call runs once as it was stored", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." });
  const chat = chatWith(always("notes"));
  const asked = await chat.invoke("delete note 1");
  expect(outputsOf(asked)[1]).toMatchObject({ name: "delete_note", arguments: '{"id":"1"}' });
  expect(stage.ran()).toEqual([]);
  const done = await chat.invoke([answersTo(asked, true)], after(asked));
  expect(outputsOf(done)).toMatchObject([{ type: "mcp_call", output: "deleted 1" }]);
  expect(done.text).toBe("It is gone.");
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("a denial runs nothing, and the model is told", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "I leave it." });
  const chat = chatWith(always("notes"));
  const asked = await chat.invoke("delete note 1");
  const done = await chat.invoke([answersTo(asked, false)], after(asked));
  expect(done.text).toBe("I leave it.");
  // It keeps the reason to itself.
  expect(stage.results()).toEqual(["Not run: the user denied this call."]);
  expect(stage.ran()).toEqual([]);
});

test("two questions at once, one approved and one denied: one call runs", async () => {
  stage.script(DELETES_TWO, { text: "One is gone." });
  const chat = chatWith(always("notes"));
  const asked = await chat.invoke("delete both");
  const done = await chat.invoke([answersTo(asked, true, false)], after(asked));
  expect(done.text).toBe("One is gone.");
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("allowed_tools hides the other tools, and a call of one of them does not run", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "I could not." });
  const some = never("notes", { allowed_tools: ["read_note", "echo"] });
  expect((await chatWith(some).invoke("delete note 1")).text).toBe("I could not.");
  expect(stage.offered()).toEqual(["notes__echo", "notes__read_note"]);

  stage.script({ text: "I only read." });
  await chatWith(never("notes", { allowed_tools: { read_only: true } })).invoke("hi");
  expect(stage.offered()).toEqual(["notes__read_note"]);
  expect(stage.ran()).toEqual([]);
});

test("a tool that fails is shown as failed, and the model goes on", async () => {
  stage.script(calls("notes__fail"), { text: "The printer burns." });
  const answer = await chatWith(never("notes")).invoke("print");
  expect(outputsOf(answer)[1]).toMatchObject({
    status: "failed",
    error: {
      type: "mcp_tool_execution_error",
      content: [{ type: "text", text: "the printer is on fire" }],
    },
  });
  expect(answer.text).toBe("The printer burns.");
});

test("a server that is down is shown as failed, and the model works with the others", async () => {
  stage.script({ text: "One is down." });
  const answer = await chatWith(never("down"), never("notes")).invoke("hi");
  const [down, notes] = outputsOf(answer);
  expect(down).toMatchObject({ server_label: "down", tools: [], error: expect.any(String) });
  expect(notes).not.toHaveProperty("error");
  expect(answer.text).toBe("One is down.");
});

test("a model that fails when a tool has run: the client says why, in one body and streamed", async () => {
  const chat = chatWith(never("notes"));
  stage.script(calls("notes__read_note"), FAILS);
  await expect(chat.invoke("read")).rejects.toThrow("too warm today");
  stage.script(calls("notes__read_note"), FAILS);
  await expect(streamed(chat, [says("read")])).rejects.toThrow("too warm today");
});

test("a tool of the client's own beside the server's: the model reads both results", async () => {
  stage.script(READS_AND_ASKS, { text: "Buy milk, it is sunny." });
  const weather = {
    type: "function",
    function: { name: "weather", parameters: { type: "object", properties: {} } },
  };
  const chat = chatWith(never("notes"), weather);
  const asked = await chat.invoke("what do I do?");
  const [wanted] = asked.tool_calls ?? [];
  expect(wanted).toMatchObject({ name: "weather", args: { city: "Rome" } });
  const result = { role: "tool", content: "sunny in Rome", tool_call_id: wanted?.id ?? "" };
  const done = await chat.invoke([says("what do I do?"), asked, result]);
  expect(done.text).toBe("Buy milk, it is sunny.");
  expect(stage.results()).toEqual(["sunny in Rome", "note 7: buy milk"]);
});

test("consent as item and message: the person finds the link, and the next request runs", async () => {
  expect(await consents("item+message")).toBe("Ann.");
});

test("consent as an item alone", async () => {
  expect(await consents("item")).toBe("Ann.");
});

test("consent as a message alone: the person finds the link, and the next request runs", async () => {
  expect(await consents("message")).toBe("Ann.");
});

test("consent with the status incomplete", async () => {
  expect(await consents("item+message", "incomplete")).toBe("Ann.");
});

test("a stream arrives in the client's own events, in order", async () => {
  stage.script(calls("notes__echo", { text: "hello" }), { text: ["It ", "says ", "hello."] });
  const { whole, seen } = await streamed(chatWith(never("notes")), [says("say hello")]);
  expect(seen).toEqual(["mcp_list_tools", "mcp_call", "It ", "says ", "hello."]);
  expect(whole.text).toBe("It says hello.");
  expect(typesOf(whole)).toEqual(["mcp_list_tools", "mcp_call"]);
  expect(whole).toMatchObject({ usage_metadata: { total_tokens: 30 } });
});

test("the progress of a call is no trouble in a stream", async () => {
  stage.script(calls("notes__count"), { text: "Two." });
  const { whole, seen } = await streamed(chatWith(never("notes")), [says("count")]);
  expect(seen).toEqual(["mcp_list_tools", "mcp_call", "Two."]);
  expect(outputsOf(whole)).toMatchObject([{}, { output: "counted" }]);
});

test("a stream that ends with a question, and one that begins with its answer", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." });
  const chat = chatWith(always("notes"));
  const asked = await streamed(chat, [says("delete note 1")]);
  expect(asked.seen).toEqual(["mcp_list_tools", "mcp_approval_request"]);
  const done = await streamed(chat, [says("delete note 1"), asked.whole, answersTo(asked.whole, true)]);
  expect(done.whole.text).toBe("It is gone.");
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("a stream that asks for consent", async () => {
  for (const consent_presentation of ["item+message", "message", "item"]) {
    for (const consent_status of ["completed", "incomplete"]) {
      await stage.settings({ consent_presentation, consent_status });
      const { whole } = await streamed(chatWith(never("team")), [says("who am I?")]);
      // Streamed, an item that it does not know is no tool output: it is in the response alone.
      expect(typesOf(whole)).toEqual([]);
      const said = consent_presentation === "item" ? JSON.stringify(outputOf(whole)) : whole.text;
      expect(said).toContain("/consent/");
    }
  }
});

test("the history that the client sends back is read, and nothing in it runs again", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." }, { text: "Welcome." });
  const chat = chatWith(always("notes"));
  const messages: Said[] = [says("delete note 1")];
  const asked = await chat.invoke(messages);
  messages.push(asked, answersTo(asked, true));
  messages.push(await chat.invoke(messages), says("thanks"));
  expect((await chat.invoke(messages)).text).toBe("Welcome.");
  expect(stage.told().map(({ role }) => role)).toEqual(["user", "assistant", "tool", "assistant", "user"]);
  expect(stage.results()).toEqual(["deleted 1"]);
  expect(stage.ran()).toEqual(["delete_note"]);
});

test("its own maker of MCP tools wants a URL, for which the connection of that label stands in", async () => {
  stage.script(calls("notes__echo", { text: "hello" }), { text: "Done." });
  const made = builtIn.mcp({
    serverLabel: "notes",
    serverUrl: "https://connection.example",
    requireApproval: { never: { toolNames: ["echo"] } },
  });
  expect((await chatWith(made).invoke("say hello")).text).toBe("Done.");
  expect(stage.ran()).toEqual(["echo"]);
});

test("in a conversation each turn reads what was said before, and what was approved there runs once", async () => {
  stage.script(calls("notes__delete_note", { id: "1" }), { text: "It is gone." }, { text: "Welcome." });
  // It has no conversations of its own, and passes on what it does not know.
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
  const chat = new ChatOpenAI({
    model: "m",
    apiKey: stage.apiKey(),
    useResponsesApi: true,
    maxRetries: 0,
    modelKwargs: { conversation },
    configuration: { baseURL: stage.baseURL(), defaultHeaders: stage.headers },
  }).bindTools([always("notes")]);
  const asked = await chat.invoke("delete note 1");
  await chat.invoke([answersTo(asked, true)]);
  const { whole } = await streamed(chat, [says("thanks")]);
  expect(whole.text).toBe("Welcome.");
  expect(stage.told().map(({ role }) => role)).toEqual(["user", "assistant", "tool", "assistant", "user"]);
  expect(stage.ran()).toEqual(["delete_note"]);
});
