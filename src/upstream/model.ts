import OpenAI from "openai";
import type { Model, ModelEvent, ModelRequest } from "../core/ports.ts";
import { traceFields, type Trace } from "../core/trace.ts";
import type { EgressFetch } from "./egress.ts";
import { createChunkReader } from "./model-events.ts";
import { modelFailed, modelFailure } from "./model-failures.ts";
import { chatRequest } from "./model-request.ts";
import { MODEL_LIMITS, watchModel } from "./model-watch.ts";
import type { ModelLimits, ModelWatch } from "./model-watch.ts";

/**
 * A model upstream that speaks Chat Completions, streamed. One request per turn, never repeated: what a failed turn
 * costs is for the caller to judge, whose client repeats by its own rules.
 *
 * `apiKey` null sends no credential. `fetch` defaults to the runtime's own; redirects are not followed, and nothing
 * goes out but the body, its type, the key and the trace, whatever `OPENAI_*` variables are set.
 *
 * `stream` throws `model_failed`; `invalid` or `not_supported`, before anything is sent, for a history that cannot be
 * said in this API; and the signal's own reason when it aborts.
 */
export function createChatModel(options: {
  baseUrl: string;
  apiKey: string | null;
  fetch?: EgressFetch;
  limits?: Partial<ModelLimits>;
}): Model {
  const limits = { ...MODEL_LIMITS, ...options.limits };

  async function* stream(request: ModelRequest, signal: AbortSignal): AsyncGenerator<ModelEvent> {
    signal.throwIfAborted();
    const body = chatRequest(request);
    const watch = watchModel(limits, signal);
    const reader = createChunkReader((id) =>
      request.history.some((item) => "callId" in item && item.callId === id),
    );
    // The package ends a stream without a word when its signal aborts, so that is asked each time.
    const heard = async <T>(work: Promise<T>): Promise<T> => {
      const said = await settled(watch.during(work));
      signal.throwIfAborted();
      const passed = watch.passed();
      if (passed !== null) throw modelFailed(passed);
      if (!said.ok) throw modelFailure(said.error, options.apiKey);
      return said.value;
    };
    try {
      const client = createClient({
        ...options,
        watch,
        timeoutMs: limits.totalMs,
        trace: request.trace ?? null,
      });
      const chunks = await heard(client.chat.completions.create(body, { signal: watch.signal }));
      const iterator: AsyncIterator<unknown> = chunks[Symbol.asyncIterator]();
      while (!reader.isFinished()) {
        const next = await heard(iterator.next());
        if (next.done) break;
        yield* reader.read(next.value);
      }
      while (reader.isFinished()) {
        // The answer is whole. The usage may still come; whatever else comes instead spoils nothing.
        const next = await settled(watch.during(iterator.next(), { idleMs: limits.lingerMs }));
        if (!next.ok || next.value.done) break;
        yield* reader.read(next.value.value);
      }
      signal.throwIfAborted();
      yield* reader.end();
    } finally {
      watch.close();
    }
  }
  return { stream };
}

type Settled<T> = { ok: true; value: T } | { ok: false; error: unknown };

function settled<T>(work: Promise<T>): Promise<Settled<T>> {
  return work.then(
    (value) => ({ ok: true, value }),
    (error: unknown) => ({ ok: false, error }),
  );
}

function createClient({
  baseUrl,
  apiKey,
  watch,
  timeoutMs,
  trace,
  fetch: send = (url, init) => fetch(url, init),
}: {
  baseUrl: string;
  apiKey: string | null;
  watch: ModelWatch;
  timeoutMs: number;
  trace: Trace | null;
  fetch?: EgressFetch;
}): OpenAI {
  return new OpenAI({
    baseURL: baseUrl,
    // The package insists on a key; without one of ours the header is not sent.
    apiKey: apiKey ?? "none",
    adminAPIKey: null,
    organization: null,
    project: null,
    webhookSecret: null,
    maxRetries: 0,
    timeout: timeoutMs,
    // Its log lines hold bodies.
    logLevel: "off",
    fetch: async (input, init) => {
      const url = input instanceof Request ? input.url : input;
      const headers = {
        ...HEADERS,
        ...traceFields(trace),
        ...(apiKey !== null && { authorization: `Bearer ${apiKey}` }),
      };
      return watch.guard(await send(url, { ...init, headers, redirect: "manual" }));
    },
  });
}

/** All that the upstream learns of us, beside the key and the trace: the package would add headers of its own and of the environment. */
const HEADERS = {
  "content-type": "application/json",
  accept: "application/json",
  "user-agent": "consentry",
};
