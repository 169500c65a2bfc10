import { keepNothing, type Keep } from "../core/keep.ts";
import { createEgress, type InboundAnswer, type OutboundBody, type OutboundRequest } from "./egress-call.ts";
import type { EgressRules } from "./egress-rules.ts";
import { EgressError, type Egress } from "./egress.ts";

/**
 * The way out where a runtime has nothing but `fetch`. Nobody sees the address that a name leads to, so only hosts that the operator has
 * named are called (`onlyNamed`), and nobody can tell how far a call had come that failed: it may have been sent.
 */
export function createWebEgress(
  options: Pick<EgressRules, "allow" | "own"> & { maxHeaderBytes?: number; keep?: Keep },
): Egress {
  const { allow, own, maxHeaderBytes = 32_768, keep = keepNothing } = options;
  return createEgress({
    rules: { allow, own, onlyNamed: true },
    send: (request) => send(request, { maxHeaderBytes, keep }),
    // What is under way has been ended; sockets are the runtime's.
    close: async () => {},
  });
}

type How = { maxHeaderBytes: number; keep: Keep };

async function send(request: OutboundRequest, how: How): Promise<InboundAnswer> {
  const { url, method, headers, signal } = request;
  if (FORBIDDEN.some((name) => headers.has(name)) || method === "CONNECT" || method === "TRACE")
    throw new EgressError("refused", `The request to ${url.host} has headers that cannot be sent.`);
  // It is the runtime's to say, from the body itself.
  headers.delete("content-length");
  if (!headers.has("user-agent")) headers.set("user-agent", "consentry");
  const response = await how.keep(
    unlessAborted(signal, fetch(url, initOf(request))).catch((error: unknown) => {
      throw signal.aborted ? signal.reason : brokenOff(url, error);
    }),
  );
  const { status, body } = response;
  const received = { status, headers: new Headers(response.headers), discard: () => letGo(body) };
  if (bytesOf(received.headers) > how.maxHeaderBytes) {
    letGo(body);
    throw new EgressError("too_large", `The headers of the answer of ${url.host} are too large.`);
  }
  // The runtime has taken the coding off; what the headers say is of before.
  if (received.headers.has("content-encoding")) {
    received.headers.delete("content-encoding");
    received.headers.delete("content-length");
  }
  const isEmpty =
    method === "HEAD" || BODILESS.includes(status) || received.headers.get("content-length") === "0";
  if (isEmpty) letGo(body);
  return { ...received, body: isEmpty || !body ? null : chunksOf(body, { url, signal, keep: how.keep }) };
}

function initOf({ method, headers, body, signal }: OutboundRequest): RequestInit {
  const init = { method, headers, signal, redirect: "manual", body: bodyOf(body) } as const;
  // Node's fetch takes a stream only with this word (Fetch, RequestDuplex); the others do not know it.
  return { ...init, duplex: "half" } as RequestInit;
}

function bodyOf(body: OutboundBody): BodyInit | null {
  if (body === null || typeof body === "string") return body;
  // Whose bytes they are matters to the compiler alone.
  if (body instanceof Uint8Array) return body as Uint8Array<ArrayBuffer>;
  const iterator = body[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      const next = await iterator.next();
      if (next.done) controller.close();
      else controller.enqueue(next.value);
    },
    cancel: async () => {
      await iterator.return?.();
    },
  });
}

async function* chunksOf(
  body: ReadableStream<Uint8Array>,
  { url, signal, keep }: { url: URL; signal: AbortSignal; keep: Keep },
): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  try {
    for (;;) {
      const next = await keep(unlessAborted(signal, reader.read()));
      if (next.done) return;
      yield next.value;
    }
  } catch (error) {
    throw signal.aborted ? signal.reason : brokenOff(url, error);
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Rejects at once when the signal aborts, whatever the runtime makes of that. */
function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

/** A body that nobody reads. Whether that can be said to its sender is nobody's concern. */
function letGo(body: ReadableStream<Uint8Array> | null): void {
  if (body && !body.locked) body.cancel().catch(() => {});
}

/** Runtimes tell their faults apart by words alone, so it may be that the request was sent. */
function brokenOff({ host }: URL, cause: unknown): EgressError {
  if (cause instanceof EgressError) return cause;
  const message = `${host} could not be reached, or closed the connection before the answer was complete.`;
  return new EgressError("closed", message, { cause });
}

function bytesOf(headers: Headers): number {
  return [...headers].reduce((sum, [name, value]) => sum + name.length + value.length + LINE_BYTES, 0);
}

/** `: ` and the end of the line. */
const LINE_BYTES = 4;
/** Of the connection, not of the message (RFC 9110, 7.6.1): they would mean something to whoever carries it. */
const FORBIDDEN = ["connection", "transfer-encoding", "keep-alive", "upgrade", "expect", "te", "trailer"];
const BODILESS = [204, 205, 304];
