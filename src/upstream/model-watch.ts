/** How long a model may take, and how much it may say. All times in milliseconds. */
export type ModelLimits = {
  /** Until the first byte of the answer's body. */
  firstByteMs: number;
  /** The longest silence after it. */
  idleMs: number;
  /** The longest silence once the model has said that it is done: only its usage may still come. */
  lingerMs: number;
  /** From the request to the answer's last byte. */
  totalMs: number;
  /** Of the answer's body, after decompression. */
  maxBytes: number;
};

/**
 * Reasoning models think for minutes before they speak; Node's own `fetch` waits 300 s for headers, and we give up
 * before it does, so that the limit that speaks is ours.
 */
export const MODEL_LIMITS: ModelLimits = {
  firstByteMs: 240_000,
  idleMs: 120_000,
  lingerMs: 5000,
  totalMs: 900_000,
  maxBytes: 32 * 1024 * 1024,
};

/** Of an error's body; more of it is cut off. */
const MAX_ERROR_BYTES = 64 * 1024;

/** Watches one call of a model: its `signal` aborts when the caller leaves or a limit is passed. */
export type ModelWatch = {
  signal: AbortSignal;
  /** Waits for `work`; silence counts against it meanwhile, and only meanwhile. */
  during: <T>(work: Promise<T>, limits?: { idleMs: number }) => Promise<T>;
  /** The answer with its body counted: the limits on bytes hold, and every byte ends a silence. */
  guard: (answer: Response) => Response;
  /** Which limit was passed, as the end of a sentence about the upstream; null: none. */
  passed: () => string | null;
  close: () => void;
};

export function watchModel(limits: ModelLimits, caller: AbortSignal): ModelWatch {
  const own = new AbortController();
  let passed: string | null = null;
  let bytes = 0;
  let idleMs = limits.idleMs;
  let silence: ReturnType<typeof setTimeout> | undefined;

  let isWaitedFor = false;

  const stop = (why: string) => {
    passed ??= why;
    own.abort(new Error(why));
  };
  const total = setTimeout(() => stop(`took longer than ${limits.totalMs} ms`), limits.totalMs);
  const first = setTimeout(() => stop(`said nothing for ${limits.firstByteMs} ms`), limits.firstByteMs);
  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(() => stop(`was silent for ${idleMs} ms`), idleMs);
  };
  const received = (chunk: Uint8Array) => {
    clearTimeout(first);
    bytes += chunk.length;
    if (bytes > limits.maxBytes) stop(`answered more than ${limits.maxBytes} bytes`);
    else if (isWaitedFor) listen();
  };

  return {
    signal: AbortSignal.any([caller, own.signal]),
    during: async (work, given) => {
      idleMs = given?.idleMs ?? limits.idleMs;
      isWaitedFor = true;
      if (bytes > 0) listen();
      try {
        return await work;
      } finally {
        isWaitedFor = false;
        clearTimeout(silence);
      }
    },
    guard: (answer) => {
      if (!answer.body) return answer;
      const limit = answer.ok ? null : MAX_ERROR_BYTES;
      const { status, statusText, headers } = answer;
      return new Response(answer.body.pipeThrough(counted(received, limit)), { status, statusText, headers });
    },
    passed: () => passed,
    close: () => {
      for (const timer of [total, first, silence]) clearTimeout(timer);
      // Lets go of a body that nobody reads to its end.
      own.abort();
    },
  };
}

/** Passes bytes on and tells of them. `cutAfter`: the answer ends there, as if that were all. */
function counted(
  received: (chunk: Uint8Array) => void,
  cutAfter: number | null,
): TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>> {
  let seen = 0;
  return new TransformStream({
    transform: (chunk, controller) => {
      seen += chunk.length;
      received(chunk);
      controller.enqueue(chunk);
      if (cutAfter !== null && seen > cutAfter) controller.terminate();
    },
  });
}
