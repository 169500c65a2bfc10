import { createAccessDesk } from "./access.ts";
import type { Desks } from "./approved.ts";
import { isUnderWay } from "./background.ts";
import { type BackgroundDesk, createBackgroundDesk } from "./background-desk.ts";
import { type ConversationDesk, createConversationDesk } from "./conversation-desk.ts";
import { compact, type Compaction } from "./compaction.ts";
import { createConsentPages } from "./consent-pages.ts";
import type { People } from "./consent-views.ts";
import { auditEntry, type Context } from "./context.ts";
import { createDisconnect, type Disconnect } from "./disconnect.ts";
import { BrokerError, invalid, isRefusal } from "./errors.ts";
import { viewer } from "./identity.ts";
import type { Item } from "./items.ts";
import { createOnce, type OnceKey } from "./once.ts";
import { estimateInputTokens } from "./input-tokens.ts";
import { planTurn } from "./plan.ts";
import type { World } from "./ports.ts";
import { readAhead } from "./read-ahead.ts";
import type { ReadDefinition } from "./recover.ts";
import type { TurnEvent, TurnRequest } from "./request.ts";
import { createMePages } from "./me.ts";
import { createSignInDesk } from "./sign-in.ts";
import { loadItems, loadMade, type Made } from "./thread.ts";
import { createToolDesk } from "./tools.ts";
import { runTurn } from "./turn.ts";

export type ItemPage = { after: string | null; limit: number; order: "asc" | "desc" };

/** What the broker does for agent runtimes. */
export type Broker = {
  /** The doors to credentials and tools, for what else needs them (`:validate`, tool lists). */
  desks: Desks;
  /** Taking grants back, at the authorization server as well. */
  disconnect: Disconnect;
  /** The pages that people see. */
  people: People;
  /**
   * Begins a turn. Everything that can be refused is refused here, by a thrown `BrokerError`; what is given afterwards
   * never throws. Leaving the generator early is not enough to stop it: abort `context.signal`.
   */
  respond: (context: Context, request: TurnRequest) => Promise<AsyncGenerator<TurnEvent>>;
  /** The same, once for its key: see `createOnce`, which says what is thrown besides. */
  respondOnce: (context: Context, request: TurnRequest, key: OnceKey) => Promise<AsyncGenerator<TurnEvent>>;
  /** Begins a response that is made without its caller, once for its key where there is one. Throws refusals. */
  respondInBackground: (context: Context, request: TurnRequest, key: OnceKey | null) => Promise<Made>;
  background: BackgroundDesk;
  /** Ends a response in the background, and gives what is known of it. Throws `response_not_found`, `invalid` for another one. */
  cancel: (context: Context, id: string) => Promise<Made>;
  /** An estimate of the tokens that a model would read for this request; nothing is done. Throws refusals. */
  countInput: (context: Context, request: TurnRequest) => Promise<number>;
  /** What a model would read for this request, made short by `model`; nothing is stored. Throws refusals. */
  compact: (context: Context, request: TurnRequest, model: string) => Promise<Compaction>;
  /** Throws `response_not_found`, for foreign ones, too. */
  retrieve: (context: Context, id: string) => Promise<Made>;
  /** Newest first with `desc`. Throws `response_not_found`, `still_running` before its end; `invalid` when `after` is no item of it. */
  inputItems: (context: Context, id: string, page: ItemPage) => Promise<{ items: Item[]; more: boolean }>;
  /** Deletes the response and cancels its pending held calls. Throws `response_not_found`. */
  deleteResponse: (context: Context, id: string) => Promise<void>;
  conversations: ConversationDesk;
  /** Ends turns that go on without their caller, and resolves when none is under way: a stop waits for it before it closes what turns write to. */
  idle: () => Promise<void>;
};

