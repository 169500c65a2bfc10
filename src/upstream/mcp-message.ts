import { isJsonObject, type Json, type JsonObject } from "../core/json.ts";

export type RpcRequest = { jsonrpc: "2.0"; id: string | number; method: string; params?: JsonObject };
export type RpcNotification = { jsonrpc: "2.0"; method: string; params?: JsonObject };
export type RpcReply = { jsonrpc: "2.0"; id: string | number } & (
  | { result: JsonObject }
  | { error: RpcError }
);
export type RpcError = { code: number; message: string; data?: Json };

/** The answer to a request. */
export type RpcAnswer = { kind: "result"; result: JsonObject } | { kind: "error"; error: RpcError };

/** What a server may say while it answers a request. `bad`: nothing that belongs here. */
export type Heard =
  | { kind: "answer"; answer: RpcAnswer }
  | { kind: "request"; id: string | number; method: string; params: JsonObject }
  | { kind: "notification"; method: string; params: JsonObject }
  | { kind: "bad"; why: string };

/** Text as JSON; undefined where it is none. */
export function parseJson(text: string): Json | undefined {
  try {
    // JSON.parse gives JSON and says `any`.
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

/** One message of a server, read against the request that it should answer (JSON-RPC 2.0, section 5). */
export function readMessage(message: Json | undefined, request: RpcRequest): Heard {
  if (!isJsonObject(message)) return { kind: "bad", why: "something that is not JSON-RPC" };
  if (message.jsonrpc !== "2.0") return { kind: "bad", why: "something that is not JSON-RPC 2.0" };
  const { id, method, params, result, error } = message;
  if (typeof method === "string") {
    const said = { method, params: isJsonObject(params) ? params : {} };
    if (typeof id === "string" || typeof id === "number") return { kind: "request", id, ...said };
    return { kind: "notification", ...said };
  }
  const answer = readAnswer(result, error);
  if (!answer) return { kind: "bad", why: "a JSON-RPC message without a usable result or error" };
  // An error that names no request is about ours: there is no other in this exchange.
  if (answer.kind === "error" && (id === null || id === undefined)) return { kind: "answer", answer };
  if (id !== request.id) return { kind: "bad", why: "the answer to another request" };
  return { kind: "answer", answer };
}

/** Whether the message is an answer that names the request: then the server has taken the request up. */
export function namesRequest(message: Json | undefined, request: RpcRequest): boolean {
  return isJsonObject(message) && message.id === request.id;
}

function readAnswer(result: Json | undefined, error: Json | undefined): RpcAnswer | null {
  if (isJsonObject(result)) return { kind: "result", result };
  if (!isJsonObject(error)) return null;
  const { code, message, data } = error;
  if (typeof code !== "number" || !Number.isSafeInteger(code)) return null;
  const text = typeof message === "string" ? message : "";
  return { kind: "error", error: { code, message: text, ...(data !== undefined && { data }) } };
}
