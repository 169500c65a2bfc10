import type { Part } from "../core/items.ts";
import type { JsonObject } from "../core/json.ts";
import { unsupported } from "./model-parts.ts";

/** A part of what a model is given. Throws `not_supported` for what the Responses API cannot say: it is never dropped. */
export function inputPart(part: Part): JsonObject {
  switch (part.kind) {
    case "input_text":
    case "output_text":
      return { type: "input_text", text: part.text };
    case "refusal":
      return { type: "input_text", text: part.refusal };
    case "image": {
      const { url, fileId, detail } = part;
      const where = { ...(url !== null && { image_url: url }), ...(fileId !== null && { file_id: fileId }) };
      return { type: "input_image", ...where, detail: detail ?? "auto" };
    }
    case "file": {
      const { name, data, url, fileId } = part;
      return {
        type: "input_file",
        ...(name !== null && { filename: name }),
        ...(data !== null && { file_data: data }),
        ...(url !== null && { file_url: url }),
        ...(fileId !== null && { file_id: fileId }),
      };
    }
    case "audio":
      throw unsupported("audio");
    case "other":
      return part.body;
  }
}

/** A part of what a model said before. Throws `not_supported` for what models do not say in this API. */
export function outputPart(part: Part): JsonObject {
  switch (part.kind) {
    case "input_text":
    case "output_text":
      return { type: "output_text", text: part.text, annotations: [] };
    case "refusal":
      return { type: "refusal", refusal: part.refusal };
    case "image":
      throw unsupported("an image in an assistant's message");
    case "file":
      throw unsupported("a file in an assistant's message");
    case "audio":
      throw unsupported("audio in an assistant's message");
    case "other":
      return part.body;
  }
}
