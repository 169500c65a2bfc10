import type { Context } from "./context.ts";
import { BrokerError, isRefusal } from "./errors.ts";
import { every } from "./every.ts";
import { answerAad, type Attempt, type IdempotentRequest } from "./idempotency.ts";
import { viewer } from "./identity.ts";
import type { ResponseId } from "./ids.ts";
import type { Item } from "./items.ts";
import { canonicalJson, type Json } from "./json.ts";
import { createKeyedWork, type Place } from "./keyed-work.ts";
import type { World } from "./ports.ts";
import { replay } from "./replay.ts";
import type { Response, TurnEvent } from "./request.ts";
import { loadMade, type Made, withLinks, withoutLinks } from "./thread.ts";
import { untilKept } from "./until-kept.ts";

/** A request's `Idempotency-Key`, and all that the request says, for telling it from another one. */
export type OnceKey = { key: string; body: Json };

/** `isSure`: it had begun. Otherwise its process died, and whether it had is told by whether it is there. */
type Begun = { id: ResponseId; isSure: boolean };
/** `record` must be told the id before anything is done. */
type Beginning = (record: (id: ResponseId) => Promise<void>) => Promise<void>;
type Begin = (signal: AbortSignal) => Promise<AsyncGenerator<TurnEvent>>;

const KEPT_MS = 24 * 60 * 60 * 1000;
const LEASE_MS = 60_000;
const RENEW_MS = 20_000;
/** So long is the first request waited for by those who repeat it. */
const WAIT_MS = 30_000;
const POLL_MS = 200;
const PURPOSE = "idempotency";

/**
 * Requests that are run once, however often they are sent: a key of the same caller and user stands for one request for 24
 * hours. The first runs, and goes on when its caller leaves, since the answer is kept for whoever asks again; only `stopping`
 * ends it early. A repetition waits for the first and is given its answer as a turn of its own. One that failed before it had
 * done anything frees its key.
 *
 * Throws `idempotency`: another request under the key; the first still runs; its process died, and nobody knows what it did
 * (then the key stays taken, because a second dispatch is worse); the answer was deleted; the caller, or this process, has too
 * many under way (then the key is not taken).
 */
