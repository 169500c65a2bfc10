import { isRefusal } from "./errors.ts";
import { historyOf } from "./history.ts";
import { observedStream } from "./observed-model.ts";
import type { Item, ToolCall } from "./items.ts";
import { type ChosenModel, chooseModel, openModel } from "./model-upstreams.ts";
import { createToolNames, type ToolNames } from "./naming.ts";
import type { ModelExchange, ModelTool, ModelToolChoice } from "./ports.ts";
import type { ToolChoice, TurnEvent } from "./request.ts";
import type { Server } from "./servers.ts";
import { offered } from "./tools.ts";
import { type Judged, judgeNow, runJudged } from "./turn-calls.ts";
import { showListing, startListings } from "./turn-lists.ts";
import { leftToDo } from "./turn-resume.ts";
import { addUsage, createRound, type Offer, type Said } from "./turn-round.ts";
import { countSaid, maxCalls, type Turn } from "./turn-say.ts";

/** A model that calls tools in every round is stopped: this many, then it must answer without them. */
const MAX_ROUNDS = 50;

/**
 * The loop: the model speaks, its MCP calls run or are held, it reads the results and speaks again, until it needs
 * nothing more of us. Calls of the client's own functions and calls that wait for approval end the turn.
 */
export async function* runModel(turn: Turn, model: string): AsyncGenerator<TurnEvent> {
  const { plan, desks } = turn;
  const chosen = chooseModel(desks.world, plan.context.project, model);
  if (!chosen) throw new Error("a turn with a model was planned without one");
  const names = createToolNames(
    desks.world,
    plan.functions.map(({ name }) => name),
  );
  const tools = yield* listTools(turn, names);
  // Nothing is left out behind a model's back: it speaks when every server is there, or has failed.
  if (turn.consents.length > 0) return;
  const { context } = plan;
  const { resumed } = turn;
  const output = turn.output.filter(({ id }) => !resumed?.cut.has(id));
  const before = [...(plan.chain?.items ?? []), ...plan.input, ...output];
  const history = await historyOf(desks.world, context, before, names);
  history.push(...(resumed?.mistaken ?? []));
  let heard = resumed?.heard ?? null;
  for (let round = resumed?.rounds ?? 0; round <= MAX_ROUNDS; round++) {
    const from = turn.output.length;
    const spent = round === MAX_ROUNDS || turn.calls >= maxCalls(turn);
    const offer = await offerOf(turn, tools, names, { first: round === 0, spent });
    const said = heard ?? (yield* oneRound(turn, { chosen, names, offer, history }));
    heard = null;
    turn.incomplete = said.incomplete;
    yield* runJudged(turn, await judgeAll(turn, said.calls));
    const waits =
      turn.consents.length > 0 || turn.output.some((item) => item.kind === "mcp_approval_request");
    // What came after the limit was ignored: the model goes on without those tools.
    const goesOn = said.calls.length > 0 || said.mistaken.length > 0 || said.ignored > 0;
    if (waits || said.functionCalls > 0 || !goesOn || said.incomplete !== null || context.signal.aborted)
      return;
    history.push(
      ...(await historyOf(desks.world, context, turn.output.slice(from), names)),
      ...said.mistaken,
    );
  }
}

/** The `include`s that ask for reasoning in its encrypted form, and for how likely each token was. */
const ENCRYPTED_REASONING = "reasoning.encrypted_content";
const LOGPROBS = "message.output_text.logprobs";

type OfferedTool = { server: Server | null; tool: ModelTool };

async function* listTools(turn: Turn, names: ToolNames): AsyncGenerator<TurnEvent, OfferedTool[]> {
  const tools: OfferedTool[] = turn.plan.functions.map((tool) => ({ server: null, tool }));
  for (const { server, listing: coming } of startListings(turn)) {
    const listing = await coming;
    yield* showListing(turn, server, listing);
    if (!listing.ok) continue;
    for (const { name, description, inputSchema } of offered(server, listing)) {
      const tool = {
        name: await names.nameOf(server.label, name),
        description,
        parameters: inputSchema,
        strict: null,
      };
      tools.push({ server, tool });
    }
  }
  return tools;
}

