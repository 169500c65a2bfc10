import type { BackgroundState } from "./background.ts";
import type { Bells } from "./bells.ts";
import { BrokerError } from "./errors.ts";
import type { ResponseId } from "./ids.ts";
import { begun, type Begun, joined } from "./joined.ts";
import type { Clock } from "./ports.ts";

/** So often it is looked for more, where another process makes it; slower while there is none. */
const POLL_MS = 200;
const MAX_POLL_MS = 1_500;
/** The longest wait, and a read of a slow database: whoever waits for somebody else's look waits no longer. */
const LOOK_MS = 60_000;
/** Those of one caller who follow at the same time at one process. */
const MAX_FOLLOWERS = 128;

export type Watching = {
  /** How it is at the next look. Null: it is gone, or `leave` was called. */
  next: () => Promise<BackgroundState | null>;
  leave: () => void;
};

/** One look at a time for all who follow the same response at this process: that nothing happens costs the same for one and for many. */
export function createWatch(
  clock: Clock,
  bells: Bells,
  look: (project: string, id: ResponseId) => Promise<BackgroundState | null>,
) {
  const watched = new Map<string, Watched>();

  async function lookNext(project: string, id: ResponseId, of: Watched): Promise<BackgroundState | null> {
    await bells.wait(id, of.waitMs, of.over.signal);
    of.coming = null;
    if (of.over.signal.aborted) return null;
    const state = await look(project, id);
    const isMore = state !== null && state.batches > of.batches;
    of.batches = state?.batches ?? of.batches;
    of.waitMs = isMore ? POLL_MS : Math.min(of.waitMs * 1.5, MAX_POLL_MS);
    return state;
  }

  async function next(project: string, id: ResponseId, of: Watched): Promise<BackgroundState | null> {
    for (;;) {
      const { coming } = of;
      if (!coming) {
        of.coming = begun(clock, { begin: () => lookNext(project, id, of), withinMs: LOOK_MS });
        return of.coming.work;
      }
      const seen = await joined(clock, coming);
      if (seen) return seen.outcome;
      if (of.coming === coming) of.coming = null;
    }
  }

  return (project: string, id: ResponseId, { batches }: Pick<BackgroundState, "batches">): Watching => {
    const of = watched.get(id) ?? {
      followers: 0,
      batches,
      waitMs: POLL_MS,
      over: new AbortController(),
      coming: null,
    };
    of.followers++;
    watched.set(id, of);
    let isLeft = false;
    return {
      next: () => next(project, id, of),
      leave: () => {
        if (isLeft) return;
        isLeft = true;
        if (--of.followers > 0) return;
        watched.delete(id);
        of.over.abort();
      },
    };
  };
}

type Watched = {
  followers: number;
  batches: number;
  waitMs: number;
  over: AbortController;
  coming: Begun<BackgroundState | null> | null;
};

/** Counts who follows. A place is left when `signal` aborts, or by what is given. Throws `too_many_followers`. */
export function createFollowers(): (caller: string, signal: AbortSignal) => () => void {
  const following = new Map<string, Set<() => void>>();
  return (caller, signal) => {
    const theirs = following.get(caller) ?? new Set();
    if (theirs.size >= MAX_FOLLOWERS) throw new BrokerError("too_many_followers", { limit: MAX_FOLLOWERS });
    const leave = () => {
      signal.removeEventListener("abort", leave);
      theirs.delete(leave);
      if (theirs.size === 0) following.delete(caller);
    };
    following.set(caller, theirs.add(leave));
    signal.addEventListener("abort", leave, { once: true });
    if (signal.aborted) leave();
    return leave;
  };
}
