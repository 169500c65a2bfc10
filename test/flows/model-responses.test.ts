import type OpenAI from "openai";
import type { ResponseInputItem } from "openai/resources/responses/responses";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type ModernServer, startModernServer } from "../helpers/mcp-servers.ts";
import {
  type ResponsesModel,
  type ResponsesRequest,
  type ResponsesTurn,
  startResponsesModel,
} from "../helpers/model-responses.ts";
import { createWorld, itemsOf, MODES, respond, streamed, type TestWorld } from "../helpers/world.ts";

let world: TestWorld;
let notes: ModernServer;
let model: ResponsesModel;
let client: OpenAI;
let script: ResponsesTurn[] = [];

beforeAll(async () => {
  [notes, model] = await Promise.all([
    startModernServer(),
    startResponsesModel(
      () => script.shift() ?? { status: 500, body: { error: { message: "no more turns" } } },
    ),
  ]);
  world = await createWorld({
    env: {
      CONSENTRY_MODEL_BASE_URL: model.baseUrl,
      CONSENTRY_MODEL_API_KEY: "model-key",
      CONSENTRY_MODEL_API: "responses",
    },
  });
  await world.connect("notes", { target: notes.url });
  client = await world.runtime();
});
beforeEach(() => {
  model.requests.length = 0;
});
afterAll(async () => {
  await world.stop();
  await Promise.all([notes.stop(), model.close()]);
});

const tools = [{ type: "mcp" as const, server_label: "notes", require_approval: "never" as const }];
const sent = (at: number): ResponsesRequest => {
  const request = model.requests.at(at);
  if (!request) throw new Error(`there is no request ${at}`);
  return request.body;
};
const kinds = (at: number) => sent(at).input.map(({ type }) => type);
const read = { call: "notes__read_note", arguments: { id: "7" } };
const ENCRYPTED = "gAAAA-what-it-thought";