export function createOnce(world: World, stopping: AbortSignal) {
  const { clock, signer } = world;
  const { idempotency } = world.store;
  const enter = createKeyedWork(clock.now);

  /** The slot, or what is known of the request that has it. */
  async function take(
    { project, caller, user, signal }: Context,
    { key, body }: OnceKey,
  ): Promise<{ attempt: Attempt; place: Place } | { row: IdempotentRequest }> {
    const slot = await world.crypto.sha256(canonicalJson([caller.principal, user, key]));
    const said = canonicalJson(body);
    const until = clock.now() + WAIT_MS;
    for (;;) {
      const now = clock.now();
      const attempt: Attempt = { project: project.name, slot, run: world.newId("w") };
      const row = await idempotency.get(project.name, slot, now);
      if (!row || mayBeReplaced(row, now)) {
        const digest = await signer.sign(PURPOSE, said);
        const times = { leaseUntil: now + LEASE_MS, expiresAt: now + KEPT_MS, now };
        const place = enter(canonicalJson([project.name, caller.principal]), times.leaseUntil);
        const isFirst = await begun(attempt, { digest, ...times }).catch((cause: unknown) => {
          place.leave();
          throw cause;
        });
        if (isFirst) return { attempt, place };
        place.leave();
        continue;
      }
      if (!(await signer.isOurs(PURPOSE, said, row.digest))) refuse("other_body");
      if (row.status === "done" || row.leaseUntil <= now) return { row };
      if (now >= until || signal.aborted) refuse("running");
      await clock.sleep(POLL_MS, signal);
    }
  }

  async function begun(
    attempt: Attempt,
    said: Omit<Parameters<typeof idempotency.begin>[0], keyof Attempt>,
  ): Promise<boolean> {
    try {
      return await idempotency.begin({ ...attempt, ...said });
    } catch (cause) {
      // It may have counted, with its answer lost: nobody would run under this key before its lease is over.
      await free(attempt);
      throw cause;
    }
  }

  function free(attempt: Attempt): Promise<void> {
    return soonerOrLater(null, () => idempotency.release(attempt));
  }

  /** Nobody is kept waiting for a database that is away, and it is written when that is back. An attempt that is not there any more changes nothing. */
  async function soonerOrLater(responseId: ResponseId | null, write: () => Promise<unknown>): Promise<void> {
    const unsettled = (err: unknown) => world.log("warn", "idempotency_not_settled", { responseId, err });
    try {
      await write();
    } catch (err) {
      if (!isRefusal(err, "unavailable")) return unsettled(err);
      void untilKept(clock, write).catch(unsettled);
    }
  }

  async function first(
    attempt: Attempt,
    { begin, place }: { begin: Begin; place: Place },
  ): Promise<AsyncGenerator<TurnEvent>> {
    let turn: AsyncGenerator<TurnEvent> | null = null;
    try {
      turn = await begin(stopping);
      // It says its response's id and does nothing before it is asked for more.
      const { value: started } = await turn.next();
      if (started?.kind !== "started") throw new Error("a turn began without its beginning");
      const { id: responseId } = started.response;
      const leaseUntil = clock.now() + LEASE_MS;
      place.renew(leaseUntil);
      if (!(await idempotency.renew({ ...attempt, leaseUntil, responseId }))) refuse("running");
      return kept(attempt, { started, turn, place });
    } catch (cause) {
      await turn?.return(undefined);
      await free(attempt);
      place.leave();
      throw cause;
    }
  }

  async function* kept(
    attempt: Attempt,
    { started, turn, place }: { started: Started; turn: AsyncGenerator<TurnEvent>; place: Place },
  ): AsyncGenerator<TurnEvent> {
    const over = new AbortController();
    const renewing = every({ clock, pauseMs: () => RENEW_MS, over: over.signal }, () =>
      renew(attempt, { responseId: started.response.id, place }),
    );
    try {
      yield started;
      for await (const event of turn) {
        if (event.kind === "ended") await settle(attempt, event);
        yield event;
      }
    } finally {
      over.abort();
      place.leave();
      await renewing;
    }
  }

  async function renew(
    attempt: Attempt,
    { responseId, place }: { responseId: ResponseId; place: Place },
  ): Promise<void> {
    const leaseUntil = clock.now() + LEASE_MS;
    // Whether or not the database is told: the turn is under way here.
    place.renew(leaseUntil);
    await idempotency
      .renew({ ...attempt, leaseUntil, responseId })
      .catch((err: unknown) => world.log("warn", "idempotency_not_renewed", { responseId, err }));
  }

  /** `begin` says the response's id before it does anything. Once it has, only a refusal means that nothing was done. */
  async function firstBegin(attempt: Attempt, begin: Beginning): Promise<ResponseId> {
    let responseId: ResponseId | null = null;
    try {
      await begin(async (id) => {
        const leaseUntil = clock.now() + LEASE_MS;
        if (!(await idempotency.renew({ ...attempt, leaseUntil, responseId: id }))) refuse("running");
        responseId = id;
      });
    } catch (cause) {
      const isRefused = cause instanceof BrokerError && cause.code !== "unavailable";
      if (responseId === null || isRefused) await free(attempt);
      throw cause;
    }
    if (responseId === null) throw new Error("a response began without its id");
    await soonerOrLater(responseId, () => idempotency.finish({ ...attempt, sealed: null }));
    return responseId;
  }

  /** What cannot be recorded is found by the response's id once the lease has ended, or stays unknown. */
  async function settle(attempt: Attempt, { response, output }: Ended): Promise<void> {
    try {
      const isOver = response.status === "completed" || response.status === "incomplete";
      if (!isOver && !output.some(hasActed)) return await free(attempt);
      // A failed one may have failed because it could not be stored.
      const isStored = response.store && response.status !== "failed";
      const answer = { response, output: output.map(withoutLinks) };
      const sealed = isStored ? null : await world.sealer.seal(JSON.stringify(answer), answerAad(attempt));
      await soonerOrLater(response.id, () => idempotency.finish({ ...attempt, sealed }));
    } catch (err) {
      world.log("warn", "idempotency_not_settled", { responseId: response.id, err });
    }
  }

  return {
    turn: async (context: Context, key: OnceKey, begin: Begin): Promise<AsyncGenerator<TurnEvent>> => {
      const taken = await take(context, key);
      if ("attempt" in taken) return first(taken.attempt, { begin, place: taken.place });
      const answer = await answerOf(world, context, taken.row);
      await requireStanding(world, context, answer.response.owner);
      return replay(answer.response, answer.output);
    },
    /** The same for a response in the background, whose answer is that it has begun. */
    begin: async (context: Context, key: OnceKey, begin: Beginning): Promise<Begun> => {
      const taken = await take(context, key);
      if ("attempt" in taken) {
        const id = await firstBegin(taken.attempt, begin).finally(taken.place.leave);
        return { id, isSure: true };
      }
      const { responseId: id, status } = taken.row;
      return id ? { id, isSure: status === "done" } : refuse("unknown");
    },
  };
}

type Started = TurnEvent & { kind: "started" };
type Ended = TurnEvent & { kind: "ended" };

/** What a client must hear of, because repeating the request would do it again. */
export function hasActed(item: Item): boolean {
  return item.kind === "mcp_call" || item.kind === "mcp_approval_request";
}

function mayBeReplaced({ status, responseId, leaseUntil }: IdempotentRequest, now: number): boolean {
  return status === "running" && responseId === null && leaseUntil <= now;
}

async function answerOf(
  world: World,
  { project, caller, user }: Context,
  row: IdempotentRequest,
): Promise<Made> {
  if (row.sealed) {
    // Written by `settle`, opened under its own name.
    const { response, output } = JSON.parse(await world.sealer.open(row.sealed, answerAad(row))) as Made;
    return { response, output: await Promise.all(output.map((item) => withLinks(world, item))) };
  }
  const { responseId: id } = row;
  const stored = id && (await world.store.responses.get(project.name, id, viewer(caller, user)));
  if (!stored) return refuse(row.status === "done" ? "deleted" : "unknown");
  return loadMade(world, stored);
}

/** Who named no user went on for the one of what it answered: that one may be blocked by now, or the right be gone. */
async function requireStanding(
  { store }: World,
  { project, caller, user }: Context,
  owner: Response["owner"],
): Promise<void> {
  if (owner.user === null || owner.user === user) return;
  if (!viewer(caller, user).inheritsUser) refuse("deleted");
  const row = await store.users.get(project.name, owner.user);
  if (row?.status === "blocked") throw new BrokerError("user_blocked", {});
}

function refuse(reason: "other_body" | "running" | "unknown" | "deleted"): never {
  throw new BrokerError("idempotency", { reason });
}
