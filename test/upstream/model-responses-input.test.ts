import { describe, expect, test } from "vitest";
import type { Item, OtherItem, Part } from "../../src/core/items.ts";
import { responsesInput } from "../../src/upstream/model-responses-input.ts";
import { responsesRequest } from "../../src/upstream/model-responses-request.ts";
import {
  exchange,
  functionCall,
  functionOutput,
  message,
  modelRequest,
  NO_SAMPLING,
} from "../helpers/model-request.ts";

const HERE = "m at https://here.example/v1";
const kinds = (...history: Parameters<typeof responsesInput>[0]) =>
  responsesInput(history, HERE).map(({ type }) => type);
const thought = (given: Partial<OtherItem> = {}, body: object = {}): OtherItem => ({
  kind: "other",
  id: "rs_1",
  body: { type: "reasoning", id: "rs_1", summary: [], encrypted_content: "x", ...body },
  ...given,
});

describe("calls", () => {
  test("made at once come before all their results, one after the other each with its own", () => {
    expect(kinds(message("user", "hi"), exchange("a"), exchange("b"))).toEqual([
      "message",
      "function_call",
      "function_call",
      "function_call_output",
      "function_call_output",
    ]);
    expect(kinds(exchange("a"), thought(), exchange("b"))).toEqual([
      "function_call",
      "function_call_output",
      "reasoning",
      "function_call",
      "function_call_output",
    ]);
  });

  test("of the client's functions without an answer get one, an answer without its call is refused", () => {
    expect(responsesInput([functionCall("c")], HERE).at(-1)).toMatchObject({
      call_id: "c",
      output: expect.stringContaining("has not been answered"),
    });
    expect(() => responsesInput([functionOutput("c")], HERE)).toThrow("invalid");
  });

  test("a function may answer with an image", () => {
    const image: Part = { kind: "image", url: "data:image/png;base64,AA==", fileId: null, detail: null };
    expect(responsesInput([functionCall("c"), functionOutput("c", [image])], HERE).at(-1)).toMatchObject({
      output: [{ type: "input_image", image_url: image.url, detail: "auto" }],
    });
  });
});

describe("reasoning", () => {
  const answer = message("assistant", "so");

  test("goes back to the model that made it, and to nobody else", () => {
    expect(kinds(thought({ origin: HERE }), answer)).toEqual(["reasoning", "message"]);
    expect(kinds(thought({ origin: "m at https://there.example/v1" }), answer)).toEqual(["message"]);
    // A client's own: whose it is, only the upstream can tell.
    expect(kinds(thought(), answer)).toEqual(["reasoning", "message"]);
  });

  test("that nobody can read back stays here, the open text of open models does not", () => {
    expect(kinds(thought({}, { encrypted_content: null }), answer)).toEqual(["message"]);
    const content = [{ type: "reasoning_text", text: "hm" }];
    expect(kinds(thought({}, { encrypted_content: null, content }), answer)).toEqual([
      "reasoning",
      "message",
    ]);
  });

  test("that led to nothing stays here", () => {
    expect(kinds(thought())).toEqual([]);
    expect(kinds(thought(), thought({ id: "rs_2" }), message("user", "well?"))).toEqual(["message"]);
    expect(kinds(thought(), exchange("a"))).toEqual(["reasoning", "function_call", "function_call_output"]);
  });
});

test("ids of ours, and items that are for people, stay here; what the broker does not read goes as it is", () => {
  const notice: Item = { kind: "consent_notice", id: "msg_9", requests: [] };
  const compaction: Item = {
    kind: "other",
    id: "cmp_1",
    body: { type: "compaction", encrypted_content: "c" },
  };
  expect(responsesInput([notice, message("user", "hi"), compaction], HERE)).toEqual([
    { type: "message", role: "user", content: [{ type: "input_text", text: "hi" }] },
    { type: "compaction", encrypted_content: "c" },
  ]);
});

test.each<[string, Item]>([
  ["audio", message("user", [{ kind: "audio", data: "AA==", format: "mp3" }])],
  [
    "an image in an assistant's message",
    message("assistant", [{ kind: "image", url: "https://x.example/a", fileId: null, detail: null }]),
  ],
])("%s is refused", (what, item) => {
  expect(() => responsesInput([item], HERE)).toThrow(
    expect.objectContaining({
      code: "not_supported",
      details: expect.objectContaining({ what: `${what} with this model upstream` }),
    }),
  );
});

describe("the encrypted form", () => {
  const asked = (given: Parameters<typeof modelRequest>[0]) =>
    responsesRequest(modelRequest(given), HERE).include ?? null;

  test("is asked of models that reason, and of no others, which would refuse", () => {
    for (const model of ["o3", "gpt-5", "gpt-5-mini", "openai/gpt-5", "gpt-oss-120b", "codex-mini-latest"])
      expect([model, asked({ model })]).toEqual([model, ["reasoning.encrypted_content"]]);
    for (const model of ["gpt-4o", "gpt-4o3", "gpt-5-chat-latest", "llama-3", "phi-o1x"])
      expect([model, asked({ model })]).toEqual([model, null]);
  });

  test("is asked for when the caller says that it reasons, wants it, or brings some", () => {
    const include = ["reasoning.encrypted_content"];
    const reasoning = { effort: "low", summary: null };
    expect(asked({ sampling: { ...NO_SAMPLING, reasoning } })).toEqual(include);
    expect(asked({ encryptedReasoning: true })).toEqual(include);
    expect(asked({ history: [thought(), message("assistant", "so"), message("user", "on")] })).toEqual(
      include,
    );
  });
});

test("what the caller left open is not sent", () => {
  expect(responsesRequest(modelRequest(), HERE)).toEqual({
    model: "m",
    input: [{ type: "message", role: "user", content: [{ type: "input_text", text: "hi" }] }],
    store: false,
    stream: true,
  });
});
