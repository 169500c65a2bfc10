// The broker's door in a runtime that ends what a request began a second after its caller has left; Cloudflare leaves it thirty. With
// `x-leave` the caller leaves after so many milliseconds.
import type { Life } from "../../src/worker-life.ts";
import worker from "../../src/worker.ts";

const LEFT_MS = 1_000;

export default {
  fetch: async (request: Request, bindings: Record<string, unknown>, life: Life): Promise<Response> => {
    const leaveMs = Number(request.headers.get("x-leave") ?? Infinity);
    if (leaveMs === Infinity) return worker.fetch(request, bindings, life);
    const ended = after(leaveMs + LEFT_MS);
    const shorter: Life = {
      waitUntil: (work) => life.waitUntil(Promise.race([work.catch(() => {}), ended])),
    };
    const answer = worker.fetch(request, bindings, shorter).catch(() => {});
    return (await Promise.race([answer, after(leaveMs)])) ?? new Response("left");
  },
};

function after(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
