// A Worker in which one request begins what another waits for, with what the broker's door has for that, and without.
import { createUnderWay } from "../../src/core/joined.ts";
import { systemClock } from "../../src/system-clock.ts";
import { createLives, type Life } from "../../src/worker-life.ts";

const lives = createLives();
let shared = Promise.resolve("nothing");
const begun = createUnderWay<string, string>({ ...systemClock, cutsAfterMs: 1_000 });

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
        case "/begun":
          void begun.join("work", { begin: () => after(700, "done"), withinMs: 60_000 });
          return new Response("begun");
        case "/joined":
          return new Response(await begun.join("work", { begin: async () => "anew", withinMs: 60_000 }));
        default:
          return new Response(await Promise.race([shared, after(2_500, "never")]));
      }
    }),
};

function after(ms: number, what: string): Promise<string> {
  return new Promise((resolve) => setTimeout(() => resolve(what), ms));
}
