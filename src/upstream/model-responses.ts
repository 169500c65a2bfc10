import type { Model, ModelEvent, ModelRequest } from "../core/ports.ts";
import { callModel, type ModelPlace } from "./model-call.ts";
import { callIdsOf } from "./model-history.ts";
import { createResponseReader } from "./model-responses-events.ts";
import { responsesRequest } from "./model-responses-request.ts";
import { MODEL_LIMITS } from "./model-watch.ts";

/**
 * A model upstream that speaks the Responses API, streamed; one request per turn. The upstream stores nothing
 * (`store: false`): the history goes along every time, reasoning as the upstream itself encrypted it.
 *
 * `stream` throws `model_failed`; `invalid` or `not_supported`, before anything is sent, for a history that cannot be
 * said in this API; and the signal's own reason when it aborts.
 */
export function createResponsesModel(given: ModelPlace): Model {
  // The first byte comes at once in this API, and then a model that shows nothing of its reasoning is silent.
  const place = { ...given, limits: { idleMs: MODEL_LIMITS.firstByteMs, ...given.limits } };
  async function* stream(request: ModelRequest, signal: AbortSignal): AsyncGenerator<ModelEvent> {
    signal.throwIfAborted();
    // Reasoning is of use to nobody but the one that encrypted it.
    const origin = `${request.model} at ${place.baseUrl}`;
    const body = responsesRequest(request, origin);
    const taken = callIdsOf(request.history);
    const reader = createResponseReader({ origin, apiKey: place.apiKey, isTaken: (id) => taken.has(id) });
    yield* callModel(place, signal, {
      trace: request.trace ?? null,
      reader,
      send: (client, ending) => client.responses.create(body, { signal: ending }),
    });
  }
  return { stream };
}
