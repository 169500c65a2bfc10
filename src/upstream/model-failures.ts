import OpenAI from "openai";
import { BrokerError } from "../core/errors.ts";
import { isJsonObject } from "../core/json.ts";
import type { Usage } from "../core/request.ts";
import { EgressError } from "./egress.ts";

const MAX_MESSAGE_CHARS = 500;
/** Calls of one answer. Reading them takes time that grows with their square, and nobody else has a turn meanwhile. */
const MAX_CALLS = 512;

/** Throws `model_failed` for a call beyond those that an answer may have. `before`: how many it has. */
export function checkCallCount(before: number): void {
  if (before >= MAX_CALLS) throw modelFailed(`called more than ${MAX_CALLS} tools at once`);
}

/** A limit of ours or a broken stream: `what` ends a sentence about the upstream. */
export function modelFailed(what: string, options?: { cause?: unknown }): BrokerError<"model_failed"> {
  return new BrokerError(
    "model_failed",
    { status: null, message: `the model upstream ${what}`, code: null },
    options,
  );
}

/**
 * What the `openai` package throws, as the broker's refusal. What the upstream says about its error is passed on,
 * shortened and without the broker's key: it is what tells a wrong model name from a full context. What it says to
 * status 401 is about our key and is not.
 */
export function modelFailure(error: unknown, apiKey: string | null): BrokerError<"model_failed"> {
  // Its own message quotes what it could not read.
  if (error instanceof SyntaxError) return modelFailed("sent an event that is not JSON");
  const egress = causes(error).find((cause) => cause instanceof EgressError);
  if (egress) return modelFailed(`could not be called: ${egress.message}`, { cause: error });
  if (error instanceof OpenAI.APIConnectionError) {
    return modelFailed(`could not be reached${systemCode(error)}`, { cause: error });
  }
  if (error instanceof OpenAI.APIError) return answered(error, apiKey);
  return modelFailed(`broke off its answer${systemCode(error)}`, { cause: error });
}

function answered(
  error: InstanceType<typeof OpenAI.APIError>,
  apiKey: string | null,
): BrokerError<"model_failed"> {
  const status: unknown = error.status;
  if (typeof status !== "number") return saidFailure(error.error, apiKey);
  const code = codeOf(error.code, apiKey);
  const said = status === 401 ? "it refuses the broker's key" : readable(error.error, apiKey);
  const head = `the model upstream answered HTTP ${status}`;
  const message = said === "" ? head : `${head}: ${said}`;
  // Without its cause: upstreams quote what they were sent, and that is for no log.
  return new BrokerError("model_failed", { status, message, code });
}

/** What an upstream says of its own failure in the middle of a stream: `{code, message}`, and what it took until then. */
export function saidFailure(
  error: unknown,
  apiKey: string | null,
  usage: Usage | null = null,
): BrokerError<"model_failed"> {
  const said = readable(error, apiKey);
  const code = isJsonObject(error) ? codeOf(error["code"] ?? error["type"], apiKey) : null;
  const head = "the model upstream ended its answer with an error";
  const message = said === "" ? head : `${head}: ${said}`;
  const spent = usage === null ? {} : { usage };
  return new BrokerError("model_failed", { status: statusOfCode(code), message, code, ...spent });
}

/** The status that OpenAI has for a code, where an upstream that has begun to answer can give none any more. */
function statusOfCode(code: string | null): number | null {
  if (code === null) return null;
  if (code === "rate_limit_exceeded" || code === "insufficient_quota") return 429;
  return /^(invalid_|image_|empty_image|unsupported_image|context_length|failed_to_download)/.test(code) &&
    code !== "invalid_api_key"
    ? 400
    : null;
}

/** Upstreams give `{message}`, `{detail}` or bare text. Bodies that are not JSON are pages and are not passed on. */
function readable(error: unknown, apiKey: string | null): string {
  const said = isJsonObject(error) ? (error["message"] ?? error["detail"]) : error;
  if (typeof said !== "string") return "";
  const text = apiKey ? said.replaceAll(apiKey, "[key]") : said;
  const plain = text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\s]+/gu, " ").trim();
  return plain.length > MAX_MESSAGE_CHARS ? `${plain.slice(0, MAX_MESSAGE_CHARS)}…` : plain;
}

function codeOf(code: unknown, apiKey: string | null): string | null {
  if (typeof code === "number") return String(code);
  if (typeof code !== "string" || (apiKey !== null && code.includes(apiKey))) return null;
  return /^[\w.:-]{1,100}$/.test(code) ? code : null;
}

/** ` (ECONNREFUSED)`: the operating system's word, found along the causes. */
function systemCode(error: unknown): string {
  for (const at of causes(error)) {
    if ("code" in at && typeof at.code === "string" && /^[A-Z][A-Z0-9_]+$/.test(at.code))
      return ` (${at.code})`;
  }
  return "";
}

/** An error and what caused it, as deep as packages wrap. */
function causes(error: unknown): Error[] {
  const found: Error[] = [];
  for (let at: unknown = error; at instanceof Error && found.length < 5; at = at.cause) found.push(at);
  return found;
}
