import { describe, expect, test } from "vitest";
import type { ModelEvent } from "../../src/core/ports.ts";
import { createResponseReader } from "../../src/upstream/model-responses-events.ts";

function readAll(events: unknown[], taken: string[] = []): ModelEvent[] {
  const reader = createResponseReader({
    origin: "here",
    apiKey: "sk-own",
    isTaken: (id) => taken.includes(id),
  });
  return [...events.flatMap((event) => reader.read(event)), ...reader.end()];
}

const completed = (output: unknown[] = [], rest: object = {}) => ({
  type: "response.completed",
  response: { output, ...rest },
});
const call = (given: object = {}) => ({
  type: "function_call",
  call_id: "c1",
  name: "echo",
  arguments: '{"a":1}',
  status: "completed",
  ...given,
});
const added = (output_index: number, item: object) => ({
  type: "response.output_item.added",
  output_index,
  item,
});
const done = (output_index: number, item: object) => ({
  type: "response.output_item.done",
  output_index,
  item,
});
const kinds = (events: ModelEvent[]) => events.map(({ kind }) => kind);
const argumentsOf = (events: ModelEvent[]) =>
  events.flatMap((event) => (event.kind === "call_arguments" ? [event.delta] : [])).join("");
const message = (text: string) => ({ type: "message", content: [{ type: "output_text", text }] });

describe("what a text is annotated with", () => {
  const cites = (url: string) => ({ type: "url_citation", url });
  const annotated = (text: string, ...annotations: object[]) => ({
    type: "message",
    content: [{ type: "output_text", text, annotations, logprobs: [{ token: text }] }],
  });
  const citesOf = (events: ModelEvent[]) =>
    events.flatMap((event) => (event.kind === "annotation" ? [event.annotation["url"]] : []));
  const delta = (output_index: number, text: string) => ({
    type: "response.output_text.delta",
    output_index,
    delta: text,
  });
  const note = (output_index: number, annotation: unknown) => ({
    type: "response.output_text.annotation.added",
    output_index,
    annotation,
  });

  test("is read as it comes, or where the item is done, and once", () => {
    const whole = annotated("Hi", cites("a"));
    expect(
      citesOf(readAll([delta(0, "Hi"), note(0, cites("a")), done(0, whole), completed([whole])])),
    ).toEqual(["a"]);
    expect(citesOf(readAll([delta(0, "Hi"), done(0, whole), completed([whole])]))).toEqual(["a"]);
    expect(readAll([completed([whole])])).toMatchObject([
      { kind: "message_started" },
      { kind: "text", delta: "Hi", logprobs: [{ token: "Hi" }] },
      { kind: "annotation", annotation: cites("a") },
      { kind: "finished" },
    ]);
  });

  test("is never put to another text: of a message behind which something came, of a call, of nothing", () => {
    const late = [
      delta(0, "Hi"),
      added(1, call()),
      note(0, cites("a")),
      done(0, annotated("Hi", cites("b"))),
    ];
    expect(citesOf(readAll([...late, done(1, call()), completed()]))).toEqual([]);
    expect(citesOf(readAll([added(0, call()), note(0, cites("a")), done(0, call()), completed()]))).toEqual(
      [],
    );
    expect(
      citesOf(readAll([note(3, cites("a")), delta(0, "Hi"), note(0, "a"), note(0, null), completed()])),
    ).toEqual([]);
  });
});

describe("what is not streamed in pieces is read", () => {
  test("where the item is done", () => {
    const events = readAll([added(0, call({ arguments: "" })), done(0, call()), completed([call()])]);
    expect(kinds(events)).toEqual(["call_started", "call_arguments", "finished"]);
    expect(argumentsOf(events)).toBe('{"a":1}');
  });

  test("where only the whole response says it", () => {
    const reasoning = { type: "reasoning", id: "rs_1", summary: [], encrypted_content: "x" };
    const events = readAll([completed([reasoning, message("Hi"), call()])]);
    expect(kinds(events)).toEqual([
      "reasoning_started",
      "reasoning_ended",
      "message_started",
      "text",
      "call_started",
      "call_arguments",
      "finished",
    ]);
  });

  test("and what was is not said twice", () => {
    const events = readAll([
      { type: "response.output_text.delta", output_index: 0, delta: "Hi" },
      { type: "response.output_text.done", output_index: 0, text: "Hi" },
      done(0, message("Hi")),
      completed([message("Hi")]),
    ]);
    expect(kinds(events)).toEqual(["message_started", "text", "finished"]);
  });
});

