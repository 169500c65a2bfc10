// The broker's Worker with a clock that a test moves ahead: by how much, it asks before each event and after each answer of
// others. Its public URL is that of its first request.
import { systemClock } from "../../src/system-clock.ts";
import worker from "../../src/worker.ts";

type Handlers = typeof worker;

// As on Node, packages keep the time that there is.
let aheadMs = 0;
systemClock.now = () => Date.now() + aheadMs;

const call = globalThis.fetch;
globalThis.fetch = async (...args) => {
  const answer = await call(...args);
  await look();
  return answer;
};

let publicUrl: string | null = null;
let clockUrl = "";

export default {
  fetch: async (...[request, bindings, life]: Parameters<Handlers["fetch"]>) => {
    clockUrl = String(bindings["AHEAD_URL"]);
    await look();
    publicUrl ??= new URL(request.url).origin;
    return worker.fetch(request, { ...bindings, CONSENTRY_PUBLIC_URL: publicUrl }, life);
  },
  scheduled: async (...[event, bindings, life]: Parameters<Handlers["scheduled"]>) => {
    clockUrl = String(bindings["AHEAD_URL"]);
    await look();
    return worker.scheduled(event, { ...bindings, CONSENTRY_PUBLIC_URL: publicUrl }, life);
  },
} satisfies Handlers;

async function look(): Promise<void> {
  aheadMs = Number(await (await call(clockUrl)).text());
}
