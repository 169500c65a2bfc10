import type { TurnEvent } from "../core/request.ts";
import { writeEvents } from "./wire/events.ts";

/** While nothing happens, a comment line keeps the connection open: an event of any type would break clients. */
const HEARTBEAT_MS = 15_000;
/** So long may what was written wait for its reader. */
const PATIENCE_MS = 30_000;

/**
 * A turn as server-sent events (responses-wire 4.5): numbered from 0, `event:` equals the body's `type`, each event one
 * write, `data: [DONE]` last. The turn goes on only as fast as it is read.
 *
 * `include`: what the caller wants to see beside what everybody sees. `startingAfter`: the number of the last event that the
 * caller has; those up to it are left out.
 *
 * When the reader leaves, `onLeave` is called and the turn is read to its end all the same, so that what it did is kept.
 * A reader that takes nothing for `patienceMs` while something waits for it counts as gone, and its stream breaks off:
 * otherwise it could keep a turn, and what was true when the turn began, for as long as it likes.
 */
export function streamTurn(
  turn: AsyncGenerator<TurnEvent>,
  {
    onLeave,
    patienceMs = PATIENCE_MS,
    include = [],
    startingAfter = -1,
  }: {
    onLeave: () => void;
    patienceMs?: number;
    include?: readonly string[];
    startingAfter?: number;
  },
): Response {
  const encoder = new TextEncoder();
  let sequence = 0;
  let coming: Promise<IteratorResult<TurnEvent>> | null = null;
  let patience: ReturnType<typeof setTimeout> | undefined;
  let hasLeft = false;

  /** Whether the caller has all of it already. Then it is only counted. */
  function isKnown(event: TurnEvent): boolean {
    if (sequence > startingAfter) return false;
    const last = sequence + writeEvents(event, include).length - 1;
    if (last > startingAfter) return false;
    sequence = last + 1;
    return true;
  }

  async function leave(): Promise<void> {
    onLeave();
    await coming;
    for await (const _ of turn);
  }

  const body = new ReadableStream<Uint8Array>({
    // Called when all that was written has been taken.
    pull: async (controller) => {
      clearTimeout(patience);
      coming ??= turn.next();
      let step = await orHeartbeat(coming);
      // A pull that gives nothing would be the last one.
      while (step !== HEARTBEAT && !step.done && isKnown(step.value)) {
        coming = turn.next();
        step = await orHeartbeat(coming);
      }
      // While the turn was waited for: nobody is there to be patient with.
      if (hasLeft) return;
      if (step !== HEARTBEAT) coming = null;
      if (step !== HEARTBEAT && step.done) {
        controller.enqueue(encoder.encode("data: [DONE]\n\n"));
        controller.close();
        return;
      }
      patience = setTimeout(() => {
        controller.error(new Error(`the reader of a stream took nothing for ${patienceMs} ms`));
        // Nobody is left to be told of a fault; a turn keeps its own.
        leave().catch(() => {});
      }, patienceMs);
      if (step === HEARTBEAT) {
        controller.enqueue(encoder.encode(": ping\n\n"));
        return;
      }
      for (const event of writeEvents(step.value, include)) {
        const number = sequence++;
        if (number <= startingAfter) continue;
        const data = JSON.stringify({ ...event, sequence_number: number });
        controller.enqueue(encoder.encode(`event: ${event.type}\ndata: ${data}\n\n`));
      }
    },
    cancel: async () => {
      hasLeft = true;
      clearTimeout(patience);
      await leave();
    },
  });
  return new Response(body, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache, no-transform",
      "x-accel-buffering": "no",
    },
  });
}

const HEARTBEAT = Symbol("heartbeat");

async function orHeartbeat<T>(coming: Promise<T>): Promise<T | typeof HEARTBEAT> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<typeof HEARTBEAT>((resolve) => {
    timer = setTimeout(() => resolve(HEARTBEAT), HEARTBEAT_MS);
  });
  try {
    return await Promise.race([coming, silence]);
  } finally {
    clearTimeout(timer);
  }
}
