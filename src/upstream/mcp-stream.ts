import { type EgressAnswer, EgressError } from "./egress.ts";
import type { Deadline } from "./mcp-deadline.ts";
import type { Ask, Outside } from "./mcp-exchange.ts";
import { failed, notMcp, thrown, type Failed } from "./mcp-failures.ts";
import { isTaken, mediaTypeOf, request } from "./mcp-http.ts";
import {
  LINGER_MS,
  MAX_AWAY,
  MAX_EVENT_LINES,
  MAX_RESUMES,
  MAX_STREAM_MESSAGES,
  RESUME_WAIT_MS,
} from "./mcp-limits.ts";
import { parseJson, readMessage, type RpcAnswer } from "./mcp-message.ts";
import { createSseReader, type SseBlock } from "./mcp-sse.ts";

type Answered = { ok: true; answer: RpcAnswer };
/** `bytes`: what was read for it, over all interruptions. */
type Followed = Answered & { bytes: number };
/** `isAway`: it may be back at the next try. */
type Resumed = { ok: true; response: EgressAnswer } | { ok: false; failed: Failed; isAway: boolean };
/** What is known of a stream across its interruptions. */
type Progress = { lastEventId: string | null; retryMs: number | null; messages: number; bytes: number };

/**
 * Reads a stream until the answer to the request comes. Where the revision allows and the server gave event ids, a
 * stream that broke off is taken up again (2025-11-25, "Resumability and Redelivery"), also from a server that is away for
 * a moment; the request itself is never made again.
 */
export async function followStream(
  outside: Outside,
  { ask, response }: { ask: Ask; response: EgressAnswer },
): Promise<Followed | Failed> {
  const progress: Progress = { lastEventId: null, retryMs: null, messages: 0, bytes: 0 };
  let stream: EgressAnswer | null = response;
  let away = 0;
  for (let resumes = 0; ; resumes++) {
    const read = stream ? await readStream(outside, { ask, stream, progress }) : "broken";
    if (read !== "broken") return read.ok ? { ...read, bytes: progress.bytes } : read;
    const { lastEventId } = progress;
    if (!ask.resumable || lastEventId === null || resumes === MAX_RESUMES) return CLOSED;
    const again = await resume(outside, { ask, lastEventId, progress });
    if (!again.ok && (!again.isAway || ++away === MAX_AWAY)) return again.failed;
    if (again.ok) away = 0;
    stream = again.ok ? again.response : null;
  }
}

async function readStream(
  outside: Outside,
  { ask, stream, progress }: { ask: Ask; stream: EgressAnswer; progress: Progress },
): Promise<Answered | Failed | "broken"> {
  const reader = stream.stream()?.getReader();
  if (!reader) return "broken";
  const decoder = new TextDecoder();
  const events = createSseReader();
  let answered = false;
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      progress.bytes += next.value.byteLength;
      if (progress.bytes > ask.maxBytes) return tooLarge(`more than ${ask.maxBytes} bytes`);
      const chunk = decoder.decode(next.value, { stream: true });
      for (const block of events.read(chunk)) {
        const found = take(block, { ask, progress });
        if (!found) continue;
        answered = found.ok;
        return found;
      }
      if (events.unfinished() > MAX_EVENT_LINES)
        return tooLarge(`more than ${MAX_EVENT_LINES} lines in one event`);
    }
    return "broken";
  } catch (error) {
    const lost = !ask.deadline.ended() && (!(error instanceof EgressError) || error.reason === "closed");
    return lost ? "broken" : thrown(error, { deadline: ask.deadline, sent: true });
  } finally {
    if (answered) void outside.asides.run((deadline) => drain(reader, deadline), LINGER_MS);
    else reader.cancel().catch(() => {});
  }
}

/** Null: read on. */
function take(
  block: SseBlock,
  { ask, progress }: { ask: Ask; progress: Progress },
): Answered | Failed | null {
  progress.lastEventId = block.id ?? progress.lastEventId;
  progress.retryMs = block.retryMs ?? progress.retryMs;
  if (block.data === null || block.data === "" || block.type !== "message") return null;
  if (++progress.messages > MAX_STREAM_MESSAGES) return tooLarge(`more than ${MAX_STREAM_MESSAGES} messages`);
  const parsed = parseJson(block.data);
  // Revision 2025-03-26 lets a server send batches.
  for (const message of Array.isArray(parsed) ? parsed : [parsed]) {
    const heard = readMessage(message, ask.message);
    if (heard.kind === "answer") return { ok: true, answer: heard.answer };
    if (heard.kind === "bad") return notMcp(`The server answered with ${heard.why}.`);
    if (heard.kind === "request") ask.onRequest(heard);
    if (heard.kind === "notification") ask.onNotification(heard);
  }
  return null;
}

async function resume(
  outside: Outside,
  { ask, lastEventId, progress }: { ask: Ask; lastEventId: string; progress: Progress },
): Promise<Resumed> {
  const { usual, least, most } = RESUME_WAIT_MS;
  const waitMs = Math.min(Math.max(progress.retryMs ?? usual, least), most);
  await outside.clock.sleep(waitMs, ask.deadline.signal);
  const ended = ask.deadline.ended();
  if (ended) return { ok: false, failed: failed(ended, { sent: true }), isAway: false };
  const sent = await request(outside.egress, {
    access: ask.access,
    method: "GET",
    headers: { ...ask.headers, accept: "text/event-stream", "last-event-id": lastEventId },
    body: null,
    deadline: ask.deadline,
    maxBytes: ask.maxBytes,
  });
  // Whatever became of the taking up: the request itself was sent.
  if (!sent.ok) {
    return { ok: false, failed: { ...sent, sent: true }, isAway: sent.failure.kind === "unreachable" };
  }
  const { response } = sent;
  if (isTaken(response) && mediaTypeOf(response) === "text/event-stream") return sent;
  response.discard();
  return { ok: false, failed: CLOSED, isAway: AWAY.includes(response.status) };
}

/** Most servers end the stream right after the answer: waiting for that keeps the connection, giving up closes it. */
async function drain(reader: ReadableStreamDefaultReader<Uint8Array>, { signal }: Deadline): Promise<void> {
  signal.addEventListener("abort", () => void reader.cancel().catch(() => {}), { once: true });
  let next = await reader.read();
  while (!next.done) next = await reader.read();
}

const tooLarge = (what: string) =>
  failed({ kind: "too_large", message: `The server answered with ${what}.` }, { sent: true });

const AWAY = [429, 502, 503, 504];

const CLOSED = failed(
  { kind: "unreachable", reason: "closed", message: "The server ended its answer before it was complete." },
  { sent: true },
);
