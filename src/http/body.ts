import { BrokerError, invalid } from "../core/errors.ts";
import { nestsDeeperThan } from "../core/json.ts";

/** 4 MiB of UTF-8. */
export const MAX_BODY_BYTES = 4 * 1024 * 1024;
export const MAX_BODY_DEPTH = 100;

/**
 * Reads a JSON body, whatever content type it claims. An empty one is undefined: some clients send none where all
 * fields are optional.
 *
 * Throws `too_large` past 4 MiB, `invalid` for what is not UTF-8, not JSON, or nests deeper than 100.
 */
export async function readJson(request: Request): Promise<unknown> {
  const text = await readText(request, JSON_LIMIT);
  if (text.trim() === "") return undefined;
  if (nestsDeeperThan(text, MAX_BODY_DEPTH)) {
    throw invalid({ param: "", message: `The body nests deeper than ${MAX_BODY_DEPTH} levels.` });
  }
  try {
    return JSON.parse(text);
  } catch {
    throw invalid({ param: "", message: "The body is not valid JSON." });
  }
}

export type BodyLimit = { limit: number; unit: "KiB" | "MiB" };

const JSON_LIMIT: BodyLimit = { limit: MAX_BODY_BYTES / 1024 / 1024, unit: "MiB" };
const BYTES = { KiB: 1024, MiB: 1024 * 1024 };

/** Reads a body of UTF-8. Throws `too_large` past the limit, `invalid` for what is not UTF-8. */
export async function readText(request: Request, { limit, unit }: BodyLimit): Promise<string> {
  const most = limit * BYTES[unit];
  const tooLarge = () => new BrokerError("too_large", { what: "body", limit, unit });
  const declared = request.headers.get("content-length");
  if (declared !== null) {
    if (Number(declared) > most) throw tooLarge();
    // The server holds the sender to the length, so the body needs no counting; this path costs a tenth of a stream.
    return decode([new Uint8Array(await request.arrayBuffer())]);
  }
  if (request.body === null) return "";
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of request.body) {
    bytes += chunk.byteLength;
    if (bytes > most) throw tooLarge();
    chunks.push(chunk);
  }
  return decode(chunks);
}

function decode(chunks: Uint8Array[]): string {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  try {
    return chunks.map((chunk) => decoder.decode(chunk, { stream: true })).join("") + decoder.decode();
  } catch {
    throw invalid({ param: "", message: "The body is not valid UTF-8." });
  }
}
