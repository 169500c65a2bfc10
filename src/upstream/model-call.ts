import OpenAI from "openai";
import type { ModelEvent } from "../core/ports.ts";
import { traceFields, type Trace } from "../core/trace.ts";
import type { EgressFetch } from "./egress.ts";
import { modelFailed, modelFailure } from "./model-failures.ts";
import { MODEL_LIMITS, watchModel } from "./model-watch.ts";
import type { ModelLimits, ModelWatch } from "./model-watch.ts";

/**
 * Where a model is. `apiKey` null sends no credential. `fetch` defaults to the runtime's own; redirects are not followed,
 * and nothing goes out but the body, its type, the key and the trace, whatever `OPENAI_*` variables are set.
 */
export type ModelPlace = {
  baseUrl: string;
  apiKey: string | null;
  fetch?: EgressFetch;
  limits?: Partial<ModelLimits>;
};

/** Reads what one call of a model streams, in the words of its API. */
export type ModelReader = {
  /** Throws `model_failed` for what cannot be told, and for what the upstream says of its own failure. */
  read: (chunk: unknown) => ModelEvent[];
  /** Whether the model has said that it is done: what comes instead of an end spoils nothing any more. */
  isFinished: () => boolean;
  /** The last events. Throws `model_failed` when the stream ended too early, or with an error. */
  end: () => ModelEvent[];
};

/**
 * One streamed call, never repeated: what a failed turn costs is for the caller to judge, whose client repeats by its own
 * rules. Throws `model_failed`, and the signal's own reason when it aborts.
 */
export async function* callModel(
  place: ModelPlace,
  signal: AbortSignal,
  {
    send,
    reader,
    trace,
  }: {
    send: (client: OpenAI, signal: AbortSignal) => Promise<AsyncIterable<unknown>>;
    reader: ModelReader;
    trace: Trace | null;
  },
): AsyncGenerator<ModelEvent> {
  const limits = { ...MODEL_LIMITS, ...place.limits };
  const watch = watchModel(limits, signal);
  // The package ends a stream without a word when its signal aborts, so that is asked each time.
  const heard = async <T>(work: Promise<T>): Promise<T> => {
    const said = await settled(watch.during(work));
    signal.throwIfAborted();
    const passed = watch.passed();
    if (passed !== null) throw modelFailed(passed);
    if (!said.ok) throw modelFailure(said.error, place.apiKey);
    return said.value;
  };
  try {
    const client = createClient({ ...place, watch, trace, timeoutMs: limits.totalMs });
    const chunks = await heard(send(client, watch.signal));
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
}: ModelPlace & { watch: ModelWatch; timeoutMs: number; trace: Trace | null }): OpenAI {
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
