import type { Desks } from "./approved.ts";
import { auditEntry, type Context } from "./context.ts";
import { type Hold, isOver, waitedTooLong } from "./background.ts";
import { LEASE_MS } from "./background-log.ts";
import { recallPlan, sealPlan } from "./background-plan.ts";
import { type Job, startRun } from "./background-run.ts";
import { createRuns, type OwnRun } from "./background-runs.ts";
import { createReader, type Follower } from "./background-reader.ts";
import { createBells } from "./bells.ts";
import { BrokerError } from "./errors.ts";
import { viewer } from "./identity.ts";
import type { ResponseId } from "./ids.ts";
import { joined } from "./joined.ts";
import type { Plan } from "./plan.ts";
import type { Response } from "./request.ts";
import type { Made } from "./thread.ts";

/** Responses that one process makes at the same time, and those of one project among them: nobody's stand behind another's. */
const MAX_RUNNING = 32;
const MAX_RUNNING_OF_PROJECT = 16;
/** So many that nobody has are looked at: those of a few projects that have all that they may have. */
const MAX_LOOKED_AT = 500;
/** Responses of one project that are not over, and those of one caller among them: nobody takes the whole room. */
const MOST = { ofProject: 100, ofCaller: 50 };
/** So often a process looks for work that nobody has. */
const LOOK_MS = 2_000;
/** So often it is looked whether a cancelled one is over, where another process makes it. */
const POLL_MS = 200;
/** So long a cancellation waits for its end. */
const CANCEL_MS = 10_000;
/** So long work that was taken up once is waited for: the next one to look goes on with it. */
const ONCE_MS = 10 * 60_000;

/** Responses without their callers: any process begins, makes, shows and cancels them, and goes on with those of a dead one. */
export type BackgroundDesk = {
  /** Keeps what is to be done, and begins. Throws `too_many_background`. */
  begin: (plan: Plan) => Promise<Made>;
  /** What is known of one that is not stored yet. Null: there is none that the caller may see. */
  find: (context: Context, id: string) => Promise<Made | null>;
  /** A place for one who follows a response until it ends or `signal` aborts. Throws `too_many_followers`. */
  follower: (context: Context, signal: AbortSignal) => Follower;
  /** Ends it, and waits a while for that. Nothing happens where there is none that the caller may see. */
  cancel: (context: Context, id: string) => Promise<void>;
  /** Cancels it, and forgets what it said. Throws `still_running` when it does not end. */
  forget: (context: Context, id: string) => Promise<void>;
  /** From now on this process looks for work that nobody has. */
  work: () => void;
  /** The same once, where nothing stays between requests. Resolves when what it took up is over, or after ten minutes. */
  workOnce: () => Promise<void>;
  /** Gives back what it has, calls under way ended. */
  stop: () => Promise<void>;
};

