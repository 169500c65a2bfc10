import type { IncomingHttpHeaders } from "node:http";
import type { Agent, Dispatcher } from "undici";

/** An answer's head, and its body as it comes. */
export type Received = { status: number; headers: IncomingHttpHeaders; body: Inbound };

/** Bytes as they come, for one reader. Rejects with what ended the exchange; who stops early gives the connection up. */
export type Inbound = AsyncIterableIterator<Uint8Array> & {
  /** Nobody reads it. Never fails. */
  discard: () => void;
};

/**
 * One request by undici's dispatcher itself. Its `request` makes a stream of Node's of every answer, which costs more than sending and
 * parsing together; here small answers pass as they came.
 *
 * Rejects at once when the signal aborts; undici alone would wait until a connection under way stands.
 */
export function dispatch(
  agent: Agent,
  options: Dispatcher.DispatchOptions & { origin: string; signal: AbortSignal },
): Promise<Received> {
  const { signal, ...request } = options;
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    let body: InboundQueue | null = null;
    let control: Dispatcher.DispatchController | null = null;
    const over = (fault: Error | null) => {
      signal.removeEventListener("abort", abort);
      if (body) body.end(fault);
      else reject(fault ?? new Error("the exchange ended before its answer"));
    };
    const abort = () => {
      const reason: Error = signal.reason ?? new Error("aborted");
      over(reason);
      control?.abort(reason);
    };
    signal.addEventListener("abort", abort, { once: true });
    agent.dispatch(request, {
      onRequestStart: (controller) => {
        control = controller;
        if (signal.aborted) controller.abort(signal.reason);
      },
      onResponseStart: (controller, status, headers) => {
        // Before the answer itself (RFC 9110, 15.2).
        if (status < 200) return;
        body = createQueue(controller);
        resolve({ status, headers, body: body.inbound });
      },
      onResponseData: (_, chunk) => body?.push(chunk),
      onResponseEnd: () => over(null),
      onResponseError: (_, fault) => over(fault),
    });
  });
}

type InboundQueue = {
  inbound: Inbound;
  push: (chunk: Uint8Array) => void;
  /** Null: it is whole. */
  end: (fault: Error | null) => void;
};

/** What waits for its reader; beyond that the sender is not read. */
const MAX_WAITING_BYTES = 64 * 1024;
/** What a piece takes beside its bytes. */
const PIECE_BYTES = 128;

function createQueue(controller: Dispatcher.DispatchController): InboundQueue {
  let chunks: Uint8Array[] = [];
  // The first that waits; to take pieces off the front of a long list would move all others each time.
  let first = 0;
  let waiting = 0;
  let ended: { fault: Error | null } | null = null;
  let reader: PromiseWithResolvers<IteratorResult<Uint8Array>> | null = null;
  let isLeft = false;

  const forget = () => {
    chunks = [];
    first = 0;
    waiting = 0;
  };
  const step = (): Promise<IteratorResult<Uint8Array>> | null => {
    const chunk = chunks[first];
    if (chunk) {
      first++;
      if (first === chunks.length) forget();
      else waiting -= chunk.byteLength + PIECE_BYTES;
      if (controller.paused && waiting < MAX_WAITING_BYTES) controller.resume();
      return Promise.resolve({ done: false, value: chunk });
    }
    if (!ended) return null;
    return ended.fault ? Promise.reject(ended.fault) : Promise.resolve(DONE);
  };
  const discard = () => {
    isLeft = true;
    forget();
    if (!ended) controller.abort(new Error("nobody reads the answer"));
  };

  const inbound: Inbound = {
    next: () => {
      const now = step();
      if (now) return now;
      reader = Promise.withResolvers();
      return reader.promise;
    },
    return: async () => {
      discard();
      return DONE;
    },
    discard,
    [Symbol.asyncIterator]: () => inbound,
  };
  return {
    inbound,
    push: (chunk) => {
      if (isLeft) return;
      if (reader) {
        reader.resolve({ done: false, value: chunk });
        reader = null;
        return;
      }
      chunks.push(chunk);
      waiting += chunk.byteLength + PIECE_BYTES;
      if (waiting >= MAX_WAITING_BYTES) controller.pause();
    },
    end: (fault) => {
      if (ended) return;
      ended = { fault };
      // What is broken off is not read to where it broke.
      if (fault) forget();
      if (fault) reader?.reject(fault);
      else reader?.resolve(DONE);
      reader = null;
    },
  };
}

const DONE = { done: true, value: undefined } as const;
