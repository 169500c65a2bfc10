import type { Model, ModelApi } from "../core/ports.ts";
import type { ModelPlace } from "./model-call.ts";
import { createResponsesModel } from "./model-responses.ts";
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
