import { createDepthGauge } from "./egress-depth.ts";
import { toEgressError } from "./egress-errors.ts";
import { EgressError, type EgressLimits, type EgressReason } from "./egress.ts";

/** What bounds one call from its start to its last byte: the caller's signal, the total time, the silence. */
export type Watch = {
  url: URL;
  limits: EgressLimits;
  /** Aborts when the call must end; the reason is what the caller is to see. */
  signal: AbortSignal;
  /** Begins to count silence anew. */
  expectBytes: () => void;
  /** Nobody waits for bytes now. */
  calm: () => void;
  failure: (reason: EgressReason, what: string) => EgressError;
  abort: (reason: unknown) => void;
  /** The call is over and all is well. */
  finish: () => void;
  /** The call is over: gives up the connection and gives the error that the caller is to see. */
  giveUp: (error: unknown) => unknown;
};

export function startWatch(call: {
  url: URL;
  limits: EgressLimits;
  callerSignal: AbortSignal | null;
  watches: Set<Watch>;
}): Watch {
  const { url, limits, callerSignal, watches } = call;
  const controller = new AbortController();
  const { signal } = controller;
  const failure = (reason: EgressReason, what: string) => new EgressError(reason, `${url.host} ${what}.`);
  const abort = (reason: unknown) => {
    finish();
    controller.abort(reason);
  };
  const abortWithCaller = () => abort(callerSignal?.reason);
  const expire = (ms: number, what: string) =>
    setTimeout(() => abort(failure("timeout", `${what} ${ms} ms`)), ms);

  let silence: ReturnType<typeof setTimeout> | undefined;
  const calm = () => clearTimeout(silence);
  const expectBytes = () => {
    calm();
    silence = expire(limits.idleMs, "was silent for");
  };
  const total = limits.totalMs === null ? undefined : expire(limits.totalMs, "did not finish within");

  const finish = () => {
    clearTimeout(total);
    calm();
    callerSignal?.removeEventListener("abort", abortWithCaller);
    watches.delete(watch);
  };
  const giveUp = (error: unknown): unknown => {
    if (!signal.aborted) abort(toEgressError(error, { url, phase: "answer" }));
    return signal.reason;
  };

  const watch = { url, limits, signal, expectBytes, calm, failure, abort, finish, giveUp };
  watches.add(watch);
  if (callerSignal?.aborted) abortWithCaller();
  else callerSignal?.addEventListener("abort", abortWithCaller, { once: true });
  if (limits.totalMs === null && !signal.aborted) expectBytes();
  return watch;
}

/** Gives the next bytes of a body, and null at its end. Rejects at the first limit, with what the caller is to see. */
export type ReadChunk = () => Promise<Uint8Array | null>;

/** A body that ends at the first limit. It takes from `body` only when it is read itself. */
export function limitBody(
  body: AsyncIterable<Uint8Array>,
  { watch, contentType }: { watch: Watch; contentType: string | null },
): ReadChunk {
  const { limits } = watch;
  const iterator = body[Symbol.asyncIterator]();
  const gauge = createDepthGauge(contentType, limits.maxDepth);
  let bytes = 0;
  const nextChunk = async (): Promise<Uint8Array | null> => {
    watch.expectBytes();
    const next = await iterator.next();
    watch.calm();
    if (next.done) return null;
    bytes += next.value.byteLength;
    if (bytes > limits.maxBytes) throw tooLarge(watch);
    if (gauge?.feed(next.value)) {
      throw watch.failure("too_deep", `answered with JSON deeper than ${limits.maxDepth} levels`);
    }
    return next.value;
  };
  return async () => {
    try {
      const chunk = await nextChunk();
      if (chunk === null) watch.finish();
      return chunk;
    } catch (error) {
      throw watch.giveUp(error);
    }
  };
}

/** All of a body. Bytes are copied as they come: a piece of one byte that is kept for itself takes a hundred of memory. */
export async function wholeOf(read: ReadChunk): Promise<Uint8Array> {
  const first = (await read()) ?? new Uint8Array();
  let chunk = await read();
  if (!chunk) return first;
  let whole = new Uint8Array(Math.max(first.byteLength * 2, MIN_WHOLE_BYTES));
  whole.set(first);
  let length = first.byteLength;
  for (; chunk; chunk = await read()) {
    const needed = length + chunk.byteLength;
    if (needed > whole.byteLength) {
      const larger = new Uint8Array(Math.max(needed, whole.byteLength * 2));
      larger.set(whole.subarray(0, length));
      whole = larger;
    }
    whole.set(chunk, length);
    length = needed;
  }
  return whole.subarray(0, length);
}

const MIN_WHOLE_BYTES = 16 * 1024;

export function streamOf(read: ReadChunk, watch: Watch): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const chunk = await read();
        if (chunk) controller.enqueue(chunk);
        else controller.close();
      },
      cancel: (reason) => watch.abort(reason),
    },
    { highWaterMark: 0 },
  );
}

export function tooLarge({ failure, limits }: Watch): EgressError {
  return failure("too_large", `answered with more than ${limits.maxBytes} bytes`);
}
