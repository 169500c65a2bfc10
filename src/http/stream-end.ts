/** Whether an answer goes on after its head for as long as something happens. */
export function isStream(answer: Response): boolean {
  // The type first: whoever looks at the body of a finished answer makes a stream of it.
  const isTyped = answer.headers.get("content-type")?.startsWith("text/event-stream") === true;
  return isTyped && answer.body !== null;
}

/**
 * The same answer; `ended` is called once when its body has ended, has broken off, or nobody reads it any more. Nothing is read
 * ahead, so that whoever writes the body goes on as fast as it is read.
 */
export function untilEnd(answer: Response, ended: () => void): Response {
  const { body, status, statusText, headers } = answer;
  if (!body) throw new Error("an answer without a body has no end to wait for");
  const reader = body.getReader();
  const watched = new ReadableStream<Uint8Array>(
    {
      start: (controller) => {
        // A body that breaks off while nobody reads breaks off here, too.
        void reader.closed.catch((fault: unknown) => controller.error(fault)).finally(ended);
      },
      pull: async (controller) => {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
  return new Response(watched, { status, statusText, headers });
}
