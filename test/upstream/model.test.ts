import { once } from "node:events";
import { createServer } from "node:http";
import type { RequestListener, Server } from "node:http";
import type { AddressInfo } from "node:net";
import OpenAI from "openai";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { BrokerError } from "../../src/core/errors.ts";
import type { ModelEvent, ModelRequest } from "../../src/core/ports.ts";
import { createChatModel } from "../../src/upstream/model.ts";
import type { ModelLimits } from "../../src/upstream/model-watch.ts";
import { startModel } from "../helpers/model.ts";
import type { Script, ScriptedModel } from "../helpers/model.ts";
import { exchange, message, modelRequest } from "../helpers/model-request.ts";

const cleanups: (() => Promise<unknown> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function scripted(script: Script): Promise<ScriptedModel> {
  const model = await startModel(script);
  cleanups.push(model.close);
  return model;
}

async function raw(listener: RequestListener): Promise<{ baseUrl: string; server: Server }> {
  const server = createServer(listener).listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`, server };
}

type Given = { limits?: Partial<ModelLimits>; apiKey?: string; request?: ModelRequest; signal?: AbortSignal };

function stream({ baseUrl }: { baseUrl: string }, given: Given = {}): AsyncIterable<ModelEvent> {
  const model = createChatModel({ baseUrl, apiKey: given.apiKey ?? null, limits: given.limits ?? {} });
  return model.stream(given.request ?? modelRequest(), given.signal ?? new AbortController().signal);
}

async function ask(upstream: { baseUrl: string }, given: Given = {}): Promise<ModelEvent[]> {
  const events: ModelEvent[] = [];
  for await (const event of stream(upstream, given)) events.push(event);
  return events;
}

const chunk = (delta: object, finish: string | null = null) => ({
  choices: [{ index: 0, delta, finish_reason: finish }],
});
const failed = (details: object) =>
  expect.objectContaining({ code: "model_failed", details: expect.objectContaining(details) });
const failedSaying = (words: string) => failed({ message: expect.stringContaining(words) });
const forever = () => new Promise<void>(() => {});

describe("a turn", () => {
  test("says text and calls, and how it ended", async () => {
    const usage = { prompt_tokens: 12, completion_tokens: 3 };
    const model = await scripted([
      { text: ["Let ", "me."], calls: [{ name: "echo", arguments: { a: 1 } }], usage },
    ]);
    expect(await ask(model)).toEqual([
      { kind: "text", delta: "Let " },
      { kind: "text", delta: "me." },
      { kind: "call_started", call: 0, callId: "call_2", name: "echo" },
      { kind: "call_arguments", call: 0, delta: '{"a"' },
      { kind: "call_arguments", call: 0, delta: ":1}" },
      {
        kind: "finished",
        reason: "stop",
        usage: { inputTokens: 12, cachedTokens: 0, outputTokens: 3, reasoningTokens: 0 },
      },
    ]);
  });

  test("comes through while the upstream is still speaking", async () => {
    const heard = Promise.withResolvers<void>();
    async function* frames() {
      yield chunk({ content: "first" });
      await heard.promise;
      yield chunk({ content: "second" }, "stop");
    }
    const model = await scripted([{ frames: frames() }]);
    const texts: string[] = [];
    for await (const event of stream(model)) {
      if (event.kind !== "text") continue;
      texts.push(event.delta);
      heard.resolve();
    }
    expect(texts).toEqual(["first", "second"]);
  });

  test("sends the history and the tools", async () => {
    const model = await scripted([{ text: "ok" }]);
    const request = modelRequest({
      instructions: "Be brief.",
      history: [message("user", "hi"), exchange("call_a")],
      tools: [{ name: "echo", description: "Echoes.", parameters: { type: "object" }, strict: null }],
    });
    await ask(model, { request });
    expect(model.requests[0]?.body).toEqual({
      model: "m",
      stream: true,
      stream_options: { include_usage: true },
      messages: [
        { role: "system", content: "Be brief." },
        { role: "user", content: "hi" },
        {
          role: "assistant",
          content: null,
          tool_calls: [{ id: "call_a", type: "function", function: { name: "echo", arguments: '{"a":1}' } }],
        },
        { role: "tool", tool_call_id: "call_a", content: "result of call_a" },
      ],
      tools: [
        {
          type: "function",
          function: { name: "echo", description: "Echoes.", parameters: { type: "object" } },
        },
      ],
    });
  });

  test("keeps the base URL's path and query", async () => {
    const model = await scripted(() => ({ text: "ok" }));
    await ask({ baseUrl: `${model.baseUrl}/` });
    await ask({ baseUrl: `${model.baseUrl}?api-version=1` });
    expect(model.requests.map(({ path }) => path)).toEqual([
      "/v1/chat/completions",
      "/v1/chat/completions?api-version=1",
    ]);
  });

  test("tells the upstream nothing but the request and the key, whatever the environment holds", async () => {
    const model = await scripted(() => ({ text: "ok" }));
    const canary = "canary";
    for (const name of ["ORG_ID", "PROJECT_ID", "ADMIN_KEY", "API_KEY", "BASE_URL"])
      vi.stubEnv(`OPENAI_${name}`, canary);
    vi.stubEnv("OPENAI_CUSTOM_HEADERS", "x-canary: canary");
    vi.stubEnv("OPENAI_LOG", "debug");
    const log = vi.spyOn(console, "debug").mockImplementation(() => {});
    cleanups.push(() => {
      vi.unstubAllEnvs();
      log.mockRestore();
    });
    await ask(model, { apiKey: "sk-ours" });
    await ask(model);
    const [withKey, without] = model.requests.map(({ headers }) => headers);
    expect(withKey).toMatchObject({ authorization: "Bearer sk-ours", "user-agent": "consentry" });
    expect(without).not.toHaveProperty("authorization");
    expect(JSON.stringify([withKey, without])).not.toMatch(/canary|stainless|openai/i);
    expect(log).not.toHaveBeenCalled();
  });
});

describe("an upstream's error", () => {
  const body = (error: object | string) => ({ error });

  test.each([
    [
      404,
      body({ message: 'no model "m"', code: "model_not_found" }),
      'HTTP 404: no model "m"',
      "model_not_found",
    ],
    [400, { object: "error", message: "context is full", code: 400 }, "HTTP 400: context is full", "400"],
    [422, { detail: "field required" }, "HTTP 422: field required", null],
    [400, body("model is not loaded"), "HTTP 400: model is not loaded", null],
    [
      429,
      body({ message: "slow down", code: "rate_limit_exceeded" }),
      "HTTP 429: slow down",
      "rate_limit_exceeded",
    ],
    [500, "<html>internal host db-7 failed</html>", "HTTP 500", null],
    [503, body({ message: { nested: true }, code: "a code with blanks" }), "HTTP 503", null],
  ])("%i is told with what the upstream says", async (status, answer, words, code) => {
    const model = await scripted([{ status, body: answer }]);
    await expect(ask(model)).rejects.toEqual(
      failed({ status, code, message: `the model upstream answered ${words}` }),
    );
    expect(model.requests).toHaveLength(1);
  });

  test("about our key is not passed on, nor is the key", async () => {
    const apiKey = "sk-0123456789";
    const unauthorized = await scripted([{ status: 401, body: body({ message: "bad key sk-01...789" }) }]);
    await expect(ask(unauthorized, { apiKey })).rejects.toEqual(
      failed({ status: 401, message: "the model upstream answered HTTP 401: it refuses the broker's key" }),
    );
    const echoing = await scripted([{ status: 403, body: body({ message: `${apiKey} may not use m` }) }]);
    await expect(ask(echoing, { apiKey })).rejects.toEqual(
      failed({ message: "the model upstream answered HTTP 403: [key] may not use m" }),
    );
  });

  test("is one bounded line", async () => {
    const model = await scripted([
      { status: 400, body: body({ message: `a\n\u{202e}b\u{0}${"c".repeat(2000)}` }) },
    ]);
    const said: unknown = await ask(model).catch(
      (error: BrokerError<"model_failed">) => error.details.message,
    );
    expect(said).toMatch(/^the model upstream answered HTTP 400: a b c{400,500}…$/);
  });

  test("with an endless body is cut off", async () => {
    const upstream = await raw((_, outgoing) => {
      outgoing.writeHead(500, { "content-type": "application/json" });
      const more = () => {
        while (outgoing.write("x".repeat(16_384)));
        outgoing.once("drain", more);
      };
      more();
    });
    await expect(ask(upstream)).rejects.toEqual(failed({ status: 500 }));
  });

  test("in the middle of the stream ends it", async () => {
    const model = await scripted([
      { frames: [chunk({ content: "half" }), { error: { message: "overloaded", code: "overloaded" } }] },
    ]);
    const texts: ModelEvent[] = [];
    const reading = (async () => {
      for await (const event of stream(model)) texts.push(event);
    })();
    await expect(reading).rejects.toEqual(
      failed({
        status: null,
        code: "overloaded",
        message: "the model upstream ended its answer with an error: overloaded",
      }),
    );
    expect(texts).toEqual([{ kind: "text", delta: "half" }]);
  });

  test("by redirect reaches nobody else", async () => {
    const other = await scripted(() => ({ text: "stolen" }));
    const model = await scripted([
      { status: 307, headers: { location: `${other.baseUrl}/chat/completions` } },
    ]);
    await expect(ask(model, { apiKey: "sk-ours" })).rejects.toEqual(failed({ status: 307 }));
    expect(other.requests).toHaveLength(0);
  });
});

describe("an upstream that misbehaves", () => {
  test.each<[string, unknown[], string]>([
    ["ends early", [chunk({ content: "half" })], "broke off before its answer was whole"],
    [
      "sends DONE early",
      [chunk({ content: "half" }), "data: [DONE]\n\n"],
      "broke off before its answer was whole",
    ],
    [
      "sends what is not JSON",
      [chunk({ content: "half" }), "data: {oops\n\n"],
      "sent an event that is not JSON",
    ],
    ["sends a page", ["<html>\n\nlog in</html>\n\n"], "did not answer with a stream"],
    ["sends nothing", [], "did not answer with a stream"],
  ])("%s", async (_, frames, words) => {
    await expect(ask(await scripted([{ frames }]))).rejects.toEqual(failedSaying(words));
  });

  test("breaks the connection", async () => {
    function* frames() {
      yield chunk({ content: "half" });
      throw new Error("cable cut");
    }
    await expect(ask(await scripted([{ frames: frames() }]))).rejects.toEqual(
      failedSaying("broke off its answer"),
    );
  });

  test("is not there", async () => {
    const { baseUrl, server } = await raw(() => {});
    server.close();
    await once(server, "close");
    await expect(ask({ baseUrl })).rejects.toEqual(
      failed({ message: "the model upstream could not be reached (ECONNREFUSED)" }),
    );
  });

  test("has said all, and then hangs or breaks: the turn is whole", async () => {
    async function* hangs() {
      yield chunk({ content: "all" }, "stop");
      await forever();
    }
    const heard = Promise.withResolvers<void>();
    async function* breaks() {
      yield chunk({ content: "all" }, "stop");
      await heard.promise;
      throw new Error("cable cut");
    }
    const model = await scripted([{ frames: hangs() }, { frames: breaks() }]);
    expect((await ask(model, { limits: { lingerMs: 50 } })).map(({ kind }) => kind)).toEqual([
      "text",
      "finished",
    ]);
    const kinds: string[] = [];
    for await (const { kind } of stream(model)) {
      kinds.push(kind);
      heard.resolve();
    }
    expect(kinds).toEqual(["text", "finished"]);
  });
});

describe("limits", () => {
  test("the first byte must come in time", async () => {
    const headers = await raw((_, outgoing) => {
      outgoing.writeHead(200, { "content-type": "text/event-stream" });
      outgoing.flushHeaders();
    });
    const nothing = await raw(() => {});
    for (const upstream of [headers, nothing]) {
      await expect(ask(upstream, { limits: { firstByteMs: 50 } })).rejects.toEqual(
        failedSaying("said nothing for 50 ms"),
      );
    }
  });

  test("silence may last so long", async () => {
    async function* frames() {
      yield chunk({ content: "then" });
      await forever();
    }
    const model = await scripted([{ frames: frames() }]);
    await expect(ask(model, { limits: { idleMs: 50 } })).rejects.toEqual(
      failedSaying("was silent for 50 ms"),
    );
    await model.requests[0]?.left;
  });

  test("an error's body that never ends is silence, too", async () => {
    const upstream = await raw((_, outgoing) => void outgoing.writeHead(500).write("{"));
    await expect(ask(upstream, { limits: { idleMs: 50 } })).rejects.toEqual(
      failedSaying("was silent for 50 ms"),
    );
  });

  test("comments break a silence, but not the total", async () => {
    async function* frames() {
      for (;;) {
        yield ": thinking\n\n";
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
    const model = await scripted([{ frames: frames() }]);
    const limits = { firstByteMs: 600, idleMs: 500, totalMs: 1200 };
    await expect(ask(model, { limits })).rejects.toEqual(failedSaying("took longer than 1200 ms"));
  });

  test("a slow reader is no silence", async () => {
    const model = await scripted([{ text: ["a", "b", "c"] }]);
    const kinds: string[] = [];
    for await (const event of stream(model, { limits: { idleMs: 300 } })) {
      kinds.push(event.kind);
      if (event.kind === "text") await new Promise((resolve) => setTimeout(resolve, 400));
    }
    expect(kinds).toEqual(["text", "text", "text", "finished"]);
  });

  test("an endless answer ends at the limit of bytes", async () => {
    let sent = 0;
    function* frames() {
      for (;;) {
        sent += 10_000;
        yield chunk({ content: "x".repeat(10_000) });
      }
    }
    const model = await scripted([{ frames: frames() }]);
    await expect(ask(model, { limits: { maxBytes: 200_000 } })).rejects.toEqual(
      failedSaying("answered more than 200000 bytes"),
    );
    await model.requests[0]?.left;
    expect(sent).toBeLessThan(20_000_000);
  });

  test("an endless event does, too", async () => {
    function* frames() {
      for (;;) yield "x".repeat(10_000);
    }
    const model = await scripted([{ frames: frames() }]);
    await expect(ask(model, { limits: { maxBytes: 200_000 } })).rejects.toEqual(failedSaying("200000 bytes"));
  });
});

describe("a caller who leaves", () => {
  test("before the request sends none", async () => {
    const model = await scripted([{ text: "ok" }]);
    const reason = new Error("gone");
    await expect(ask(model, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(model.requests).toHaveLength(0);
  });

  test("while the upstream thinks ends its request", async () => {
    const asked = Promise.withResolvers<void>();
    const model = await scripted([
      async () => {
        asked.resolve();
        await forever();
        return { text: "too late" };
      },
    ]);
    const caller = new AbortController();
    const answer = ask(model, { signal: caller.signal });
    await asked.promise;
    const reason = new Error("gone");
    caller.abort(reason);
    await expect(answer).rejects.toBe(reason);
    await model.requests[0]?.left;
  });

  test("in the middle of the answer ends it, by signal or by reading no further", async () => {
    async function* frames() {
      yield chunk({ content: "half" });
      await forever();
    }
    const model = await scripted([{ frames: frames() }, { frames: frames() }]);
    const caller = new AbortController();
    const reason = new Error("gone");
    const reading = (async () => {
      for await (const _ of stream(model, { signal: caller.signal })) caller.abort(reason);
    })();
    await expect(reading).rejects.toBe(reason);
    await model.requests[0]?.left;

    for await (const _ of stream(model)) break;
    await model.requests[1]?.left;
    expect(model.requests).toHaveLength(2);
  });
});

test("the scripted model answers without a stream, too, and says when its script has run out", async () => {
  const model = await scripted([{ text: "Hi there", calls: [{ name: "echo", arguments: "{}", id: "c1" }] }]);
  const client = new OpenAI({ baseURL: model.baseUrl, apiKey: "k", maxRetries: 0 });
  const asking = { model: "m", messages: [{ role: "user" as const, content: "hi" }] };
  expect(await client.chat.completions.create(asking)).toMatchObject({
    choices: [
      {
        message: {
          content: "Hi there",
          tool_calls: [{ id: "c1", function: { name: "echo", arguments: "{}" } }],
        },
        finish_reason: "tool_calls",
      },
    ],
    usage: { total_tokens: 15 },
  });
  await expect(client.chat.completions.create(asking)).rejects.toThrow("the script has run out");
});
