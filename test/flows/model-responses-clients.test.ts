import { createOpenAI } from "@ai-sdk/openai";
import { ChatOpenAI } from "@langchain/openai";
import { Agent, OpenAIProvider, Runner, setTracingDisabled } from "@openai/agents";
import { generateText, streamText } from "ai";
import type OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type ResponsesModel, startResponsesModel } from "../helpers/model-responses.ts";
import { createWorld, type TestWorld } from "../helpers/world.ts";

// What the unmodified clients make of reasoning that comes through the broker.

const ENCRYPTED = "gAAAA-what-it-thought";
let world: TestWorld;
let model: ResponsesModel;
let openai: OpenAI;

beforeAll(async () => {
  setTracingDisabled(true);
  model = await startResponsesModel(() => ({
    says: [{ reasoning: ["One.", "Two."], encrypted: ENCRYPTED, content: "All." }, { text: "Hello." }],
  }));
  world = await createWorld({
    env: { CONSENTRY_MODEL_BASE_URL: model.baseUrl, CONSENTRY_MODEL_API: "responses" },
  });
  openai = await world.runtime();
});
beforeEach(() => {
  model.requests.length = 0;
});
afterAll(async () => {
  await world.stop();
  await model.close();
});

const place = () => ({ baseURL: openai.baseURL, apiKey: openai.apiKey ?? "" });
const sentBack = () => model.requests.at(-1)?.body.input.find(({ type }) => type === "reasoning");

describe("the AI SDK", () => {
  const sdk = () => createOpenAI(place()).responses("gpt-5");
  const providerOptions = { openai: { store: false, reasoningSummary: "auto" } };

  test("reads it in one body and in a stream", async () => {
    const { text, reasoningText } = await generateText({ model: sdk(), prompt: "hi" });
    expect([text, reasoningText]).toEqual(["Hello.", expect.stringContaining("One.")]);
    const streamed = streamText({ model: sdk(), prompt: "hi" });
    expect(await streamed.text).toBe("Hello.");
    expect(await streamed.reasoningText).toContain("Two.");
  });

  test("keeps it without a store, and sends it back", async () => {
    const first = await generateText({ model: sdk(), prompt: "hi", providerOptions });
    const messages = [
      { role: "user" as const, content: "hi" },
      ...first.response.messages,
      { role: "user" as const, content: "on" },
    ];
    await generateText({ model: sdk(), messages, providerOptions });
    expect(sentBack()).toMatchObject({ encrypted_content: ENCRYPTED });
  });
});

test("the Agents SDK runs with it, streamed and not, and its history brings it back", async () => {
  const modelProvider = new OpenAIProvider({ openAIClient: openai as never, useResponses: true });
  const runner = new Runner({ modelProvider });
  const agent = new Agent({ name: "a", instructions: "Be brief.", model: "gpt-5" });
  const first = await runner.run(agent, "hi");
  expect(first.finalOutput).toBe("Hello.");
  await runner.run(agent, [...first.history, { role: "user", content: "on" }]);
  expect(sentBack()).toMatchObject({ encrypted_content: ENCRYPTED });
  const streamed = await runner.run(agent, "hi", { stream: true });
  await streamed.completed;
  expect(streamed.finalOutput).toBe("Hello.");
});

test("LangChain reads it in one body and in a stream", async () => {
  const chat = new ChatOpenAI({
    model: "gpt-5",
    apiKey: openai.apiKey,
    useResponsesApi: true,
    configuration: { baseURL: openai.baseURL },
  });
  const answer = await chat.invoke("hi");
  expect(answer.text).toBe("Hello.");
  expect(JSON.stringify(answer)).toContain("One.");
  let text = "";
  for await (const chunk of await chat.stream("hi")) text += chunk.text;
  expect(text).toBe("Hello.");
});
