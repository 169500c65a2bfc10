import type { CallLimits, Clock, UpstreamFailure } from "../core/ports.ts";

/** The end of one call, by its time limit or by its caller. Everything done for the call shares it. */
export type Deadline = {
  signal: AbortSignal;
  /** Why it is over. Null: it is not. */
  ended: () => UpstreamFailure | null;
  /** Resolves when it is over. */
  over: Promise<void>;
  timeoutMs: number;
  /** Ends it as a cancellation. */
  cancel: (message: string) => void;
  /** The call is done: lets go of the timer and the caller's signal. */
  stop: () => void;
};

export function startDeadline(clock: Clock, { timeoutMs, signal: caller }: CallLimits): Deadline {
  const controller = new AbortController();
  const timer = new AbortController();
  const { promise: over, resolve } = Promise.withResolvers<void>();
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

  void clock.sleep(timeoutMs, timer.signal).then(() => {
    end({ kind: "timeout", message: `The server did not finish within ${timeoutMs} ms.` });
  });
  caller.addEventListener("abort", onAbort, { once: true });
  if (caller.aborted) onAbort();
  return { signal: controller.signal, ended: () => why, over, timeoutMs, cancel, stop };
}
