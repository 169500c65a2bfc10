import type { Desks } from "./approved.ts";
import { type BackgroundWork, type Hold, waitedTooLong } from "./background.ts";
import { createLog, LEASE_MS, openBatch } from "./background-log.ts";
import type { Recalled } from "./background-plan.ts";
import { BrokerError, isRefusal } from "./errors.ts";
import { every } from "./every.ts";
import type { Viewer } from "./identity.ts";
import type { Plan } from "./plan.ts";
import type { World } from "./ports.ts";
import type { TurnEvent } from "./request.ts";
import { revokedSince } from "./standing.ts";
import type { Entry, Journal } from "./turn-journal.ts";
import { runTurn } from "./turn.ts";

const RENEW_MS = 3_000;
/** What could not be stored is tried again after so long, by whoever is first. */
const RETRY_MS = 5_000;
/** So often a work may break off. Then it only ends. */
const MAX_ATTEMPTS = 5;
/** So long what was said is kept for readers who come back. Afterwards they are given the stored items. */
const KEPT_MS = 24 * 60 * 60 * 1000;
const BATCHES_AT_ONCE = 50;

/** A work that this process has. `recall`: what is to be done; null: nothing, its project is gone. */
export type Job = {
  work: BackgroundWork;
  hold: Hold;
  recall: (signal: AbortSignal) => Promise<Recalled | null>;
};

export type Run = {
  /** Somebody wants it to end. */
  cancel: () => void;
  /** Begins nothing more, lets calls under way end, and gives the work back. */
  leave: () => void;
  /** Until when it is surely this run's, as far as is known. */
  keptUntil: () => number;
  over: Promise<void>;
};

/**
 * Makes a response in the background, from where others left it. `changed` is called when there is more to read. Never
 * throws: what breaks off is taken up again, by this process or another.
 */