export function createBackgroundDesk(desks: Desks): BackgroundDesk {
  const { world } = desks;
  const { store, clock } = world;
  const runs = createRuns(clock);
  const bells = createBells(clock);
  const reader = createReader(world, bells);
  const stopping = new AbortController();
  let looking: Promise<void> | null = null;

  function launch(job: Job): OwnRun {
    const { id, project } = job.hold;
    const run = { ...startRun(desks, job, () => bells.ring(id)), id, project };
    runs.add(run);
    // Begun while this process was told to stop.
    if (stopping.signal.aborted) run.leave();
    world.observer.backgroundRunning(runs.under().length);
    void run.over.then(() => {
      runs.remove(run);
      world.observer.backgroundRunning(runs.under().length);
      bells.ring(id);
    });
    return run;
  }

  /** Takes a work up, if nobody has it. */
  async function takeUp(project: string, id: ResponseId): Promise<OwnRun | null> {
    if (runs.of(id) || stopping.signal.aborted) return null;
    const now = clock.now();
    const hold: Hold = { project, id, run: world.newId("w") };
    const work = await store.background.claim({ ...hold, now, leaseUntil: now + LEASE_MS });
    if (!work) return null;
    if (work.batches > 0)
      world.log("info", "background_taken_up", { responseId: id, attempt: work.attempts });
    return launch({ work, hold, recall: (signal) => recallPlan(world, work, signal) });
  }

  function hasRoom(project: string): boolean {
    const under = runs.under();
    if (stopping.signal.aborted || under.length >= MAX_RUNNING) return false;
    return under.filter((run) => run.project === project).length < MAX_RUNNING_OF_PROJECT;
  }

  /** What it took up. */
  async function look(): Promise<OwnRun[]> {
    const own: (OwnRun | null)[] = [];
    for (const due of await store.background.due(clock.now(), MAX_LOOKED_AT)) {
      const { project, id, status } = due;
      if (hasRoom(project)) {
        own.push(await takeUp(project, id));
        continue;
      }
      // It only ends, and needs no room for that.
      if (status !== "queued" || !waitedTooLong(due, clock.now())) continue;
      const run = await takeUp(project, id);
      await run?.over;
    }
    return own.filter((run) => run !== null);
  }

  async function lookOn(): Promise<void> {
    while (!stopping.signal.aborted) {
      await look().catch((err: unknown) => world.log("warn", "background_not_looked_for", { err }));
      await clock.sleep(LOOK_MS, stopping.signal);
    }
  }

  const cancel: BackgroundDesk["cancel"] = async (context, id) => {
    const { project, caller, user } = context;
    const work = await reader.get(context, id);
    if (!work) return;
    const query = { project: project.name, id, viewer: viewer(caller, user), at: clock.now() };
    const entry = auditEntry(world, context, "response_cancelled", { responseId: id });
    await store.background.cancel(query, [entry]);
    runs.of(id)?.cancel();
    const until = clock.now() + CANCEL_MS;
    for (;;) {
      const state = await store.background.state(work.project, work.id);
      if (!state || isOver(state)) return;
      if (state.leaseUntil <= clock.now()) await takeUp(work.project, work.id);
      if (clock.now() >= until || context.signal.aborted) return;
      await bells.wait(id, POLL_MS, context.signal);
    }
  };

  return {
    begin: async (plan) => {
      const response: Response = { ...plan.response, status: "in_progress", background: true };
      const { id, project, owner, createdAt } = response;
      const isOurs = hasRoom(project);
      const run = world.newId("w");
      const leaseUntil = isOurs ? clock.now() + LEASE_MS : 0;
      const kept = { id, project, owner, response, createdAt, expiresAt: createdAt, leaseUntil };
      const begun = { ...kept, run: isOurs ? run : null };
      const sealed = await sealPlan(world, { ...plan, response });
      if (!(await store.background.begin(begun, sealed, MOST)))
        throw new BrokerError("too_many_background", MOST);
      world.observer.backgroundBecame("queued");
      const work = {
        ...begun,
        status: "queued",
        attempts: 1,
        cancelledAt: null,
        batches: 0,
        bytes: 0,
      } as const;
      // The caller's own token is at hand here and nowhere else.
      const recall: Job["recall"] = async (signal) => ({
        plan: { ...plan, response, context: { ...plan.context, signal } },
        fault: null,
      });
      if (isOurs) launch({ work, hold: { project, id, run }, recall });
      return { response: { ...response, status: "queued" }, output: [] };
    },

    find: reader.find,

    follower: reader.follower,

    cancel,

    forget: async (context, id) => {
      const work = await reader.get(context, id);
      if (!work) return;
      if (!isOver(work)) await cancel(context, id);
      const now = await reader.get(context, id);
      if (now && !isOver(now)) throw new BrokerError("still_running", { id });
      await store.background.delete(work.project, id, viewer(context.caller, context.user));
    },

    work: () => {
      looking ??= lookOn();
    },

    workOnce: async () => {
      const own = await look();
      const all = Promise.all(own.map(({ over }) => over));
      await joined(clock, { work: all, until: clock.now() + ONCE_MS });
    },

    stop: async () => {
      stopping.abort();
      await looking;
      for (const run of runs.under()) run.leave();
      await Promise.all(runs.under().map(({ over }) => over));
    },
  };
}