describe.each(MODES)("a model that speaks the Responses API, %s", (mode) => {
  test("thinks, calls, reads the result and answers; what it thought goes back to it alone", async () => {
    script = [
      { says: [{ reasoning: ["I must look."], encrypted: ENCRYPTED }, { text: "Let me look. " }, read] },
      { says: [{ reasoning: [], encrypted: `${ENCRYPTED}-2` }, { text: "You need milk." }] },
    ];
    const response = await respond(
      client,
      { model: "gpt-5", input: "what do I need?", tools, reasoning: { effort: "low", summary: "auto" } },
      mode,
    );
    expect(response.status).toBe("completed");
    expect(response.output.map(({ type }) => type)).toEqual([
      "mcp_list_tools",
      "reasoning",
      "message",
      "mcp_call",
      "reasoning",
      "message",
    ]);
    expect(response.output_text).toBe("Let me look. You need milk.");
    expect(itemsOf(response, "reasoning")[0]).toMatchObject({
      id: expect.stringMatching(/^rs_/),
      summary: [{ type: "summary_text", text: "I must look." }],
    });
    expect(JSON.stringify(response)).not.toContain(ENCRYPTED);

    expect(sent(0)).toMatchObject({
      model: "gpt-5",
      store: false,
      include: ["reasoning.encrypted_content"],
      reasoning: { effort: "low", summary: "auto" },
    });
    expect(kinds(1)).toEqual(["message", "reasoning", "message", "function_call", "function_call_output"]);
    expect(sent(1).input[1]).toEqual({
      type: "reasoning",
      id: itemsOf(response, "reasoning")[0]?.id,
      summary: [{ type: "summary_text", text: "I must look." }],
      encrypted_content: ENCRYPTED,
    });
    expect(sent(1).input.at(-1)).toMatchObject({ output: "note 7: buy milk" });
    expect(model.requests[0]?.headers["authorization"]).toBe("Bearer model-key");
  });

  test("what it cites is passed on, and how likely each word was where that is asked for", async () => {
    const annotations = [
      { type: "url_citation", url: "https://milk.example/", title: "Milk", start_index: 0, end_index: 4 },
      { type: "of_tomorrow", any: { thing: [1] } },
    ];
    const logprobs = ["Buy ", "milk"].map((token) => ({
      token,
      logprob: -0.5,
      bytes: null,
      top_logprobs: [],
    }));
    const speech = { says: [{ text: "Buy milk", annotations, logprobs }] };
    script = [speech, speech];
    const asked = { model: "m", input: "what?", top_logprobs: 2 };
    const bare = await respond(client, asked, mode);
    expect(itemsOf(bare, "message")[0]?.content).toMatchObject([{ annotations, logprobs: [] }]);
    const include = ["message.output_text.logprobs" as const];
    const whole = await respond(client, { ...asked, include }, mode);
    expect(itemsOf(whole, "message")[0]?.content).toMatchObject([
      { text: "Buy milk", annotations, logprobs },
    ]);
    expect([sent(0).include, sent(1).include, sent(1)["top_logprobs"]]).toEqual([undefined, include, 2]);
    const kept = itemsOf(await client.responses.retrieve(whole.id), "message");
    expect(kept[0]?.content).toMatchObject([{ annotations, logprobs }]);
    // To the model goes what was said, and nothing about it.
    script = [{ says: [{ text: "ok" }] }];
    await respond(client, { previous_response_id: whole.id, input: "thanks" }, mode);
    expect(JSON.stringify(sent(2).input)).toContain("Buy milk");
    expect(JSON.stringify(sent(2).input)).not.toMatch(/milk\.example|logprob":/);
  });

  test("a later request has the stored reasoning; another model does not", async () => {
    script = [{ says: [{ reasoning: ["Ann."], encrypted: ENCRYPTED }, { text: "hello Ann" }] }];
    const first = await respond(client, { model: "gpt-5", input: "I am Ann" }, mode);
    script = [{ says: [{ text: "Ann" }] }, { says: [{ text: "Ann" }] }];
    await respond(client, { previous_response_id: first.id, input: "who am I?" }, mode);
    expect(kinds(1)).toEqual(["message", "reasoning", "message", "message"]);
    expect(sent(1).input[1]).toMatchObject({ encrypted_content: ENCRYPTED });
    await respond(client, { model: "gpt-4o", previous_response_id: first.id, input: "who am I?" }, mode);
    expect(kinds(2)).toEqual(["message", "message", "message"]);
    expect(sent(2).include).toBeUndefined();
  });

  test("a client that keeps its own history asks for the encrypted form, and sends it back", async () => {
    const include = ["reasoning.encrypted_content" as const];
    script = [{ says: [{ reasoning: ["Ann."], encrypted: ENCRYPTED }, { text: "hello Ann" }] }];
    const first = await respond(client, { model: "m", input: "I am Ann", store: false, include }, mode);
    expect(sent(0).include).toEqual(include);
    const [thought] = itemsOf(first, "reasoning");
    expect(thought?.encrypted_content).toBe(ENCRYPTED);
    script = [{ says: [{ text: "Ann" }] }];
    const input: ResponseInputItem[] = [
      { role: "user", content: "I am Ann" },
      ...(first.output as ResponseInputItem[]),
      { role: "user", content: "who am I?" },
    ];
    await respond(client, { model: "m", input, store: false }, mode);
    expect(kinds(1)).toEqual(["message", "reasoning", "message", "message"]);
    expect(sent(1).input[1]).toEqual({
      type: "reasoning",
      id: thought?.id,
      summary: [{ type: "summary_text", text: "Ann." }],
      encrypted_content: ENCRYPTED,
    });
  });

  test("a client that repeats what it was shown need not ask: ours is the one that counts", async () => {
    script = [{ says: [{ reasoning: ["Ann."], encrypted: ENCRYPTED }, { text: "hello Ann" }] }];
    const first = await respond(client, { model: "gpt-5", input: "I am Ann" }, mode);
    const input: ResponseInputItem[] = [
      { role: "user", content: "I am Ann" },
      ...(first.output as ResponseInputItem[]),
      { role: "user", content: "who am I?" },
    ];
    script = [{ says: [{ text: "Ann" }] }, { says: [{ text: "?" }] }];
    await respond(client, { model: "gpt-5", input }, mode);
    expect(sent(1).input[1]).toMatchObject({ type: "reasoning", encrypted_content: ENCRYPTED });
    // Somebody else's stays where it is, whoever knows its id.
    await respond(await world.runtime(), { model: "gpt-5", input }, mode);
    expect(kinds(2)).toEqual(["message", "message", "message"]);
  });

  test("calls in parallel, the client's functions among them, go back as they were made", async () => {
    const own = { type: "function" as const, name: "ask", parameters: { type: "object" }, strict: true };
    script = [
      {
        says: [
          { reasoning: ["Both."], encrypted: ENCRYPTED },
          read,
          { call: "ask", arguments: { q: 1 }, id: "call_own" },
        ],
      },
    ];
    const response = await respond(client, { model: "gpt-5", input: "go", tools: [...tools, own] }, mode);
    expect(itemsOf(response, "function_call")).toMatchObject([
      { call_id: "call_own", name: "ask", arguments: '{"q":1}', status: "completed" },
    ]);
    expect(sent(0).tools?.find(({ name }) => name === "ask")).toMatchObject({ strict: true });
    expect(sent(0).tools?.find(({ name }) => name === "notes__echo")).toMatchObject({ strict: false });
    script = [{ says: [{ text: "done" }] }];
    const next = await respond(
      client,
      {
        previous_response_id: response.id,
        input: [{ type: "function_call_output", call_id: "call_own", output: "Q!" }],
      },
      mode,
    );
    expect(next.output_text).toBe("done");
    expect(kinds(1)).toEqual([
      "message",
      "reasoning",
      "function_call",
      "function_call",
      "function_call_output",
      "function_call_output",
    ]);
  });

  test("what was thought between two calls goes back between them", async () => {
    const thought = (text: string) => ({ reasoning: [text], encrypted: `${ENCRYPTED}-${text}` });
    const second = { call: "notes__echo", arguments: { text: "b" } };
    script = [
      { says: [thought("1"), read, thought("2"), second] },
      { says: [thought("3"), read] },
      { says: [{ text: "done" }] },
      { says: [{ text: "ok" }] },
    ];
    const response = await respond(client, { model: "gpt-5", input: "go", tools }, mode);
    const spoken = (at: number) =>
      sent(at).input.map((item) => item["encrypted_content"] ?? item["name"] ?? item["output"] ?? item.type);
    const first = [
      "message",
      `${ENCRYPTED}-1`,
      "notes__read_note",
      "note 7: buy milk",
      `${ENCRYPTED}-2`,
      "notes__echo",
      "b",
    ];
    const whole = [...first, `${ENCRYPTED}-3`, "notes__read_note", "note 7: buy milk"];
    expect(spoken(1)).toEqual(first);
    expect(spoken(2)).toEqual(whole);
    await respond(client, { previous_response_id: response.id, input: "on" }, mode);
    expect(spoken(3)).toEqual([...whole, "message", "message"]);
  });

  test("usage adds up over the rounds, what was cached and thought included", async () => {
    const usage = {
      input_tokens: 100,
      input_tokens_details: { cached_tokens: 40 },
      output_tokens: 20,
      output_tokens_details: { reasoning_tokens: 8 },
      total_tokens: 120,
    };
    script = [
      { says: [read], usage },
      { says: [{ text: "ok" }], usage },
    ];
    const response = await respond(client, { model: "m", input: "go", tools }, mode);
    expect(response.usage).toEqual({
      input_tokens: 200,
      input_tokens_details: { cached_tokens: 80 },
      output_tokens: 40,
      output_tokens_details: { reasoning_tokens: 16 },
      total_tokens: 240,
    });
  });

  test("an answer that was cut off is incomplete, and a refusal is said", async () => {
    script = [{ says: [{ text: "half a" }], incomplete: "max_output_tokens" }];
    const cut = await respond(client, { model: "m", input: "go" }, mode);
    expect([cut.status, cut.incomplete_details]).toEqual(["incomplete", { reason: "max_output_tokens" }]);
    script = [{ says: [], incomplete: "content_filter" }];
    const filtered = await respond(client, { model: "m", input: "go" }, mode);
    expect(filtered.incomplete_details).toEqual({ reason: "content_filter" });
    script = [{ says: [{ refusal: "I will not." }] }];
    const refused = await respond(client, { model: "m", input: "go" }, mode);
    expect(itemsOf(refused, "message")[0]?.content).toMatchObject([
      { type: "refusal", refusal: "I will not." },
    ]);
  });

  test("thoughts that led to nothing are not sent back", async () => {
    script = [
      { says: [{ reasoning: ["Hm."], encrypted: ENCRYPTED }], incomplete: "max_output_tokens" },
      { says: [{ text: "ok" }] },
    ];
    const cut = await respond(client, { model: "gpt-5", input: "go" }, mode);
    await respond(client, { previous_response_id: cut.id, input: "on" }, mode);
    expect(kinds(1)).toEqual(["message", "message"]);
  });

  test("a call that waits for approval keeps what was thought before it", async () => {
    const asking = [
      { ...tools[0], type: "mcp" as const, server_label: "notes", require_approval: "always" as const },
    ];
    script = [{ says: [{ reasoning: ["Look."], encrypted: ENCRYPTED }, read] }, { says: [{ text: "milk" }] }];
    const asked = await respond(client, { model: "gpt-5", input: "go", tools: asking }, mode);
    const [request] = itemsOf(asked, "mcp_approval_request");
    const answer = await respond(
      client,
      {
        previous_response_id: asked.id,
        input: [{ type: "mcp_approval_response", approve: true, approval_request_id: request?.id ?? "" }],
      },
      mode,
    );
    expect(answer.output_text).toBe("milk");
    expect(kinds(1)).toEqual(["message", "reasoning", "function_call", "function_call_output"]);
  });

  test("messages on the way and answers stay apart, and go back as what they were", async () => {
    const says = [
      { text: "Let me see. ", phase: "commentary" },
      { text: "Milk.", phase: "final_answer" },
    ];
    script = [{ says }, { says: [{ text: "Yes." }] }, { says: [{ text: "Yes." }] }];
    const first = await respond(client, { model: "m", input: "what?" }, mode);
    expect(itemsOf(first, "message").map(({ phase, status }) => [phase, status])).toEqual([
      ["commentary", "completed"],
      ["final_answer", "completed"],
    ]);
    const next = await respond(client, { previous_response_id: first.id, input: "sure?" }, mode);
    expect(itemsOf(next, "message")[0]).not.toHaveProperty("phase");
    const replayed = [...(first.output as ResponseInputItem[]), { role: "user" as const, content: "sure?" }];
    await respond(client, { model: "m", input: replayed, store: false }, mode);
    for (const at of [1, 2]) {
      const phases = sent(at).input.map((item) => item["phase"]);
      expect(phases.filter((phase) => phase !== undefined)).toEqual(["commentary", "final_answer"]);
    }
  });

  test("images and files go along as they came", async () => {
    script = [{ says: [{ text: "a cat" }] }];
    const content = [
      { type: "input_text" as const, text: "what is it?" },
      { type: "input_image" as const, image_url: "https://x.example/cat.png", detail: "low" as const },
      { type: "input_image" as const, file_id: "file_1", detail: "auto" as const },
      { type: "input_file" as const, filename: "a.pdf", file_data: "data:application/pdf;base64,AA==" },
      { type: "input_file" as const, file_url: "https://x.example/b.pdf" },
    ];
    await respond(client, { model: "m", input: [{ role: "user", content }] }, mode);
    expect(sent(0).input[0]?.["content"]).toEqual(content);
  });

  test("what steers a model reaches it", async () => {
    script = [{ says: [{ text: "{}" }] }];
    const own = { type: "function" as const, name: "ask", parameters: { type: "object" }, strict: null };
    const format = { type: "json_schema" as const, name: "s", schema: { type: "object" }, strict: true };
    await respond(
      client,
      {
        model: "m",
        input: "go",
        instructions: "Be brief.",
        tools: [own],
        tool_choice: { type: "function", name: "ask" },
        parallel_tool_calls: false,
        temperature: 0.5,
        top_p: 0.9,
        max_output_tokens: 99,
        text: { format, verbosity: "low" },
        user: "u-1",
      },
      mode,
    );
    expect(sent(0)).toMatchObject({
      instructions: "Be brief.",
      tool_choice: { type: "function", name: "ask" },
      parallel_tool_calls: false,
      temperature: 0.5,
      top_p: 0.9,
      max_output_tokens: 99,
      text: { format, verbosity: "low" },
      user: "u-1",
    });
  });
});

test("a summary streams with events of its own, and so does the text of open models", async () => {
  script = [{ says: [{ reasoning: ["One.", "Two."], content: "All of it." }, { text: "ok" }] }];
  const { events, response } = await streamed(client, { model: "gpt-oss", input: "go" });
  const types = events.map(({ type }) => type);
  expect(types.slice(2, types.indexOf("response.output_item.done") + 1)).toEqual([
    "response.output_item.added",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_text.delta",
    "response.reasoning_summary_text.done",
    "response.reasoning_summary_part.done",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_text.delta",
    "response.reasoning_summary_text.done",
    "response.reasoning_summary_part.done",
    "response.content_part.added",
    "response.reasoning_text.delta",
    "response.reasoning_text.done",
    "response.content_part.done",
    "response.output_item.done",
  ]);
  expect(itemsOf(response, "reasoning")[0]?.content).toEqual([
    { type: "reasoning_text", text: "All of it." },
  ]);
});

test("the encrypted form is kept sealed, and shown to who asks for it when the response is read", async () => {
  script = [{ says: [{ reasoning: ["Hm."], encrypted: ENCRYPTED }, { text: "ok" }] }];
  const { id } = await client.responses.create({ model: "gpt-5", input: "go" });
  expect(JSON.stringify(await client.responses.retrieve(id))).not.toContain(ENCRYPTED);
  const include = ["message.output_text.logprobs" as const, "reasoning.encrypted_content" as const];
  expect(JSON.stringify(await client.responses.retrieve(id, { include }))).toContain(ENCRYPTED);
  script = [{ says: [{ text: "ok" }] }];
  const next = await client.responses.create({ previous_response_id: id, input: "on" });
  const items = async (query: object) =>
    JSON.stringify((await client.responses.inputItems.list(next.id, query)).data);
  expect(await items({})).not.toContain(ENCRYPTED);
  expect(await items({ include })).toContain(ENCRYPTED);
  expect((await world.databaseBytes()).includes(ENCRYPTED)).toBe(false);
  expect(JSON.stringify(world.logs)).not.toContain(ENCRYPTED);
});

test("an upstream that gives one id to all its thoughts breaks no stream", async () => {
  script = [
    {
      says: [
        { reasoning: ["a"], encrypted: "x", id: "rs_1" },
        { reasoning: ["b"], encrypted: "y", id: "rs_1" },
        read,
      ],
    },
    { says: [{ reasoning: ["c"], encrypted: "z", id: "mcpr_1" }, { text: "ok" }] },
  ];
  const { response } = await streamed(client, { model: "gpt-5", input: "go", tools });
  const ids = itemsOf(response, "reasoning").map(({ id }) => id);
  expect(new Set(ids).size).toBe(3);
  expect(ids.every((id) => id.startsWith("rs_"))).toBe(true);
});

describe("an upstream that fails", () => {
  const failures: [string, ResponsesTurn, number, string][] = [
    ["by its status", { status: 429, body: { error: { message: "slow down" } } }, 429, "rate_limit_exceeded"],
    [
      "by a request it cannot take",
      { status: 400, body: { error: { message: "too long" } } },
      400,
      "invalid_prompt",
    ],
    ["by its key", { status: 401, body: { error: { message: "bad model-key" } } }, 502, "server_error"],
    [
      "by response.failed",
      { says: [], failed: { code: "server_error", message: "out of order" } },
      502,
      "server_error",
    ],
    [
      "by its rate limit in the middle",
      { says: [], failed: { code: "rate_limit_exceeded", message: "slow down" } },
      429,
      "rate_limit_exceeded",
    ],
    [
      "by an error event",
      { events: [{ type: "error", code: "server_error", message: "oops model-key", param: null }] },
      502,
      "server_error",
    ],
    [
      "by an error event of the form on the wire",
      { events: [{ type: "error", error: { type: "server_error", code: null, message: "oops" } }] },
      502,
      "server_error",
    ],
    ["by ending early", { events: [{ type: "response.created", response: {} }] }, 502, "server_error"],
    ["by answering something else", { events: ["data: {}\n\n"] }, 502, "server_error"],
  ];
  test.each(failures)("%s is heard of in one body and in a stream", async (_, turn, status, code) => {
    script = [structuredClone(turn)];
    const error: unknown = await client.responses.create({ model: "m", input: "x" }).catch((e: unknown) => e);
    expect(error).toMatchObject({ status });
    expect(String(error)).not.toContain("model-key");
    script = [structuredClone(turn)];
    const stream = await client.responses.create({ model: "m", input: "x", stream: true });
    const seen: string[] = [];
    const read = async () => {
      for await (const event of stream) seen.push(event.type);
    };
    await expect(read()).rejects.toMatchObject({ code });
    expect(seen).toEqual(["response.created", "response.in_progress"]);
  });

  test("after a tool ran, the response says what was done and that it failed", async () => {
    script = [{ says: [read] }, { says: [], failed: { code: "server_error", message: "out of order" } }];
    const response = await client.responses.create({ model: "m", input: "x", tools });
    expect([response.status, response.error?.code]).toEqual(["failed", "server_error"]);
    expect(itemsOf(response, "mcp_call")[0]?.output).toBe("note 7: buy milk");
  });

  test("content that it has no words for is 400", async () => {
    const input = [
      { role: "user", content: [{ type: "input_audio", input_audio: { data: "AA==", format: "mp3" } }] },
    ] as unknown as ResponseInputItem[];
    await expect(client.responses.create({ model: "m", input })).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining("audio"),
    });
    expect(model.requests).toHaveLength(0);
  });
});

