import type OpenAI from "openai";
import { BrokerError } from "../core/errors.ts";
import type { FunctionCallOutput, Part } from "../core/items.ts";

type UserPart = OpenAI.ChatCompletionContentPart;

/** A part of what a person sent. Throws `not_supported` for what Chat Completions cannot say: it is never dropped. */
export function userPart(part: Part): UserPart {
  switch (part.kind) {
    case "input_text":
    case "output_text":
      return { type: "text", text: part.text };
    case "refusal":
      return { type: "text", text: part.refusal };
    case "image":
      if (part.url === null) throw unsupported("an image by its file id");
      return { type: "image_url", image_url: { url: part.url, ...detailOf(part.detail) } };
    case "file": {
      const { name, data, fileId } = part;
      if (data === null && fileId === null) throw unsupported("a file by its URL");
      const file = { ...(data !== null && { file_data: data }), ...(fileId !== null && { file_id: fileId }) };
      return { type: "file", file: { ...file, ...(name !== null && { filename: name }) } };
    }
    case "audio":
      if (part.format !== "wav" && part.format !== "mp3") throw unsupported(`audio as ${part.format}`);
      return { type: "input_audio", input_audio: { data: part.data, format: part.format } };
    case "other":
      throw unsupported(`a content part of type ${JSON.stringify(part.body["type"])}`);
  }
}

/** Chat Completions knows three of the levels of detail; `original` is the highest there is. */
function detailOf(detail: string | null): { detail?: "auto" | "low" | "high" } {
  if (detail === "auto" || detail === "low" || detail === "high") return { detail };
  return detail === "original" ? { detail: "high" } : {};
}

/** The refusal of content that an upstream of this kind has no words for. */
export function unsupported(what: string): BrokerError<"not_supported"> {
  return new BrokerError("not_supported", { what: `${what} with this model upstream`, param: "input" });
}

/** A function's output as text, which is all that a tool message may hold; other content leaves a note. */
export function outputText({ output }: FunctionCallOutput): string {
  if (typeof output === "string") return output;
  return output.map((part) => wordsOf(part) ?? OMITTED).join("\n");
}

/**
 * The words of a message that may hold nothing else, a refusal's too. Throws `not_supported` for an image, a file or audio; what
 * the broker does not know, other makers' histories have in their models' messages, and it says nothing to this API.
 */
export function textOf(parts: Part[], role: string): string {
  const media = parts.find(({ kind }) => kind === "image" || kind === "file" || kind === "audio");
  if (media) throw unsupported(`${media.kind} content in a message of the role ${role}`);
  return parts.flatMap((part) => wordsOf(part) ?? []).join("\n");
}

function wordsOf(part: Part): string | null {
  switch (part.kind) {
    case "input_text":
    case "output_text":
      return part.text;
    case "refusal":
      return part.refusal;
    case "image":
    case "file":
    case "audio":
    case "other":
      return null;
  }
}

const OMITTED = "(content that is not text, left out: this model API takes text only here)";
