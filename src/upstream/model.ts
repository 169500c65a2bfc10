import type { Model, ModelEvent, ModelRequest } from "../core/ports.ts";
import { callModel, type ModelPlace } from "./model-call.ts";
import { createChunkReader } from "./model-events.ts";
import { callIdsOf } from "./model-history.ts";
import { chatRequest } from "./model-request.ts";

/**
 * A model upstream that speaks Chat Completions, streamed; one request per turn.
 *
 * `stream` throws `model_failed`; `invalid` or `not_supported`, before anything is sent, for a history that cannot be
 * said in this API; and the signal's own reason when it aborts.
 */
export function createChatModel(place: ModelPlace): Model {
  async function* stream(request: ModelRequest, signal: AbortSignal): AsyncGenerator<ModelEvent> {
    signal.throwIfAborted();
    const body = chatRequest(request);
    const taken = callIdsOf(request.history);
    const reader = createChunkReader((id) => taken.has(id));
    yield* callModel(place, signal, {
      reader,
      trace: request.trace ?? null,
      send: (client, ending) => client.chat.completions.create(body, { signal: ending }),
    });
  }
  return { stream };
}
