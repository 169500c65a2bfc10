import { type BackgroundWork, isOver } from "./background.ts";
import { openBatch } from "./background-log.ts";
import type { Bells } from "./bells.ts";
import type { Context } from "./context.ts";
import { BrokerError } from "./errors.ts";
import { viewer } from "./identity.ts";
import type { Item } from "./items.ts";
import type { World } from "./ports.ts";
import { replay, replayItem } from "./replay.ts";
import type { Response, TurnEvent } from "./request.ts";
import { loadItems } from "./thread.ts";

/** So often a reader looks for more, where another process makes it; slower while there is none. */
const POLL_MS = 200;
const MAX_POLL_MS = 1_500;
const BATCHES_AT_ONCE = 50;

/** A response as far as it is known. */
export type Made = { response: Response; output: Item[] };

/**
 * What a response in the background has said, for whoever may see it, out of the store alone: every reader at every replica
 * sees the same under the same numbers. `bells` ring where this process has written more.
 */
export function createReader(world: World, bells: Bells) {
  const { store } = world;

  const get = ({ caller, user, project }: Context, id: string) =>
    store.background.get(project.name, id, viewer(caller, user));

  async function stored({ caller, user, project }: Context, id: string): Promise<Made | null> {
    const found = await store.responses.get(project.name, id, viewer(caller, user));
    if (!found) return null;
    return { response: found.response, output: await loadItems(world, found, found.outputFrom, found.end) };
  }

  async function* follow(
    context: Context,
    { id, project, response }: BackgroundWork,
    signal: AbortSignal,
  ): AsyncGenerator<TurnEvent> {
    yield { kind: "queued", response: { ...response, status: "queued" } };
    let next = 0;
    for (let waitMs = POLL_MS; !signal.aborted;) {
      // In this order: what is over says nothing more.
      const work = await get(context, id);
      const batches = await store.background.batches(project, id, next, BATCHES_AT_ONCE);
      if (next === 0 && batches.length > 0)
        yield { kind: "begun", response: { ...response, status: "in_progress" } };
      for (const batch of batches) {
        next = batch.seq + 1;
        for (const entry of await openBatch(world, { project, id }, batch)) {
          if ("event" in entry) yield entry.event;
          if ("notice" in entry) yield* replayItem(entry.notice.index, entry.notice.item);
        }
      }
      if (batches.length > 0) waitMs = POLL_MS;
      if (batches.length === BATCHES_AT_ONCE) continue;
      if (!work || isOver(work)) return yield* end(context, id, work);
      await bells.wait(id, waitMs, signal);
      waitMs = Math.min(waitMs * 1.5, MAX_POLL_MS);
    }
  }

  async function* end(context: Context, id: string, work: BackgroundWork | null): AsyncGenerator<TurnEvent> {
    const made = (await stored(context, id)) ?? (work?.status === "lost" ? lostOf(work) : null);
    // It was deleted meanwhile: there is nothing more to say.
    if (!made) return;
    const { response, output } = made;
    if (response.error) yield { kind: "failed", error: response.error, refusal: null };
    yield { kind: "ended", response, output };
  }

  return {
    get,

    /** What is known of one that was not stored when it was looked for. Null: there is none that the caller may see. */
    find: async (context: Context, id: string): Promise<Made | null> => {
      const work = await get(context, id);
      if (!work) return null;
      switch (work.status) {
        case "queued":
          return { response: { ...work.response, status: "queued" }, output: [] };
        case "running":
          return { response: work.response, output: [] };
        case "lost":
          return lostOf(work);
        case "done":
          return stored(context, id);
      }
    },

    /** As it said it so far, and then as it goes on. Throws `response_not_found`. */
    events: async (context: Context, id: string, signal: AbortSignal): Promise<AsyncGenerator<TurnEvent>> => {
      const work = await get(context, id);
      const made = work && work.status !== "done" ? null : await stored(context, id);
      // What was deleted is not told from what it once said.
      if (work && (made || work.status !== "done")) return follow(context, work, signal);
      if (!made) throw new BrokerError("response_not_found", { id });
      return replay(made.response, made.output);
    },
  };
}

/** One that could not even be stored as failed. */
function lostOf({ response }: BackgroundWork): Made {
  const error = { code: "server_error", message: "it broke off too often and could not be stored" };
  return { response: { ...response, status: "failed", error }, output: [] };
}
