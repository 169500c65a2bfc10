import type { CallLimits, Clock, UpstreamFailure } from "../core/ports.ts";

/** The end of one call, by its time limit or by its caller. Everything done for the call shares it. */
export type Deadline = {
  signal: AbortSignal;
  /** Why it is over. Null: it is not. */
  ended: () => UpstreamFailure | null;
  /** Resolves when it is over. */
  over: Promise<void>;
  timeoutMs: number;
  /** However much progress there is. */
  longestMs: number;
  /** There was progress: the time limit counts from now, as far as `longestMs` goes. */
  extend: () => void;
  /** Ends it as a cancellation. */
  cancel: (message: string) => void;
  /** The call is done: lets go of the timer and the caller's signal. */
  stop: () => void;
};

export function startDeadline(
  clock: Clock,
  { timeoutMs, signal: caller, progress = null }: CallLimits,
): Deadline {
  const controller = new AbortController();
  const timer = new AbortController();
  const { promise: over, resolve } = Promise.withResolvers<void>();
  const longestMs = Math.max(timeoutMs, progress?.longestMs ?? 0);
  const lastAt = clock.now() + longestMs;
  let extendedTo: number | null = null;
  let why: UpstreamFailure | null = null;

  const end = (failure: UpstreamFailure) => {
    if (why || timer.signal.aborted) return;
    why = failure;
    controller.abort();
    resolve();
    stop();
  };
  const cancel = (message: string) => end({ kind: "cancelled", message });
  const onAbort = () => cancel("The call was cancelled.");
  const stop = () => {
    // A reason of our own: the default one is a DOMException with its stack, made for every call.
    timer.abort("stopped");
    caller.removeEventListener("abort", onAbort);
  };

  const watch = async () => {
    await clock.sleep(timeoutMs, timer.signal);
    while (extendedTo !== null && extendedTo > clock.now() && !timer.signal.aborted) {
      await clock.sleep(extendedTo - clock.now(), timer.signal);
    }
    end({ kind: "timeout", message: messageOf({ timeoutMs, longestMs, extendedTo, lastAt }) });
  };
  void watch();
  caller.addEventListener("abort", onAbort, { once: true });
  if (caller.aborted) onAbort();
  const extend = () => {
    extendedTo = Math.min(clock.now() + timeoutMs, lastAt);
  };
  return { signal: controller.signal, ended: () => why, over, timeoutMs, longestMs, extend, cancel, stop };
}

function messageOf(times: {
  timeoutMs: number;
  longestMs: number;
  extendedTo: number | null;
  lastAt: number;
}): string {
  const { timeoutMs, longestMs, extendedTo, lastAt } = times;
  if (extendedTo === null) return `The server did not finish within ${timeoutMs} ms.`;
  if (extendedTo < lastAt) return `The server told no progress for ${timeoutMs} ms.`;
  return `The server did not finish within ${longestMs} ms, the most that a call may take.`;
}
