import { AsyncLocalStorage } from "node:async_hooks";
import type { Keep } from "./core/keep.ts";

// How long what a request has begun may go on. Part of the door `worker.ts`.

/** Less than Cloudflare leaves to what a request has begun when it is answered or left, which is 30 seconds. Milliseconds. */
export const LIFE_MS = 25_000;

/** A request's life, which work may ask to outlast its answer. */
export type Life = { waitUntil: (work: Promise<unknown>) => void };

export type Lives = {
  /** Answers within a request's life. */
  within: (life: Life, answer: () => Promise<Response>) => Promise<Response>;
  /** Does what no request waits for. */
  beside: (life: Life, work: () => Promise<void>) => Promise<void>;
  /**
   * Work under way keeps the life of the request that began it, for a turn of the loop longer than itself, in which what follows can
   * begin: others may be waiting for it.
   */
  keep: Keep;
};

/**
 * A Worker ends timers, calls and queries together with the request that began them, without a word to whoever else waits for them. Whose
 * they are is carried by the runtime's own async context: nothing of it decides what is done (decision 0017 is about what does).
 */
export function createLives(): Lives {
  const lives = new AsyncLocalStorage<Life>();
  return {
    within: (life, answer) =>
      lives.run(life, async () => {
        const response = await answer();
        return isStream(response) ? streamWithin(lives, life, response) : response;
      }),
    beside: (life, work) => lives.run(life, work),
    keep: (work) => {
      const settled = work.then(
        () => {},
        () => {},
      );
      lives.getStore()?.waitUntil(settled.then(() => new Promise((resolve) => setTimeout(resolve, 0))));
      return work;
    },
  };
}

function isStream({ headers, body }: Response): boolean {
  return body !== null && (headers.get("content-type") ?? "").startsWith("text/event-stream");
}

/** The runtime tells of a reader who has left outside of any request. What is then still to be done belongs to the one that was left. */
function streamWithin(lives: AsyncLocalStorage<Life>, life: Life, response: Response): Response {
  const reader = response.body?.getReader();
  if (!reader) return response;
  const body = new ReadableStream<Uint8Array>(
    {
      pull: async (controller) => {
        const next = await lives.run(life, () => reader.read());
        if (next.done) controller.close();
        else controller.enqueue(next.value);
      },
      cancel: (reason) => {
        const left = lives.run(life, () => reader.cancel(reason));
        life.waitUntil(left.catch(() => {}));
        return left;
      },
    },
    { highWaterMark: 0 },
  );
  return new Response(body, response);
}
