import { describe, expect, test } from "vitest";
import type { Item, Part } from "../../src/core/items.ts";
import { chatMessages } from "../../src/upstream/model-messages.ts";
import { exchange, functionCall, functionOutput, message, reasoning } from "../helpers/model-request.ts";

const call = (id: string, name = "echo", text = '{"a":1}') => ({
  id,
  type: "function",
  function: { name, arguments: text },
});
const result = (id: string, content = `result of ${id}`) => ({ role: "tool", tool_call_id: id, content });
const refusal = (code: string, words: string) =>
  expect.objectContaining({
    code,
    details: expect.toSatisfy((d: unknown) => JSON.stringify(d).includes(words)),
  });

describe("what people and models said", () => {
  test("instructions come first, and text is text", () => {
    expect(chatMessages("Be brief.", [message("user", "hi"), message("assistant", "hello")])).toEqual([
      { role: "system", content: "Be brief." },
      { role: "user", content: "hi" },
      { role: "assistant", content: "hello" },
    ]);
  });

  test("developer messages are system messages, and neighbours become one", () => {
    const history = [
      message("developer", "a"),
      message("system", "b"),
      message("user", "hi"),
      message("system", "c"),
    ];
    expect(chatMessages("Be brief.", history)).toEqual([
      { role: "system", content: "Be brief.\n\na\n\nb" },
      { role: "user", content: "hi" },
      { role: "system", content: "c" },
    ]);
  });

  test("a message without content is left out", () => {
    expect(
      chatMessages(null, [message("user", []), message("assistant", []), message("system", [])]),
    ).toEqual([]);
  });

  test.each(["system", "developer", "assistant"] as const)(
    "media in a message of the role %s are refused",
    (role) => {
      const image = { kind: "image", url: "https://x.example/a.png", fileId: null, detail: null } as const;
      expect(() => chatMessages(null, [message(role, [image])])).toThrow("not_supported");
    },
  );

  test("images, files and audio of a person go along", () => {
    const parts: Part[] = [
      { kind: "input_text", text: "look" },
      { kind: "image", url: "https://x.example/a.png", fileId: null, detail: "low" },
      { kind: "image", url: "data:image/png;base64,AA==", fileId: null, detail: null },
      { kind: "image", url: "https://x.example/b.png", fileId: null, detail: "original" },
      { kind: "file", name: "a.pdf", data: "data:application/pdf;base64,AA==", url: null, fileId: null },
      { kind: "file", name: null, data: null, url: null, fileId: "file-1" },
      { kind: "audio", data: "AA==", format: "wav" },
    ];
    expect(chatMessages(null, [message("user", parts)])).toEqual([
      {
        role: "user",
        content: [
          { type: "text", text: "look" },
          { type: "image_url", image_url: { url: "https://x.example/a.png", detail: "low" } },
          { type: "image_url", image_url: { url: "data:image/png;base64,AA==" } },
          { type: "image_url", image_url: { url: "https://x.example/b.png", detail: "high" } },
          { type: "file", file: { file_data: "data:application/pdf;base64,AA==", filename: "a.pdf" } },
          { type: "file", file: { file_id: "file-1" } },
          { type: "input_audio", input_audio: { data: "AA==", format: "wav" } },
        ],
      },
    ]);
  });

  test.each<[string, Part]>([
    ["an image by its file id", { kind: "image", url: null, fileId: "file-1", detail: null }],
    ["a file by its URL", { kind: "file", name: null, data: null, url: "https://x.example/a", fileId: null }],
    ["audio as flac", { kind: "audio", data: "AA==", format: "flac" }],
    ["input_video", { kind: "other", body: { type: "input_video" } }],
  ])("%s is refused, not dropped", (words, part) => {
    expect(() => chatMessages(null, [message("user", [part])])).toThrow(refusal("not_supported", words));
  });

  test("a refusal goes back as what the model said", () => {
    const parts: Part[] = [
      { kind: "output_text", text: "Well.", annotations: [], logprobs: [] },
      { kind: "refusal", refusal: "I cannot." },
    ];
    expect(chatMessages(null, [message("assistant", parts)])).toEqual([
      { role: "assistant", content: "Well.\nI cannot." },
    ]);
  });

  test("what Chat Completions has no place for is left out", () => {
    const items: Item[] = [
      reasoning,
      { kind: "mcp_list_tools", id: "mcpl_1", label: "s", tools: [], error: null },
      { kind: "mcp_approval_request", id: "mcpr_1", label: "s", name: "t", arguments: "{}" },
      { kind: "mcp_approval_response", id: "mcpa_1", requestId: "mcpr_1", approve: true, reason: null },
    ];
    expect(chatMessages(null, items)).toEqual([]);
  });
});

