import { REDIRECT_KEPT_MS } from "./connectors.ts";
import { alone, type Held } from "./leases.ts";
import type { World } from "./ports.ts";
import { deleteOld } from "./retention.ts";

/** One sort of rows that end by themselves. A batch looks at `limit` rows at most, and says how many it ended and whether there are more. */
export type Chore = { name: string; batch: (limit: number) => Promise<{ rows: number; more: boolean }> };

export type Housekeeping = Pick<World, "clock" | "log" | "newId" | "observer" | "store">;

/**
 * What has ended by itself, and what is kept for a while only: in small batches with pauses between them, so that calls go on, by one
 * replica. Each batch is whole; whoever dies leaves the rest to the next. One chore that fails does not hold up the others.
 */
export function createHousekeeper(world: Housekeeping): { tend: (signal: AbortSignal) => Promise<void> } {
  const { clock, log, observer } = world;

  async function finish({ name, batch }: Chore, held: Held, signal: AbortSignal): Promise<"ended" | "lost"> {
    let rows = 0;
    let longestMs = 0;
    for (;;) {
      const begun = clock.now();
      const done = await batch(BATCH_ROWS);
      longestMs = Math.max(longestMs, clock.now() - begun);
      rows += done.rows;
      if (done.rows > 0) observer.swept(name, done.rows);
      if (!done.more || signal.aborted) break;
      if (!(await held.keep(null))) return "lost";
      await clock.sleep(PAUSE_MS, signal);
    }
    if (rows > 0) log("info", "swept", { chore: name, rows, longestMs });
    return "ended";
  }

  return {
    tend: async (signal) => {
      await alone(world, "housekeeping", async (held) => {
        for await (const chore of choresOf(world)) {
          if (signal.aborted || !(await held.keep(null))) return;
          try {
            if ((await finish(chore, held, signal)) === "lost") return;
          } catch (error) {
            log("warn", "sweep_failed", { job: chore.name, err: error });
          }
        }
      });
    },
  };
}

async function* choresOf(world: Housekeeping): AsyncGenerator<Chore> {
  const { clock, observer, store } = world;
  const { expiry } = store.upkeep;
  const now = clock.now();
  yield full("consents", async (limit) => {
    const expired = await expiry.consents(now - UNDER_WAY_MS, limit);
    observer.consentBecame("expired", expired);
    return expired;
  });
  yield full("held_calls", (limit) => expiry.heldCalls(now, limit));
  yield full("dispatched_calls", (limit) => expiry.dispatchedCalls(now, limit));
  yield full("handles", (limit) => expiry.handles(now, limit));
  yield full("idempotency", (limit) => expiry.idempotency(now, limit));
  yield full("background", (limit) => store.background.sweep(now, limit));
  yield full("redirects", (limit) => expiry.redirects(now - REDIRECT_KEPT_MS, limit));
  yield full("ended_consents", (limit) => expiry.endedConsents(now - CONSENTS_KEPT_MS, limit));
  for (let after: string | null = null; ;) {
    const { rows, more } = await store.projects.list({ after, limit: PROJECTS });
    for (const project of rows) yield* deleteOld(world, project);
    const last = rows.at(-1);
    if (!more || !last) return;
    after = last.name;
  }
}

/** As long as a batch is full, there may be more. */
function full(name: string, end: (limit: number) => Promise<number>): Chore {
  return {
    name,
    batch: async (limit) => {
      const rows = await end(limit);
      return { rows, more: rows === limit };
    },
  };
}

/** A few milliseconds of the database's. */
const BATCH_ROWS = 100;
const PAUSE_MS = 20;
const PROJECTS = 100;
/** Longer than the exchange of a code that came at the last moment. */
const UNDER_WAY_MS = 5 * 60_000;
/** For whoever asks what became of one; nothing goes by it any more. */
const CONSENTS_KEPT_MS = 90 * 24 * 60 * 60_000;
