import type { JsonObject } from "../core/json.ts";
import type { Clock, UpstreamAccess } from "../core/ports.ts";
import type { Egress, EgressAnswer } from "./egress.ts";
import type { Asides } from "./mcp-asides.ts";
import type { Deadline } from "./mcp-deadline.ts";
import { challengeOf } from "./mcp-challenge.ts";
import { echoes, failed, notMcp, thrown, visible, type Failed } from "./mcp-failures.ts";
import { isTaken, mediaTypeOf, request, type HttpRequest } from "./mcp-http.ts";
import { COURTESY_MS } from "./mcp-limits.ts";
import { followStream } from "./mcp-stream.ts";
import {
  namesRequest,
  parseJson,
  readMessage,
  type RpcAnswer,
  type RpcNotification,
  type RpcReply,
  type RpcRequest,
} from "./mcp-message.ts";

/** What an exchange needs of the outside. */
export type Outside = { egress: Egress; clock: Clock; asides: Asides };

/** One request on its way: what to send, to whom, with which of the protocol's headers, and for how long. */
export type Ask = {
  access: UpstreamAccess;
  headers: Record<string, string>;
  message: RpcRequest;
  deadline: Deadline;
  /** Of the answer, after decompression, over all interruptions of its stream. */
  maxBytes: number;
  /** Whether a stream that breaks off may be taken up again: the older revisions can, 2026-07-28 cannot. */
  resumable: boolean;
  /** A request that the server makes of us while it answers. */
  onRequest: (request: { id: string | number; method: string; params: JsonObject }) => void;
  /** What the server says in a stream beside its answer, before it. */
  onNotification: (notification: { method: string; params: JsonObject }) => void;
};

/** `bytes`: how long the answer was, after decompression. */
export type Exchanged = { ok: true; answer: RpcAnswer; status: number; head: Headers; bytes: number };

/**
 * Posts one JSON-RPC request and reads the answer to it, as JSON or as a stream (Streamable HTTP, "Sending Messages to
 * the Server"). Never throws; what comes is either the answer that names this request, or why there is none.
 */
export async function exchange(outside: Outside, ask: Ask): Promise<Exchanged | Failed> {
  const { access, maxBytes } = ask;
  const sent = await request(outside.egress, { ...post(ask, ask.message), maxBytes });
  if (!sent.ok) return sent;
  const { response } = sent;
  if (!isTaken(response)) return turnedAway(response, ask);
  const type = mediaTypeOf(response);
  const { status, headers: head } = response;
  if (type === "text/event-stream") {
    const followed = await followStream(outside, { ask, response });
    return followed.ok ? { ...followed, status, head } : followed;
  }
  if (type !== "application/json") {
    response.discard();
    return notMcp(
      NAMED_TYPE.test(type)
        ? `The server answered with ${visible(type, access)}, which is not MCP.`
        : "The server took the request but did not answer it.",
    );
  }
  const read = await textOf(response, ask.deadline);
  if (!read.ok) return read;
  const { text, bytes } = read;
  const parsed = parseJson(text);
  if (parsed === undefined) return notMcp("The server answered with something that is not JSON.");
  // Revision 2025-03-26 lets a server answer with a batch.
  for (const message of Array.isArray(parsed) ? parsed : [parsed]) {
    const heard = readMessage(message, ask.message);
    if (heard.kind === "answer") return { ok: true, answer: heard.answer, status, head, bytes };
    if (heard.kind === "bad") return notMcp(`The server answered with ${heard.why}.`);
  }
  return notMcp("The server took the request but did not answer it.");
}

/** Posts a notification, or a reply to a server's own request. Null: the server took it. */
export async function tell(
  outside: Outside,
  ask: Pick<Ask, "access" | "headers" | "deadline">,
  message: RpcNotification | RpcReply,
): Promise<Failed | null> {
  const sent = await request(outside.egress, post(ask, message));
  if (!sent.ok) return sent;
  sent.response.discard();
  return isTaken(sent.response) ? null : refusal(sent.response, ask.access);
}

/** Tells a server that a session is over (2025-11-25, "Session Management"): resolves within a bound, whatever it answers. */
export function endSession(
  outside: Outside,
  { access, headers }: { access: UpstreamAccess; headers: Record<string, string> },
): Promise<void> {
  return outside.asides.run(async (deadline) => {
    const sent = await request(outside.egress, { access, method: "DELETE", headers, body: null, deadline });
    if (sent.ok) sent.response.discard();
  }, COURTESY_MS);
}

function post(ask: Pick<Ask, "access" | "headers" | "deadline">, message: object): HttpRequest {
  return {
    access: ask.access,
    method: "POST",
    headers: {
      ...ask.headers,
      accept: "application/json, text/event-stream",
      "content-type": "application/json",
    },
    body: JSON.stringify(message),
    deadline: ask.deadline,
  };
}

/**
 * An answer that is not 2xx. A JSON-RPC error that names our request is the server's answer to it (2026-07-28 sends
 * those with 400 and 404); anything else means that the message was not taken up.
 */
async function turnedAway(response: EgressAnswer, ask: Ask): Promise<Exchanged | Failed> {
  const { status } = response;
  if (status < 400 || status >= 500 || BARE.includes(status)) {
    response.discard();
    return refusal(response, ask.access);
  }
  const read = await textOf(response, ask.deadline);
  if (!read.ok) return read.failure.kind === "cancelled" ? read : refusal(response, ask.access);
  const { text, bytes } = read;
  const parsed = parseJson(text);
  const heard = readMessage(parsed, ask.message);
  const error = heard.kind === "answer" && heard.answer.kind === "error" ? heard.answer.error : null;
  if (error && namesRequest(parsed, ask.message)) {
    return { ok: true, answer: { kind: "error", error }, status, head: response.headers, bytes };
  }
  const words = error?.message ? visible(error.message, ask.access) : null;
  return { ...refusal(response, ask.access, words), unread: error ? "rpc" : "http", body: text };
}

function refusal(
  { status, headers }: EgressAnswer,
  access: UpstreamAccess,
  words: string | null = null,
): Failed {
  const message = `The server answered with HTTP ${status}${words ? `: ${words}` : "."}`;
  const asked = status === 401 || status === 403 ? headers.get("www-authenticate") : null;
  const challenge = challengeOf(asked, (value) => echoes(value, access));
  return failed({ kind: "http", status, message, challenge }, { sent: true });
}

async function textOf(
  response: EgressAnswer,
  deadline: Deadline,
): Promise<{ ok: true; text: string; bytes: number } | Failed> {
  try {
    const body = await response.bytes();
    return { ok: true, text: new TextDecoder().decode(body), bytes: body.byteLength };
  } catch (error) {
    return thrown(error, { deadline, sent: true });
  }
}

// Said about the HTTP request, whatever the body says.
const BARE = [401, 403, 407, 408, 429];
const NAMED_TYPE = /^[a-z0-9][a-z0-9.+-]{0,60}\/[a-z0-9][a-z0-9.+-]{0,60}$/;
