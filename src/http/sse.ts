import type { TurnEvent } from "../core/request.ts";
import { writeEvents } from "./wire/events.ts";

/** While nothing happens, a comment line keeps the connection open: an event of any type would break clients. */
const HEARTBEAT_MS = 15_000;

/**
 * A turn as server-sent events (responses-wire 4.5): numbered from 0, `event:` equals the body's `type`, each event one
 * write, `data: [DONE]` last. When the reader leaves, `onLeave` is called and the turn is read to its end all the same,
 * so that what it did is kept.
 */
export function streamTurn(turn: AsyncGenerator<TurnEvent>, onLeave: () => void): Response {
  const encoder = new TextEncoder();
  let sequence = 0;
  let coming: Promise<IteratorResult<TurnEvent>> | null = null;

  const body = new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      coming ??= turn.next();
      const step = await orHeartbeat(coming);
      if (step === HEARTBEAT) {
        controller.enqueue(encoder.encode(": ping\n\n"));
        return;
      }
      coming = null;
      if (step.done) {
        controller.enqueue(encoder.encode("data: [DONE]\n\n"));
        controller.close();
        return;
      }
      for (const event of writeEvents(step.value)) {
        const data = JSON.stringify({ ...event, sequence_number: sequence++ });
        controller.enqueue(encoder.encode(`event: ${event.type}\ndata: ${data}\n\n`));
      }
    },
    cancel: async () => {
      onLeave();
      await coming;
      for await (const _ of turn);
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
