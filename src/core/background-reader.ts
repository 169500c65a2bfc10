import { type BackgroundState, type BackgroundWork, isOver } from "./background.ts";
import { openBatch } from "./background-log.ts";
import { createFollowers, createWatch, type Watching } from "./background-watch.ts";
import type { Bells } from "./bells.ts";
import type { Context } from "./context.ts";
import { BrokerError } from "./errors.ts";
import { viewer } from "./identity.ts";
import type { World } from "./ports.ts";
import { replay, replayItem } from "./replay.ts";
import type { TurnEvent } from "./request.ts";
import { loadMade, type Made } from "./thread.ts";

const BATCHES_AT_ONCE = 50;

/** A response as it said it so far, and then as it goes on. Throws `response_not_found`. */
export type Follower = (id: string) => Promise<AsyncGenerator<TurnEvent>>;

/**
 * What a response in the background has said, for whoever may see it, out of the store alone: every reader at every replica
 * sees the same under the same numbers. `bells` ring where this process has written more.
 */
export function createReader(world: World, bells: Bells) {
  const { store } = world;
  const watch = createWatch(world.clock, bells, (project, id) => store.background.state(project, id));
  const enter = createFollowers();

  const get = ({ caller, user, project }: Context, id: string) =>
    store.background.get(project.name, id, viewer(caller, user));

  async function stored({ caller, user, project }: Context, id: string): Promise<Made | null> {
    const found = await store.responses.get(project.name, id, viewer(caller, user));
    return found && loadMade(world, found);
  }

  async function* follow(
    context: Context,
    work: BackgroundWork,
    signal: AbortSignal,
  ): AsyncGenerator<TurnEvent> {
    const { id, project } = work;
    const watching = watch(project, id, work);
    signal.addEventListener("abort", watching.leave, { once: true });
    try {
      yield* tell(context, work, { signal, watching });
    } finally {
      signal.removeEventListener("abort", watching.leave);
      watching.leave();
    }
  }

  async function* tell(
    context: Context,
    work: BackgroundWork,
    { signal, watching }: { signal: AbortSignal; watching: Watching },
  ): AsyncGenerator<TurnEvent> {
    const { id, project, response } = work;
    yield { kind: "queued", response: { ...response, status: "queued" } };
    let next = 0;
    let state: BackgroundState | null = work;
    while (!signal.aborted) {
      // As it was before: what is over says nothing more.
      const isMore = state !== null && state.batches > next;
      const batches = isMore ? await store.background.batches(project, id, next, BATCHES_AT_ONCE) : [];
      if (next === 0 && batches.length > 0)
        yield { kind: "begun", response: { ...response, status: "in_progress" } };
      for (const batch of batches) {
        next = batch.seq + 1;
        for (const entry of await openBatch(world, { project, id }, batch)) {
          if ("event" in entry) yield entry.event;
          if ("notice" in entry) yield* replayItem(entry.notice.index, entry.notice.item);
        }
      }
      if (batches.length === BATCHES_AT_ONCE) continue;
      if (!state || isOver(state)) return yield* end(context, work, state);
      state = await watching.next();
      if (signal.aborted) return;
    }
  }

  async function* end(
    context: Context,
    work: BackgroundWork,
    state: BackgroundState | null,
  ): AsyncGenerator<TurnEvent> {
    const made = (await stored(context, work.id)) ?? (state?.status === "lost" ? lostOf(work) : null);
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

    /** A place for one who follows, until `signal` aborts. Throws `too_many_followers`. */
    follower: (context: Context, signal: AbortSignal): Follower => {
      const leave = enter(JSON.stringify([context.project.name, context.caller.principal]), signal);
      return async (id) => {
        const work = await get(context, id);
        const made = work && work.status !== "done" ? null : await stored(context, id);
        // What was deleted is not told from what it once said.
        if (work && (made || work.status !== "done")) return andThen(follow(context, work, signal), leave);
        leave();
        if (!made) throw new BrokerError("response_not_found", { id });
        return replay(made.response, made.output);
      };
    },
  };
}

async function* andThen(turn: AsyncGenerator<TurnEvent>, leave: () => void): AsyncGenerator<TurnEvent> {
  try {
    yield* turn;
  } finally {
    leave();
  }
}

/** One that could not even be stored as failed. */
function lostOf({ response }: BackgroundWork): Made {
  const error = { code: "server_error", message: "it broke off too often and could not be stored" };
  return { response: { ...response, status: "failed", error }, output: [] };
}
