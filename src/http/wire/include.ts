import { type Fault, invalid } from "../../core/errors.ts";
import { MAX_FAULTS } from "./faults.ts";

/**
 * What may be asked for by `include` (openai 7.55, `ResponseIncludable`). Of these only
 * `reasoning.encrypted_content` and `message.output_text.logprobs` change anything: the others are of tools that are not here, or are given anyway. They are read for
 * the sake of misspelt ones.
 */
export const INCLUDABLE = [
  "file_search_call.results",
  "web_search_call.results",
  "web_search_call.action.sources",
  "message.input_image.image_url",
  "computer_call_output.output.image_url",
  "code_interpreter_call.outputs",
  "reasoning.encrypted_content",
  "message.output_text.logprobs",
] as const;

/** Throws `invalid` for what is no list of these. */
export function checkInclude(value: unknown, param = "include"): void {
  if (value === null || value === undefined) return;
  if (!Array.isArray(value)) throw invalid({ param, message: "must be an array" });
  const faults = value.flatMap((one: unknown, at): Fault[] => {
    if (INCLUDABLE.some((known) => known === one)) return [];
    return [{ param: `${param}[${at}]`, message: `must be one of ${INCLUDABLE.join(", ")}` }];
  });
  if (faults.length > 0) throw invalid(...faults.slice(0, MAX_FAULTS));
}

/** The same of a query, in every form in which clients repeat a name. Gives what is asked for. */
export function includeOf(request: Request): string[] {
  const { searchParams } = new URL(request.url);
  const asked = [...searchParams].flatMap(([name, value]) =>
    /^include(?:\[\d*\])?$/.test(name) ? [value] : [],
  );
  checkInclude(asked);
  return asked;
}
