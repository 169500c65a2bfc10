import { afterEach, describe, expect, test, vi } from "vitest";
import type { ModelEvent } from "../../src/core/ports.ts";
import { createResponsesModel } from "../../src/upstream/model-responses.ts";
import type { ModelLimits } from "../../src/upstream/model-watch.ts";
import { measureComputing } from "../helpers/computing.ts";
import { modelRequest } from "../helpers/model-request.ts";
import { type ResponsesModel, type ResponsesTurn, startResponsesModel } from "../helpers/model-responses.ts";

const cleanups: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function scripted(...script: ResponsesTurn[]): Promise<ResponsesModel> {
  const model = await startResponsesModel(script);
  cleanups.push(model.close);
  return model;
}

type Given = { limits?: Partial<ModelLimits>; apiKey?: string; signal?: AbortSignal };

async function ask({ baseUrl }: ResponsesModel, given: Given = {}): Promise<ModelEvent[]> {
  const { limits = {}, apiKey = null, signal = new AbortController().signal } = given;
  const events: ModelEvent[] = [];
  const stream = createResponsesModel({ baseUrl, apiKey, limits }).stream(modelRequest(), signal);
  for await (const event of stream) events.push(event);
  return events;
}

const failedSaying = (words: string) =>
  expect.objectContaining({
    code: "model_failed",
    details: expect.objectContaining({ message: expect.stringContaining(words) }),
  });
const forever = () => new Promise<void>(() => {});
const begun = { type: "response.created", response: {} };
const piece = (delta: string) => ({ type: "response.output_text.delta", output_index: 0, delta });

test("a turn says what was thought, said and called, and how it ended", async () => {
  const model = await scripted({
    says: [{ reasoning: ["Hm."], id: "rs_9" }, { text: "Hi." }, { call: "echo", arguments: "{}", id: "c1" }],
  });
  expect(await ask(model)).toEqual([
    { kind: "reasoning_started", id: "rs_9" },
    { kind: "reasoning_delta", of: "summary", part: 0, delta: "Hm." },
    {
      kind: "reasoning_ended",
      body: { type: "reasoning", id: "rs_9", summary: [{ type: "summary_text", text: "Hm." }] },
      origin: `m at ${model.baseUrl}`,
    },
    { kind: "message_started", phase: null },
    { kind: "text", delta: "Hi." },
    { kind: "call_started", call: 0, callId: "c1", name: "echo" },
    { kind: "call_arguments", call: 0, delta: "{}" },
    {
      kind: "finished",
      reason: "stop",
      usage: { inputTokens: 10, cachedTokens: 0, outputTokens: 5, reasoningTokens: 0 },
    },
  ]);
});

test("nothing of ours goes out but the body and the key, whatever the environment says", async () => {
  vi.stubEnv("OPENAI_API_KEY", "sk-env");
  vi.stubEnv("OPENAI_ORG_ID", "org-env");
  vi.stubEnv("OPENAI_PROJECT_ID", "proj-env");
  cleanups.push(() => void vi.unstubAllEnvs());
  const model = await scripted({ says: [{ text: "ok" }] }, { says: [{ text: "ok" }] });
  await ask(model);
  await ask(model, { apiKey: "sk-own" });
  expect(model.requests.map(({ headers }) => headers.authorization)).toEqual([undefined, "Bearer sk-own"]);
  expect(JSON.stringify(model.requests)).not.toMatch(/env|stainless|openai-/i);
});

describe("an upstream that hangs or floods", () => {
  test("may be silent so long", async () => {
    async function* events() {
      yield begun;
      await forever();
    }
    const model = await scripted({ events: events() });
    await expect(ask(model, { limits: { idleMs: 50 } })).rejects.toEqual(
      failedSaying("was silent for 50 ms"),
    );
    expect(model.requests).toHaveLength(1);
  });

  test("may say so much", async () => {
    function* events() {
      for (;;) yield piece("x".repeat(10_000));
    }
    const model = await scripted({ events: events() });
    await expect(ask(model, { limits: { maxBytes: 200_000 } })).rejects.toEqual(failedSaying("200000 bytes"));
  });

  test("and that has said the end need not close its stream", async () => {
    async function* events() {
      yield piece("Hi.");
      yield { type: "response.completed", response: {} };
      await forever();
    }
    const model = await scripted({ events: events() });
    const heard = await ask(model, { limits: { lingerMs: 50 } });
    expect(heard.map(({ kind }) => kind)).toEqual(["message_started", "text", "finished"]);
  });

  test("and more calls than anybody needs are refused before they cost anything", async () => {
    const call = { type: "function_call", name: "echo", arguments: "{}" };
    const output = Array.from({ length: 50_000 }, () => call);
    const model = await scripted({ events: [{ type: "response.completed", response: { output } }] });
    const computedMs = measureComputing();
    await expect(ask(model)).rejects.toMatchObject({
      details: { message: "the model upstream called more than 512 tools at once" },
    });
    expect(computedMs()).toBeLessThan(2_000);
  });

  test("and thoughts without number cost no more than their bytes", async () => {
    const thought = (at: number) => ({
      type: "reasoning",
      id: `rs_${at}`,
      summary: [],
      encrypted_content: "x",
    });
    const output = Array.from({ length: 50_000 }, (_, at) => thought(at));
    const model = await scripted({ events: [{ type: "response.completed", response: { output } }] });
    const computedMs = measureComputing();
    expect(await ask(model)).toHaveLength(100_001);
    expect(computedMs()).toBeLessThan(5_000);
  });
});

test("a caller who leaves ends the call", async () => {
  async function* events() {
    yield piece("half");
    await forever();
  }
  const model = await scripted({ events: events() });
  const caller = new AbortController();
  const reason = new Error("gone");
  const asked = createResponsesModel({ baseUrl: model.baseUrl, apiKey: null }).stream(
    modelRequest(),
    caller.signal,
  );
  const reading = (async () => {
    for await (const _ of asked) caller.abort(reason);
  })();
  await expect(reading).rejects.toBe(reason);
});
