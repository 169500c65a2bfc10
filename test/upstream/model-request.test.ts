import { describe, expect, test } from "vitest";
import type { ModelTool } from "../../src/core/ports.ts";
import type { Sampling } from "../../src/core/request.ts";
import { chatRequest } from "../../src/upstream/model-request.ts";
import { modelRequest, NO_SAMPLING } from "../helpers/model-request.ts";

const tool: ModelTool = { name: "echo", description: null, parameters: null, strict: null };
const sent = (sampling: Partial<Sampling>) =>
  chatRequest(modelRequest({ sampling: { ...NO_SAMPLING, ...sampling } }));

test("what the caller left open is not sent", () => {
  expect(chatRequest(modelRequest())).toEqual({
    model: "m",
    messages: [{ role: "user", content: "hi" }],
    stream: true,
    stream_options: { include_usage: true },
  });
});

test("sampling goes along under the names of Chat Completions", () => {
  const sampling: Partial<Sampling> = {
    temperature: 0,
    topP: 0.5,
    topLogprobs: 3,
    maxOutputTokens: 100,
    frequencyPenalty: 0.1,
    presencePenalty: 0.2,
    reasoning: { effort: "low", summary: "auto" },
    verbosity: "high",
    promptCacheKey: "cache",
    serviceTier: "flex",
  };
  const { messages: _, model: _model, stream: _stream, stream_options: _options, ...rest } = sent(sampling);
  expect(rest).toEqual({
    temperature: 0,
    top_p: 0.5,
    max_completion_tokens: 100,
    frequency_penalty: 0.1,
    presence_penalty: 0.2,
    reasoning_effort: "low",
    verbosity: "high",
    prompt_cache_key: "cache",
    service_tier: "flex",
  });
  expect(sent({ reasoning: { effort: null, summary: "auto" } })).not.toHaveProperty("reasoning_effort");
  expect(chatRequest(modelRequest({ user: "ann" }))).toMatchObject({ user: "ann" });
});

describe("the text format", () => {
  const schema = { type: "object", properties: {} };

  test("puts a schema's fields into an object of their own", () => {
    const format = { type: "json_schema", name: "answer", schema, strict: true, description: null };
    expect(sent({ textFormat: format }).response_format).toEqual({
      type: "json_schema",
      json_schema: { name: "answer", schema, strict: true },
    });
  });

  test("passes json_object on, and leaves plain text unsaid", () => {
    expect(sent({ textFormat: { type: "json_object" } }).response_format).toEqual({ type: "json_object" });
    expect(sent({ textFormat: { type: "text" } })).not.toHaveProperty("response_format");
  });

  test("is refused when this API has no such format", () => {
    expect(() => sent({ textFormat: { type: "grammar" } })).toThrow(
      expect.objectContaining({
        code: "not_supported",
        details: expect.objectContaining({ param: "text.format" }),
      }),
    );
  });
});

describe("tools", () => {
  test("are functions, with what is known of them", () => {
    const parameters = { type: "object", properties: { a: { type: "string" } } };
    const tools = [tool, { name: "add", description: "Adds.", parameters, strict: true }];
    expect(chatRequest(modelRequest({ tools })).tools).toEqual([
      { type: "function", function: { name: "echo" } },
      { type: "function", function: { name: "add", description: "Adds.", parameters, strict: true } },
    ]);
  });

  test("are chosen in every form", () => {
    const choice = (toolChoice: "auto" | "none" | "required" | { name: string }) =>
      chatRequest(modelRequest({ tools: [tool], toolChoice })).tool_choice;
    expect(choice("auto")).toBeUndefined();
    expect(choice("none")).toBe("none");
    expect(choice("required")).toBe("required");
    expect(choice({ name: "echo" })).toEqual({ type: "function", function: { name: "echo" } });
  });

  test("may be called one at a time", () => {
    expect(chatRequest(modelRequest({ tools: [tool], parallelToolCalls: false }))).toMatchObject({
      parallel_tool_calls: false,
    });
  });

  test("have no fields when there are none", () => {
    const body = chatRequest(modelRequest({ toolChoice: "required", parallelToolCalls: false }));
    for (const field of ["tools", "tool_choice", "parallel_tool_calls"])
      expect(body).not.toHaveProperty(field);
  });
});