describe("calls", () => {
  test("a tool without arguments is called with none, a call that was cut off is not made whole", () => {
    expect(argumentsOf(readAll([done(0, call({ arguments: "" })), completed()]))).toBe("{}");
    const cut = call({ arguments: "", status: "incomplete" });
    expect(argumentsOf(readAll([done(0, cut), completed()]))).toBe("");
  });

  test("ids that are missing, repeated or taken become ours", () => {
    const events = readAll([completed([call(), call(), call({ call_id: undefined })])], ["c1"]);
    const ids = events.flatMap((event) => (event.kind === "call_started" ? [event.callId] : []));
    expect(ids).toEqual(["call_1", "call_2", "call_3"]);
    const numbers = events.flatMap((event) => (event.kind === "call_arguments" ? [event.call] : []));
    expect(numbers).toEqual([0, 1, 2]);
  });

  test("pieces of two calls that come mixed stay apart", () => {
    const piece = (output_index: number, delta: string) => ({
      type: "response.function_call_arguments.delta",
      output_index,
      delta,
    });
    const events = readAll([
      added(0, call({ arguments: "" })),
      added(1, call({ call_id: "c2", arguments: "" })),
      piece(1, "{"),
      piece(0, "[1"),
      piece(1, "}"),
      piece(0, "]"),
      completed(),
    ]);
    const of = (number: number) =>
      argumentsOf(events.filter((event) => event.kind === "call_arguments" && event.call === number));
    expect([of(0), of(1)]).toEqual(["[1]", "{}"]);
  });

  test("numbered otherwise at the end than before are made once, and with their arguments", () => {
    const other = call({ call_id: "c2", arguments: '{"b":2}' });
    const streamed = [added(1, call({ arguments: "" })), done(1, call())];
    const ids = (events: ModelEvent[]) =>
      events.flatMap((event) => (event.kind === "call_started" ? [event.callId] : []));
    expect(ids(readAll([...streamed, completed([call()])]))).toEqual(["c1"]);
    const unfinished = readAll([added(1, call({ arguments: "" })), completed([call(), other])]);
    expect([ids(unfinished), argumentsOf(unfinished)]).toEqual([["c1"], '{"a":1}']);
    expect(() => readAll([added(1, call({ arguments: "" })), completed([other])])).toThrow("model_failed");
  });

  test("under one number are a failure, not a call with another one's arguments", () => {
    expect(() => readAll([added(0, call()), added(0, call({ call_id: "c2" }))])).toThrow("model_failed");
    const text = { type: "response.output_text.delta", delta: "Hi" };
    const events = readAll([added(0, call({ arguments: "" })), text, done(0, call()), completed()]);
    expect(argumentsOf(events)).toBe('{"a":1}');
  });

  test("one without a name is a failure of the model", () => {
    expect(() => readAll([added(0, call({ name: "" }))])).toThrow("model_failed");
  });
});

test("items of kinds that nobody asked for are passed over", () => {
  const search = { type: "web_search_call", id: "ws_1", status: "completed" };
  expect(kinds(readAll([added(0, search), done(0, search), completed([search])]))).toEqual(["finished"]);
});

test.each([null, 7, "text", [], {}, { type: 7 }, { type: "response.new_kind", output_index: {} }])(
  "%j says nothing",
  (event) => {
    expect(kinds(readAll([event, completed()]))).toEqual(["finished"]);
  },
);

test("numbers that are none count as nothing", () => {
  const usage = { input_tokens: -1, output_tokens: "7", input_tokens_details: 3 };
  expect(readAll([completed([], { usage })]).at(-1)).toMatchObject({
    usage: { inputTokens: 0, cachedTokens: 0, outputTokens: 0, reasoningTokens: 0 },
  });
});

describe("an end", () => {
  const failureOf = (...events: unknown[]): unknown => {
    try {
      readAll(events);
      return null;
    } catch (error) {
      return error;
    }
  };

  test("for an unknown reason is one of length: what came is not all", () => {
    const event = { type: "response.incomplete", response: { incomplete_details: { reason: "steered" } } };
    expect(readAll([event]).at(-1)).toMatchObject({ reason: "length" });
  });

  test("that never comes, and no answer at all, are failures", () => {
    expect(failureOf({ type: "response.created" })).toMatchObject({
      details: { message: expect.stringContaining("broke off") },
    });
    expect(failureOf({ choices: [] })).toMatchObject({
      details: { message: expect.stringContaining("did not answer") },
    });
  });

  test.each([
    ["rate_limit_exceeded", 429],
    ["invalid_prompt", 400],
    ["image_too_large", 400],
    ["invalid_api_key", null],
    ["server_error", null],
  ])("by %s has the status %j, and never our key", (code, status) => {
    const error = { code, message: "no: sk-own" };
    for (const event of [
      { type: "response.failed", response: { error } },
      { type: "error", ...error },
    ]) {
      const failure = failureOf(event);
      expect(failure).toMatchObject({ code: "model_failed", details: { status, code } });
      expect(JSON.stringify(failure)).not.toContain("sk-own");
    }
  });
});
