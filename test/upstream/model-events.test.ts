import { describe, expect, test } from "vitest";
import type { ModelEvent } from "../../src/core/ports.ts";
import { createChunkReader } from "../../src/upstream/model-events.ts";

type Piece = { index?: number; id?: string | null; name?: string; args?: unknown };

const chunk = (delta: object, finish: string | null = null) => ({
  choices: [{ index: 0, delta, finish_reason: finish }],
});
const pieces = (...list: Piece[]) =>
  chunk({
    tool_calls: list.map(({ index, id, name, args }) => ({ index, id, function: { name, arguments: args } })),
  });
const done = chunk({}, "tool_calls");

function read(chunks: unknown[], isTaken: (id: string) => boolean = () => false): ModelEvent[] {
  const reader = createChunkReader(isTaken);
  return [...chunks.flatMap(reader.read), ...reader.end()];
}

/** The calls that a stream comes to: id, name and whole arguments. */
function callsOf(chunks: unknown[], isTaken?: (id: string) => boolean): string[] {
  const calls: { head: string; text: string }[] = [];
  for (const event of read(chunks, isTaken)) {
    if (event.kind === "call_started") {
      calls[event.call] = { head: `${event.callId} ${event.name}`, text: "" };
    }
    const call = event.kind === "call_arguments" ? calls[event.call] : undefined;
    if (call && event.kind === "call_arguments") call.text += event.delta;
  }
  return calls.map(({ head, text }) => `${head} ${text}`);
}

describe("text", () => {
  test("comes through in its pieces, refusals apart", () => {
    const chunks = [
      chunk({ role: "assistant", content: "" }),
      chunk({ content: "Hel" }),
      chunk({ content: "lo" }),
      chunk({ content: null, refusal: "No." }),
      chunk({}, "stop"),
    ];
    expect(read(chunks)).toEqual([
      { kind: "text", delta: "Hel" },
      { kind: "text", delta: "lo" },
      { kind: "refusal", delta: "No." },
      { kind: "finished", reason: "stop", usage: expect.anything() },
    ]);
  });

  test("among typed parts is found, and their thinking left out", () => {
    const content = [
      { type: "thinking", thinking: [{ type: "text", text: "hmm" }] },
      { type: "text", text: "Hello" },
    ];
    expect(read([chunk({ content }), chunk({}, "stop")])[0]).toEqual({ kind: "text", delta: "Hello" });
  });
});

describe("calls as upstreams cut them up", () => {
  test("by index, the id and name first", () => {
    const chunks = [
      pieces({ index: 0, id: "a", name: "echo", args: "" }),
      pieces({ index: 0, args: '{"x"' }),
      pieces({ index: 1, id: "b", name: "add", args: "" }),
      pieces({ index: 1, args: "{}" }),
      pieces({ index: 0, args: ":1}" }),
      done,
    ];
    expect(callsOf(chunks)).toEqual(['a echo {"x":1}', "b add {}"]);
    expect(read(chunks).map(({ kind }) => kind)).toEqual([
      "call_started",
      "call_arguments",
      "call_started",
      "call_arguments",
      "call_arguments",
      "finished",
    ]);
  });

  test("whole, and several in one chunk", () => {
    const chunk = pieces(
      { index: 0, id: "a", name: "echo", args: "{}" },
      { index: 1, id: "b", name: "echo", args: "{}" },
    );
    expect(callsOf([chunk, done])).toEqual(["a echo {}", "b echo {}"]);
  });

  test("whole, all under index 0, with ids or without", () => {
    const withIds = [
      pieces({ index: 0, id: "a", name: "echo", args: '{"x":1}' }),
      pieces({ index: 0, id: "b", name: "echo", args: "{}" }),
    ];
    expect(callsOf([...withIds, done])).toEqual(['a echo {"x":1}', "b echo {}"]);
    const without = [
      pieces({ index: 0, id: "", name: "echo", args: '{"x":1}' }),
      pieces({ index: 0, id: "", name: "echo", args: "{}" }),
    ];
    expect(callsOf([...without, done])).toEqual(['call_1 echo {"x":1}', "call_2 echo {}"]);
  });

  test("whole, without index", () => {
    const chunks = [
      pieces({ id: "a", name: "echo", args: "{}" }, { id: "b", name: "add", args: "{}" }),
      done,
    ];
    expect(callsOf(chunks)).toEqual(["a echo {}", "b add {}"]);
  });

  test("in pieces, without index, told apart by id", () => {
    const chunks = [
      pieces({ id: "a", name: "echo", args: "{" }),
      pieces({ args: '"x":' }),
      pieces({ id: "a", args: "1}" }),
      pieces({ id: "b", name: "add", args: "{" }),
      pieces({ id: "b", args: "}" }),
      done,
    ];
    expect(callsOf(chunks)).toEqual(['a echo {"x":1}', "b add {}"]);
  });

  test("in pieces of several calls at once, told apart by id", () => {
    const chunks = [
      pieces({ id: "a", name: "echo", args: "{" }, { id: "b", name: "add", args: "{" }),
      pieces({ id: "a", args: "}" }, { id: "b", args: "}" }),
      done,
    ];
    expect(callsOf(chunks)).toEqual(["a echo {}", "b add {}"]);
  });

  test("with the index only at first", () => {
    const chunks = [
      pieces({ index: 0, id: "a", name: "echo", args: '{"x"' }),
      pieces({ id: "a", name: "echo", args: ":1}" }),
      pieces({ id: "a", name: "echo", args: "" }),
      done,
    ];
    expect(callsOf(chunks)).toEqual(['a echo {"x":1}']);
  });

  test("in pieces that repeat the name, with or without the id", () => {
    const repeated = [
      pieces({ index: 0, id: "a", name: "echo", args: '{"x"' }),
      pieces({ index: 0, id: "a", name: "echo", args: ":1}" }),
      pieces({ index: 0, id: "a", name: "echo", args: "" }),
      done,
    ];
    expect(callsOf(repeated)).toEqual(['a echo {"x":1}']);
    const nameless = [
      pieces({ index: 0, name: "echo", args: '{"x"' }),
      pieces({ index: 0, name: "echo", args: ":1}" }),
      pieces({ index: 0, name: "echo", args: "" }),
      done,
    ];
    expect(callsOf(nameless)).toEqual(['call_1 echo {"x":1}']);
  });

  test("in pieces with a fresh id each", () => {
    const chunks = [
      pieces({ index: 0, id: "r1", name: "echo", args: '{"x"' }),
      pieces({ index: 0, id: "r2", args: ":1" }),
      pieces({ index: 0, id: "r3", name: "echo", args: "}" }),
      done,
    ];
    expect(callsOf(chunks)).toEqual(['r1 echo {"x":1}']);
  });

  test("with arguments as an object instead of text", () => {
    expect(callsOf([pieces({ index: 0, id: "a", name: "echo", args: { x: 1 } }), done])).toEqual([
      'a echo {"x":1}',
    ]);
  });

  test("with no arguments at all", () => {
    const chunks = [
      pieces({ index: 0, id: "a", name: "ping" }, { index: 1, id: "b", name: "ping", args: null }),
      done,
    ];
    expect(callsOf(chunks)).toEqual(["a ping {}", "b ping {}"]);
  });

  test("with ids that the turn or the conversation has already", () => {
    const chunks = [
      pieces({ index: 0, id: "call_0", name: "echo", args: "{}" }),
      pieces({ index: 1, id: "call_0", name: "add", args: "{}" }),
      pieces({ index: 2, id: "old", name: "add", args: "{}" }),
      done,
    ];
    expect(callsOf(chunks, (id) => id === "old" || id === "call_1")).toEqual([
      "call_0 echo {}",
      "call_2 add {}",
      "call_3 add {}",
    ]);
  });

  test("cut short by the limit keep what there is", () => {
    const chunks = [
      pieces({ index: 0, id: "a", name: "echo", args: '{"x' }, { index: 1, id: "b", name: "echo" }),
      chunk({}, "length"),
    ];
    expect(callsOf(chunks)).toEqual(['a echo {"x', "b echo "]);
  });

  test("without a name are a failure, empty pieces are nothing", () => {
    expect(() => read([pieces({ index: 0, id: "a", args: "{}" }), done])).toThrow(
      expect.objectContaining({ code: "model_failed" }),
    );
    expect(
      callsOf([pieces({ index: 0, id: "" }), pieces({ index: 0, id: "a", name: "echo", args: "{}" }), done]),
    ).toEqual(["a echo {}"]);
  });
});