test("a stream says annotations and log probabilities where they are made, and a repeated one says them again", async () => {
  const annotation = {
    type: "url_citation",
    url: "https://milk.example/",
    title: "Milk",
    start_index: 0,
    end_index: 4,
  };
  const logprobs = ["Buy ", "milk"].map((token) => ({ token, logprob: -0.5, bytes: null, top_logprobs: [] }));
  script = [{ says: [{ text: "Buy milk", annotations: [annotation], logprobs }] }];
  const ask = async () => {
    const stream = client.responses.stream(
      { model: "m", input: "what?", include: ["message.output_text.logprobs"] },
      { headers: { "Idempotency-Key": "annotated" } },
    );
    const events = [];
    for await (const event of stream) events.push(event);
    return { events, response: await stream.finalResponse() };
  };
  for (const [time, { events, response }] of [await ask(), await ask()].entries()) {
    const added = events.filter(({ type }) => type === "response.output_text.annotation.added");
    const item_id = itemsOf(response, "message")[0]?.id;
    expect(added).toMatchObject([
      { item_id, output_index: 0, content_index: 0, annotation_index: 0, annotation },
    ]);
    const deltas = events.flatMap((event) =>
      event.type === "response.output_text.delta" ? [event.logprobs] : [],
    );
    expect(deltas).toEqual(time === 0 ? logprobs.map((one) => [one]) : [logprobs]);
    const done = events.find((event) => event.type === "response.output_text.done");
    expect(done).toMatchObject({ text: "Buy milk", logprobs });
    const part = events.find((event) => event.type === "response.content_part.done");
    expect(part).toMatchObject({ part: { text: "Buy milk", annotations: [annotation], logprobs } });
  }
});

test("a round that fails is counted as far as the upstream says what it took", async () => {
  script = [
    { says: [read], usage: { input_tokens: 10, output_tokens: 5 } },
    {
      says: [],
      failed: { code: "server_error", message: "down" },
      usage: { input_tokens: 7, output_tokens: 2 },
    },
  ];
  const response = await respond(client, { model: "m", input: "x", tools });
  expect(response.status).toBe("failed");
  expect(response.usage).toMatchObject({ input_tokens: 17, output_tokens: 7, total_tokens: 24 });
});