/** The tools of one round. A forced choice holds for the first round only: afterwards it would never end. */
async function offerOf(
  turn: Turn,
  tools: OfferedTool[],
  names: ToolNames,
  { first, spent }: { first: boolean; spent: boolean },
): Promise<Offer> {
  const choice: ToolChoice = turn.plan.settled.toolChoice;
  const left = spent ? tools.filter(({ server }) => server === null) : tools;
  const all = left.map(({ tool }) => tool);
  const of = (wanted: (entry: OfferedTool) => boolean) => left.filter(wanted).map(({ tool }) => tool);
  switch (choice.kind) {
    case "auto":
      return { tools: all, choice: "auto" };
    case "none":
      return { tools: all, choice: "none" };
    case "required":
      return { tools: all, choice: first && all.length > 0 ? "required" : "auto" };
    case "function":
      return { tools: all, choice: force(all, choice.name, first) };
    case "mcp": {
      if (choice.name !== null)
        return { tools: all, choice: force(all, await names.nameOf(choice.label, choice.name), first) };
      const own = of(({ server }) => server?.label === choice.label);
      return first && own.length > 0 ? { tools: own, choice: "required" } : { tools: all, choice: "auto" };
    }
    case "allowed": {
      const allowed = await Promise.all(choice.tools.map((one) => matcherOf(one, names)));
      const own = of((entry) => allowed.some((matches) => matches(entry)));
      return { tools: own, choice: first && own.length > 0 ? choice.mode : "auto" };
    }
  }
}

async function matcherOf(
  one: (ToolChoice & { kind: "allowed" })["tools"][number],
  names: ToolNames,
): Promise<(entry: OfferedTool) => boolean> {
  if (one.kind === "function") return ({ server, tool }) => server === null && tool.name === one.name;
  if (one.name === null) return ({ server }) => server?.label === one.label;
  const name = await names.nameOf(one.label, one.name);
  return ({ tool }) => tool.name === name;
}

function force(tools: ModelTool[], name: string, first: boolean): ModelToolChoice {
  return first && tools.some((tool) => tool.name === name) ? { name } : "auto";
}

async function* oneRound(
  turn: Turn,
  round: {
    chosen: ChosenModel;
    names: ToolNames;
    offer: Offer;
    history: (Item | ModelExchange)[];
  },
): AsyncGenerator<TurnEvent, Said> {
  const { response, settled, context } = turn.plan;
  const { journal } = turn;
  await journal?.goOn();
  journal?.note({ kind: "round_begun", from: turn.output.length });
  const upstream = await openModel(turn.desks.world, context.project, round.chosen);
  const stream = observedStream(
    turn.desks.world,
    upstream,
    {
      model: round.chosen.model,
      instructions: settled.instructions,
      history: round.history,
      tools: round.offer.tools,
      toolChoice: round.offer.choice,
      parallelToolCalls: response.parallelToolCalls,
      sampling: settled.sampling,
      user: response.safetyIdentifier ?? response.user,
      trace: context.trace ?? null,
      encryptedReasoning: turn.plan.include.includes(ENCRYPTED_REASONING),
      logprobs: turn.plan.include.includes(LOGPROBS),
    },
    // A model that is asked anew has done nothing meanwhile, so it is not waited for.
    journal ? AbortSignal.any([context.signal, journal.leaving]) : context.signal,
  );
  const listener = createRound(turn, round.names, round.offer);
  try {
    for await (const event of stream) {
      countSaid(turn, event);
      yield* listener.take(event);
    }
  } catch (cause) {
    // What failed was paid for all the same.
    if (isRefusal(cause, "model_failed") && cause.details.usage)
      turn.usage = addUsage(turn.usage, cause.details.usage);
    throw cause;
  }
  const said = listener.said();
  journal?.note({ kind: "round_heard", said, usage: turn.usage });
  return said;
}

async function judgeAll(turn: Turn, calls: ToolCall[]): Promise<Judged[]> {
  return Promise.all(
    leftToDo(turn, calls).map(async ({ call, asked }): Promise<Judged> => {
      const server = turn.plan.servers.find(({ label }) => label === call.label);
      if (!server) throw new Error(`the model called a server that was not offered: ${call.label}`);
      return asked ? { call, server, todo: { kind: "asked", held: asked } } : judgeNow(turn, server, call);
    }),
  );
}
