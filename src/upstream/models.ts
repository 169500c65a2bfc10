import type { Model, ModelApi, ModelEvent, ModelRequest, World } from "../core/ports.ts";
import type { Egress } from "./egress.ts";
import type { ModelPlace } from "./model-call.ts";
import { MODEL_LIMITS } from "./model-watch.ts";

/** A model upstream by the API that it speaks. The package for it is read at the first turn that asks a model: many ask none. */
export function createModel({ api, ...place }: ModelPlace & { api: ModelApi }): Model {
  async function* stream(request: ModelRequest, signal: AbortSignal): AsyncGenerator<ModelEvent> {
    const model = await createSpeaking(api, place);
    yield* model.stream(request, signal);
  }
  return { stream };
}

async function createSpeaking(api: ModelApi, place: ModelPlace): Promise<Model> {
  switch (api) {
    case "chat": {
      const { createChatModel } = await import("./model.ts");
      return createChatModel(place);
    }
    case "responses": {
      const { createResponsesModel } = await import("./model-responses.ts");
      return createResponsesModel(place);
    }
  }
}

/** Models at URLs that projects' admins name: called through egress, whose limits stand behind those of a model's call. */
export function createModelDoor(egress: Egress): World["modelAt"] {
  const { totalMs, firstByteMs: idleMs, maxBytes } = MODEL_LIMITS;
  return (at) =>
    createModel({ ...at, fetch: egress.fetch({ totalMs, idleMs, maxBytes, maxDepth: MAX_DEPTH }) });
}

/** Of a stream's events: a response repeats the tools, whose schemas may be as deep as our own bodies. */
const MAX_DEPTH = 128;
