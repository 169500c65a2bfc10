import type { Model, ModelApi, World } from "../core/ports.ts";
import type { Egress } from "./egress.ts";
import type { ModelPlace } from "./model-call.ts";
import { createResponsesModel } from "./model-responses.ts";
import { MODEL_LIMITS } from "./model-watch.ts";
import { createChatModel } from "./model.ts";

/** A model upstream by the API that it speaks. */
export function createModel({ api, ...place }: ModelPlace & { api: ModelApi }): Model {
  switch (api) {
    case "chat":
      return createChatModel(place);
    case "responses":
      return createResponsesModel(place);
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