export function startRun(desks: Desks, { work, hold, recall }: Job, changed: () => void): Run {
  const { world } = desks;
  const { store, clock } = world;
  const cancelling = new AbortController();
  const leaving = new AbortController();
  /** Nothing is to be renewed any more. */
  const over = new AbortController();
  let isLost = false;
  let keptUntil = work.leaseUntil;
  const lose = () => {
    isLost = true;
    leaving.abort();
    cancelling.abort();
    over.abort();
  };
  const cancel = () => cancelling.abort();
  const log = createLog(
    world,
    { ...hold, batches: work.batches, bytes: work.bytes },
    {
      lost: lose,
      cancelled: cancel,
      kept: (leaseUntil) => {
        keptUntil = Math.max(keptUntil, leaseUntil);
        changed();
      },
      keptUntil: () => keptUntil,
    },
  );

  async function make(): Promise<void> {
    if (work.cancelledAt !== null) cancel();
    if (!(await log.keep({ kind: "taken" }))) return;
    // Its process died between storing it and saying so.
    if (await isStored(world, work)) return finish("done");
    if (work.attempts > MAX_ATTEMPTS + 1) return finish("lost");
    const entries = await readEntries(world, work);
    const recalled = await recall(cancelling.signal);
    if (!recalled) return;
    const hasEnded = await drain(recalled, entries);
    await log.flush();
    if (isLost) return;
    if (!hasEnded) return store.background.giveBack({ ...hold, at: 0, counts: false });
    if (await isStored(world, work)) return finish("done");
    if (work.attempts > MAX_ATTEMPTS) return finish("lost");
    await store.background.giveBack({ ...hold, at: clock.now() + RETRY_MS, counts: true });
  }

  /** Whether the turn came to its end. The end itself is told from the stored response. */
  async function drain({ plan, fault }: Recalled, entries: Entry[]): Promise<boolean> {
    const onward = { journal: journalOf(plan), entries, fault: fault ?? whyNotBegun(entries) };
    const turn = runTurn(desks, plan, onward);
    let isStopped = false;
    for (let step = await turn.next(); !step.done;) {
      const { value: event } = step;
      if (event.kind === "ended") return exhaust(turn);
      if (event.kind !== "failed") log.event(event);
      const stops: boolean = log.isFull() && !isStopped && event.kind !== "failed";
      isStopped ||= stops;
      step = stops ? await turn.throw(tooMuch()) : await turn.next();
    }
    return false;
  }

  function whyNotBegun(entries: Entry[]): BrokerError | null {
    if (work.attempts > MAX_ATTEMPTS) return new BrokerError("revoked", { why: "it broke off too often" });
    // Who took it up before, and died on that line, did nothing.
    const isBegun = entries.some((entry) => !("mark" in entry) || entry.mark.kind !== "taken");
    if (isBegun || !waitedTooLong(work, clock.now())) return null;
    return new BrokerError("revoked", { why: "for 24 hours there was no room to begin it" });
  }

  const journalOf = (plan: Plan): Journal => ({
    leaving: leaving.signal,
    note: log.note,
    keep: log.keep,
    goOn: async () => {
      const why = await whyRevoked(world, plan);
      if (why !== null) throw new BrokerError("revoked", { why });
    },
  });

  async function finish(status: "done" | "lost"): Promise<void> {
    const isOurs = await store.background.finish({ ...hold, status, expiresAt: clock.now() + KEPT_MS });
    if (isOurs) world.observer.backgroundBecame(status);
    changed();
  }

  async function renew(): Promise<void> {
    const leaseUntil = clock.now() + LEASE_MS;
    try {
      const answer = await store.background.renew({ ...hold, leaseUntil });
      if (!answer) return over.signal.aborted ? undefined : lose();
      if (answer.cancelled) cancel();
      keptUntil = Math.max(keptUntil, leaseUntil);
    } catch (err) {
      world.log("warn", "background_not_renewed", { responseId: hold.id, err });
      if (clock.now() >= keptUntil) return lose();
    }
  }

  async function run(): Promise<void> {
    const renewing = every({ clock, pauseMs: () => RENEW_MS, over: over.signal }, renew);
    try {
      await make();
    } catch (err) {
      world.log("error", "background_broke", { responseId: hold.id, err });
      // A vault that does not answer for an hour wears nothing out.
      const passes = isRefusal(err, "unavailable") && err.details.passing === true;
      const later = { ...hold, at: clock.now() + RETRY_MS, counts: !passes };
      await store.background.giveBack(later).catch(() => {});
    } finally {
      over.abort();
      await renewing;
    }
  }

  return { cancel, leave: () => leaving.abort(), keptUntil: () => keptUntil, over: run() };
}

async function exhaust(turn: AsyncGenerator<TurnEvent>): Promise<true> {
  for await (const _ of turn);
  return true;
}

/** Who may go on is asked when work begins and before every round of a model. */
async function whyRevoked(world: World, { context, response }: Plan): Promise<string | null> {
  const why = await revokedSince(world, context, response.createdAt);
  if (why !== null || response.agent === null) return why;
  const agent = await world.store.agents.get(response.project, response.agent.name);
  return agent?.state === "enabled" ? null : `the agent ${response.agent.name} was deleted or disabled`;
}

async function readEntries(world: World, { project, id, batches }: BackgroundWork): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (let from = 0; from < batches; from += BATCHES_AT_ONCE) {
    const found = await world.store.background.batches(project, id, from, BATCHES_AT_ONCE);
    for (const batch of found) {
      if (batch.seq < batches) entries.push(...(await openBatch(world, { project, id }, batch)));
    }
  }
  return entries;
}

async function isStored({ store }: World, { project, id, owner }: BackgroundWork): Promise<boolean> {
  const own: Viewer = { ...owner, inheritsUser: false };
  return (await store.responses.get(project, id, own)) !== null;
}

function tooMuch(): BrokerError {
  const message = "it said more than a response in the background may hold";
  return new BrokerError("model_failed", { status: null, message, code: null });
}