describe("calls", () => {
  test("that follow each other are one assistant turn, with the text before them", () => {
    const history = [
      message("user", "go"),
      message("assistant", "Let me look."),
      exchange("a"),
      reasoning,
      exchange("b"),
      message("assistant", "Done."),
    ];
    expect(chatMessages(null, history)).toEqual([
      { role: "user", content: "go" },
      { role: "assistant", content: "Let me look.", tool_calls: [call("a"), call("b")] },
      result("a"),
      result("b"),
      { role: "assistant", content: "Done." },
    ]);
  });

  test("of tools and of the client's functions may share a turn", () => {
    const history = [
      exchange("a"),
      functionCall("f"),
      functionCall("g"),
      functionOutput("g"),
      functionOutput("f"),
    ];
    expect(chatMessages(null, history)).toEqual([
      {
        role: "assistant",
        content: null,
        tool_calls: [call("a"), call("f", "ask", "{}"), call("g", "ask", "{}")],
      },
      result("a"),
      result("f", "answer to f"),
      result("g", "answer to g"),
    ]);
  });

  test("after an answer are a new turn", () => {
    const history = [
      functionCall("f"),
      functionOutput("f"),
      functionCall("g"),
      functionOutput("g"),
      exchange("a"),
    ];
    expect(chatMessages(null, history).map(({ role }) => role)).toEqual([
      "assistant",
      "tool",
      "assistant",
      "tool",
      "assistant",
      "tool",
    ]);
  });

  test("are followed by their answer even when something was said in between", () => {
    const history = [functionCall("f"), message("user", "well?"), functionOutput("f")];
    expect(chatMessages(null, history)).toEqual([
      { role: "assistant", content: null, tool_calls: [call("f", "ask", "{}")] },
      result("f", "answer to f"),
      { role: "user", content: "well?" },
    ]);
  });

  test("without an answer say so, because upstreams refuse a call without one", () => {
    const messages = chatMessages(null, [functionCall("f"), message("user", "never mind")]);
    expect(messages[1]).toEqual(result("f", "(no output: this call has not been answered)"));
  });

  test("may give parts; what is not text leaves a note", () => {
    const parts: Part[] = [
      { kind: "input_text", text: "chart:" },
      { kind: "image", url: "data:image/png;base64,AA==", fileId: null, detail: null },
    ];
    const [, answer] = chatMessages(null, [functionCall("f"), functionOutput("f", parts)]);
    expect(answer?.content).toMatch(/^chart:\n\(content that is not text, left out/);
  });

  test("an answer without its call is refused by its id", () => {
    expect(() => chatMessages(null, [functionOutput("lost")])).toThrow(refusal("invalid", "lost"));
    const twice = [functionCall("f"), functionOutput("f"), functionOutput("f")];
    expect(() => chatMessages(null, twice)).toThrow(refusal("invalid", "call_id f"));
  });

  test("with ids that upstreams refuse get others: too long, repeated, or with odd characters", () => {
    const long = `mcp_${"a".repeat(50)}`;
    const history = [
      exchange(long),
      exchange("call_0"),
      functionCall("call_0"),
      functionOutput("call_0"),
      exchange("ö"),
    ];
    const messages = chatMessages(null, history);
    const called = messages.flatMap((m) =>
      m.role === "assistant" ? (m.tool_calls ?? []).map(({ id }) => id) : [],
    );
    const answered = messages.flatMap((m) => (m.role === "tool" ? [m.tool_call_id] : []));
    expect(called).toEqual(["call00001", "call_0", "call00003", "call00004"]);
    expect(answered).toEqual(called);
    expect(chatMessages(null, history)).toEqual(messages);
  });

  test("with an id that one of ours would collide with stay apart", () => {
    const [{ tool_calls: calls = [] } = {}] = chatMessages(null, [
      exchange("call00002"),
      exchange("x".repeat(60)),
      exchange("y".repeat(60)),
    ]).flatMap((m) => (m.role === "assistant" ? [m] : []));
    expect(new Set(calls.map(({ id }) => id)).size).toBe(3);
  });

  test("without arguments have empty ones", () => {
    const [first] = chatMessages(null, [{ ...exchange("a"), arguments: " " }]);
    expect(first).toMatchObject({ tool_calls: [{ function: { arguments: "{}" } }] });
  });
});