export function createBroker(world: World, options: { readDefinition: ReadDefinition }): Broker {
  const access = createAccessDesk(world);
  const desks: Desks = { world, access, tools: createToolDesk(world, access) };
  const { authorization } = access;
  const disconnect = createDisconnect(world, authorization);
  const signIn = createSignInDesk(world);
  const people: People = {
    consent: createConsentPages({ world, authorization, signIn }),
    me: createMePages(world, { signIn, disconnect: disconnect.revoke }),
    signIn,
  };

  async function find(context: Context, id: string) {
    const seenBy = viewer(context.caller, context.user);
    const stored = await world.store.responses.get(context.project.name, id, seenBy);
    if (stored) return stored;
    if (await isUnderWay(world, context, id)) throw new BrokerError("still_running", { id });
    throw new BrokerError("response_not_found", { id });
  }

  const stopping = new AbortController();
  const once = createOnce(world, stopping.signal);
  const underWay = new Set<Promise<void>>();

  async function* tracked(turn: AsyncGenerator<TurnEvent>): AsyncGenerator<TurnEvent> {
    const { promise, resolve } = Promise.withResolvers<void>();
    underWay.add(promise);
    try {
      yield* turn;
    } finally {
      underWay.delete(promise);
      resolve();
    }
  }

  const background = createBackgroundDesk(desks);

  const retrieve: Broker["retrieve"] = async (context, id) => {
    const seenBy = viewer(context.caller, context.user);
    const stored = await world.store.responses.get(context.project.name, id, seenBy);
    if (stored) return loadMade(world, stored);
    const made = await background.find(context, id);
    if (!made) throw new BrokerError("response_not_found", { id });
    return made;
  };

  const respond: Broker["respond"] = async (context, request) =>
    tracked(runTurn(desks, await planTurn(desks, context, request, options.readDefinition)));

  return {
    desks,
    disconnect,
    people,
    conversations: createConversationDesk(world),
    idle: async () => {
      stopping.abort();
      while (underWay.size > 0) await Promise.all(underWay);
    },
    respond,
    respondOnce: (context, request, key) =>
      once.turn(context, key, (signal) => respond({ ...context, signal }, request)),
    respondInBackground: async (context, request, key) => {
      const plan = () => planTurn(desks, context, request, options.readDefinition);
      if (!key) return background.begin(await plan());
      const { id, isSure } = await once.begin(context, key, async (record) => {
        const planned = await plan();
        await record(planned.response.id);
        await background.begin(planned);
      });
      return retrieve(context, id).catch((error: unknown) => {
        throw isRefusal(error, "response_not_found")
          ? new BrokerError("idempotency", { reason: isSure ? "deleted" : "unknown" })
          : error;
      });
    },
    background,
    cancel: async (context, id) => {
      const { response } = await retrieve(context, id);
      if (!response.background) {
        const message = "only a response that runs in the background can be cancelled";
        throw invalid({ param: "id", message });
      }
      await background.cancel(context, id);
      return retrieve(context, id);
    },
    countInput: async (context, request) =>
      estimateInputTokens(await readAhead(world, context, request, options.readDefinition)),
    compact: async (context, request, model) =>
      compact(world, await readAhead(world, context, request, options.readDefinition), model),
    retrieve,
    inputItems: async (context, id, { after, limit, order }) => {
      const stored = await find(context, id);
      const items = await loadItems(world, stored, 0, stored.outputFrom);
      if (order === "desc") items.reverse();
      const at = after === null ? -1 : items.findIndex((item) => item.id === after);
      if (after !== null && at < 0) throw invalid({ param: "after", message: `is no input item of ${id}` });
      const rest = items.slice(at + 1);
      return { items: rest.slice(0, limit), more: rest.length > limit };
    },
    deleteResponse: async (context, id) => {
      const query = {
        project: context.project.name,
        id,
        viewer: viewer(context.caller, context.user),
        at: world.clock.now(),
      };
      await background.forget(context, id);
      const facts = { responseId: id };
      const deleted = await world.store.responses.delete(query, [
        auditEntry(world, context, "response_deleted", facts),
      ]);
      if (!deleted) throw new BrokerError("response_not_found", { id });
    },
  };
}
