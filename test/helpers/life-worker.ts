// A Worker in which one request begins what another waits for, with what the broker's door has for that, and without.
import { createLives, type Life } from "../../src/worker-life.ts";

const lives = createLives();
let shared = Promise.resolve("nothing");

export default {
  fetch: (request: Request, _: unknown, life: Life): Promise<Response> =>
    lives.within(life, async () => {
      switch (new URL(request.url).pathname) {
        case "/kept":
          shared = lives.keep(after(700, "done"));
          return new Response("begun");
        case "/kept-on":
          // The first wait is over before the second begins: between them nothing is under way.
          shared = lives.keep(after(300, "")).then(() => lives.keep(after(300, "done")));
          return new Response("begun");
        case "/forgotten":
          shared = after(700, "done");
          return new Response("begun");
        default:
          return new Response(await Promise.race([shared, after(2_500, "never")]));
      }
    }),
};

function after(ms: number, what: string): Promise<string> {
  return new Promise((resolve) => setTimeout(() => resolve(what), ms));
}
