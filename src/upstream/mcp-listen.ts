import { isJsonObject, type JsonObject } from "../core/json.ts";
import type { UpstreamAccess } from "../core/ports.ts";
import type { EgressAnswer } from "./egress.ts";
import { replyTo, type Answering } from "./mcp-answering.ts";
import { TOOLS_CHANGED, type Changes } from "./mcp-changes.ts";
import { startDeadline, type Deadline } from "./mcp-deadline.ts";
import { tell, type Outside } from "./mcp-exchange.ts";
import { isTaken, mediaTypeOf, request } from "./mcp-http.ts";
import { lineHeaders, type LegacyLine } from "./mcp-line.ts";
import {
  COURTESY_MS,
  LISTEN_HEAD_MS,
  MAX_EVENT_LINES,
  MAX_SERVER_REQUESTS,
  SESSION_IDLE_MS,
} from "./mcp-limits.ts";
import { parseJson, readMessage, type RpcRequest } from "./mcp-message.ts";
import { createSseReader } from "./mcp-sse.ts";

/**
 * Standing streams of sessions (2025-11-25, "Listening for Messages from the Server"): some servers ask their questions
 * there instead of in the answer that they belong to. One for each session whose client has declared that it answers,
 * from its first request on, for as long as the session is used; never for others.
 */
export type Listeners = {
  /** Resolves when the server has said whether it has such a stream, or soon after. Never rejects. */
  ensure: (
    to: { access: UpstreamAccess; line: LegacyLine; answering: Answering },
    deadline: Deadline,
  ) => Promise<void>;
  stop: (line: LegacyLine) => void;
  close: () => void;
};

type Listener = { opened: Promise<void>; stop: () => void };

export function createListeners(outside: Outside, changes: Changes): Listeners {
  const listening = new Map<LegacyLine, Listener>();

  function listen(access: UpstreamAccess, line: LegacyLine, answering: Answering): Listener {
    const stopped = new AbortController();
    const deadline = startDeadline(outside.clock, { timeoutMs: SESSION_IDLE_MS, signal: stopped.signal });
    const answered = createAnswerer(outside, { access, line, answering, deadline, changes });
    const open = async () => {
      const headers = { ...lineHeaders(line), accept: "text/event-stream" };
      const sent = await request(outside.egress, { access, method: "GET", headers, body: null, deadline });
      // Not asked, so perhaps the next request can.
      if (!sent.ok) return leave();
      const { response } = sent;
      // 405: it has no such stream.
      if (!isTaken(response) || mediaTypeOf(response) !== "text/event-stream") return response.discard();
      void hear(response, answered).finally(leave);
    };
    const leave = () => {
      deadline.stop();
      stopped.abort();
      if (listening.get(line) === listener) listening.delete(line);
    };
    const listener: Listener = { opened: open(), stop: leave };
    listening.set(line, listener);
    return listener;
  }

  return {
    ensure: async ({ access, line, answering }, deadline) => {
      if (line.session === null || Object.keys(answering.capabilities).length === 0) return;
      const { opened } = listening.get(line) ?? listen(access, line, answering);
      const waited = new AbortController();
      await Promise.race([opened, deadline.over, outside.clock.sleep(LISTEN_HEAD_MS, waited.signal)]);
      waited.abort();
    },
    stop: (line) => listening.get(line)?.stop(),
    close: () => {
      for (const { stop } of listening.values()) stop();
    },
  };
}

/** Notes that tools changed, and answers what a stream asks, so many at once and no more. */
function createAnswerer(
  outside: Outside,
  to: {
    access: UpstreamAccess;
    line: LegacyLine;
    answering: Answering;
    deadline: Deadline;
    changes: Changes;
  },
): (message: JsonObject) => void {
  const { access, line, answering, deadline, changes } = to;
  let asked = 0;
  return (message) => {
    const heard = readMessage(message, NOTHING_ASKED);
    if (heard.kind === "notification" && heard.method === TOOLS_CHANGED) changes.note(access.url);
    if (heard.kind !== "request" || asked >= MAX_SERVER_REQUESTS) return;
    asked++;
    void replyTo(heard, { answering, signal: deadline.signal }).then((reply) => {
      asked--;
      if (deadline.ended()) return;
      const headers = lineHeaders(line);
      void outside.asides.run(
        (aside) => tell(outside, { access, headers, deadline: aside }, reply),
        COURTESY_MS,
      );
    });
  };
}

/** Reads a stream to its end, however that comes. */
export async function hear(response: EgressAnswer, onMessage: (message: JsonObject) => void): Promise<void> {
  const reader = response.stream()?.getReader();
  if (!reader) return;
  const decoder = new TextDecoder();
  const events = createSseReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      for (const block of events.read(decoder.decode(next.value, { stream: true }))) {
        const parsed = block.type === "message" && block.data ? parseJson(block.data) : undefined;
        for (const message of Array.isArray(parsed) ? parsed : [parsed]) {
          if (isJsonObject(message)) onMessage(message);
        }
      }
      if (events.unfinished() > MAX_EVENT_LINES) break;
    }
  } catch {
    // It broke off, or was ended: the next request opens another.
  } finally {
    reader.cancel().catch(() => {});
  }
}

// A standing stream answers no request.
const NOTHING_ASKED: RpcRequest = { jsonrpc: "2.0", id: "", method: "" };
