import { isJsonObject, type Json, type JsonObject } from "../core/json.ts";
import type { RpcReply } from "./mcp-message.ts";

/** A request that a server makes of its client: while it answers one (2025), or before it will (2026-07-28). */
export type ServerRequest = { method: string; params: JsonObject };

/** What a client can do for servers. */
export type Answering = {
  /** `ClientCapabilities`, declared in `initialize`, and with every request of 2026-07-28. */
  capabilities: JsonObject;
  /**
   * The result for a request that `capabilities` cover. Null declines it, and so does whatever is thrown. `signal` aborts
   * when nobody waits for the result any more.
   */
  answer: (request: ServerRequest, signal: AbortSignal) => Promise<JsonObject | null>;
};

/** A client that can do nothing for servers. */
export const NO_ANSWERS: Answering = { capabilities: {}, answer: async () => null };

/** The result for a server's request. Null: it is declined; what was not declared is not even asked for. */
export async function answerTo(
  answering: Answering,
  { request, signal }: { request: ServerRequest; signal: AbortSignal },
): Promise<JsonObject | null> {
  if (!isDeclared(answering, request.method)) return null;
  try {
    return await answering.answer(request, signal);
  } catch {
    return null;
  }
}

export function isDeclared({ capabilities }: Answering, method: string): boolean {
  const needed = CAPABILITY_OF.get(method);
  return needed !== undefined && isJsonObject(capabilities[needed]);
}

/** The reply to a request of the older revisions. Never rejects: it is made beside a call. */
export async function replyTo(
  { id, method, params }: ServerRequest & { id: string | number },
  { answering, signal }: { answering: Answering; signal: AbortSignal },
): Promise<RpcReply> {
  if (method === "ping") return { jsonrpc: "2.0", id, result: {} };
  const refused = (code: number, message: string): RpcReply => ({
    jsonrpc: "2.0",
    id,
    error: { code, message },
  });
  if (!isDeclared(answering, method)) {
    return refused(METHOD_NOT_FOUND, "This client answers no requests of servers that it did not declare.");
  }
  const result = await answerTo(answering, { request: { method, params }, signal });
  return result ? { jsonrpc: "2.0", id, result } : refused(DECLINED, "The client declined.");
}

/** What a server asks for in an `input_required` result. `state` goes back as it came. */
export type InputsWanted = { requests: [key: string, request: ServerRequest][]; state: string | null };

/**
 * Reads an `input_required` result (2026-07-28, "Multi Round-Trip Requests"). Null: it is none that a request of this
 * method may have, or asks for more than `most` inputs, or for nothing.
 */
export function readInputsWanted(
  { resultType, inputRequests, requestState }: JsonObject,
  { method, most }: { method: string; most: number },
): InputsWanted | null {
  if (resultType !== "input_required" || !IN_ROUNDS.has(method)) return null;
  const entries = isJsonObject(inputRequests) ? Object.entries(inputRequests) : [];
  const requests = entries.flatMap(([key, entry]) => readRequest(key, entry));
  const state = typeof requestState === "string" ? requestState : null;
  if (requests.length !== entries.length || requests.length > most) return null;
  return requests.length === 0 && state === null ? null : { requests, state };
}

/** Asks for all inputs at once. Null: one of them is not to be had, and then none is sent. */
export async function inputsFor(
  answering: Answering,
  { wanted, signal }: { wanted: InputsWanted; signal: AbortSignal },
): Promise<JsonObject | null> {
  const given = await Promise.all(
    wanted.requests.map(
      async ([key, request]) => [key, await answerTo(answering, { request, signal })] as const,
    ),
  );
  const inputs: [string, JsonObject][] = [];
  for (const [key, input] of given) {
    if (!input) return null;
    inputs.push([key, input]);
  }
  return Object.fromEntries(inputs);
}

function readRequest(key: string, entry: Json | undefined): InputsWanted["requests"] {
  if (!isJsonObject(entry) || typeof entry.method !== "string") return [];
  const params = isJsonObject(entry.params) ? entry.params : {};
  return [[key, { method: entry.method, params }]];
}

const CAPABILITY_OF = new Map([
  ["elicitation/create", "elicitation"],
  ["sampling/createMessage", "sampling"],
  ["roots/list", "roots"],
]);
const IN_ROUNDS = new Set(["tools/call", "prompts/get", "resources/read"]);
const METHOD_NOT_FOUND = -32601;
// As in the example of sampling, the one that the specification has.
const DECLINED = -1;