describe("the end", () => {
  const endOf = (finish: string) => read([chunk({ content: "x" }, finish)]).at(-1);

  test.each([
    ["stop", "stop"],
    ["tool_calls", "stop"],
    ["function_call", "stop"],
    ["eos_token", "stop"],
    ["length", "length"],
    ["max_tokens", "length"],
    ["content_filter", "content_filter"],
  ])("%s means %s", (finish, reason) => {
    expect(endOf(finish)).toMatchObject({ kind: "finished", reason });
  });

  test("more calls than anybody needs are a failure, before reading them costs the square of their number", () => {
    const call = (index: number) => ({ index, id: `c${index}`, name: "echo", args: "{}" });
    const flood = [pieces(...Array.from({ length: 513 }, (_, at) => call(at))), done];
    expect(() => read(flood)).toThrow("model_failed");
    expect(callsOf([pieces(...Array.from({ length: 512 }, (_, at) => call(at))), done])).toHaveLength(512);
  });

  test("an empty finish reason is none", () => {
    const reader = createChunkReader(() => false);
    reader.read(chunk({ content: "x" }, ""));
    expect(reader.isFinished()).toBe(false);
  });

  test.each([
    ["the model reports an error", [chunk({}, "error")], "ended its answer with an error"],
    ["no reason was given", [chunk({ content: "x" })], "broke off before its answer was whole"],
    ["nothing came", [], "did not answer with a stream of chat completion chunks"],
    [
      "something else came",
      ["hello", null, 7, [], { ok: true }, { choices: "x" }],
      "did not answer with a stream",
    ],
  ])("is a failure when %s", (_, chunks, words) => {
    const message = expect.stringContaining(words);
    expect(() => read(chunks)).toThrow(
      expect.objectContaining({ code: "model_failed", details: { status: null, message, code: null } }),
    );
  });

  test("tells the usage, wherever it came", () => {
    const usage = {
      prompt_tokens: 10,
      completion_tokens: 7,
      prompt_tokens_details: { cached_tokens: 4 },
      completion_tokens_details: { reasoning_tokens: 3 },
    };
    const counted = { inputTokens: 10, cachedTokens: 4, outputTokens: 7, reasoningTokens: 3 };
    const last = chunk({}, "stop");
    expect(read([last, { choices: [], usage }]).at(-1)).toMatchObject({ usage: counted });
    expect(read([{ ...last, usage }]).at(-1)).toMatchObject({ usage: counted });
    expect(
      read([
        { ...last, usage },
        { choices: [], usage: null },
      ]).at(-1),
    ).toMatchObject({ usage: counted });
    const odd = { prompt_tokens: "10", completion_tokens: -1, prompt_tokens_details: null };
    expect(read([{ ...last, usage: odd }]).at(-1)).toMatchObject({
      usage: { inputTokens: 0, outputTokens: 0 },
    });
  });
});
