import { historyOf } from "./history.ts";
import type { FunctionCall, Message, ToolCall } from "./items.ts";
import { createToolNames, type ToolNames } from "./naming.ts";
import type { Model, ModelEvent, ModelTool, ModelToolChoice } from "./ports.ts";
import type { ToolChoice, TurnEvent, Usage } from "./request.ts";
import type { Server } from "./servers.ts";
import { offered } from "./tools.ts";
import { type Judged, judgeNow, runJudged } from "./turn-explicit.ts";
import { showListing, startListings } from "./turn-lists.ts";
import type { Turn } from "./turn-say.ts";

/** A model that calls tools in every round is stopped: this many, then it must answer without them. */
const MAX_ROUNDS = 50;

/**
 * The loop: the model speaks, its MCP calls run or are held, it reads the results and speaks again, until it needs
 * nothing more of us. Calls of the client's own functions and calls that wait for approval end the turn.
 */
export async function* runModel(turn: Turn, model: string): AsyncGenerator<TurnEvent> {
  const { plan, desks } = turn;
  const upstream = desks.world.model;
  if (!upstream) throw new Error("a turn with a model was planned without one");
  const names = createToolNames(
    desks.world,
    plan.functions.map(({ name }) => name),
  );
  const tools = yield* listTools(turn, names);
  for (let round = 0; ; round++) {
    const spent = round >= MAX_ROUNDS || turn.calls >= (plan.response.maxToolCalls ?? Infinity);
    const offer = await offerOf(turn, tools, names, { first: round === 0, spent });
    const said = yield* oneRound(turn, upstream, model, names, offer);
    turn.incomplete = said.incomplete;
    const judged = await judgeAll(turn, said.calls);
    yield* runJudged(turn, judged);
    const waits = said.functionCalls > 0 || turn.output.some((item) => item.kind === "mcp_approval_request");
    // What came after the limit was ignored: the model goes on without those tools.
    const goesOn = said.calls.length > 0 || said.mistaken.length > 0 || said.ignored > 0;
    if (waits || !goesOn || said.incomplete !== null || plan.context.signal.aborted || round > MAX_ROUNDS)
      return;
    turn.mistaken.push(...said.mistaken);
  }
}

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

type Offer = { tools: ModelTool[]; choice: ModelToolChoice };

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

type Said = {
  /** MCP calls, in order. */
  calls: ToolCall[];
  functionCalls: number;
  /** MCP calls beyond `max_tool_calls`. */
  ignored: number;
  /** Calls of tools that there are not: the model is told, the caller is not bothered. */
  mistaken: Turn["mistaken"];
  incomplete: string | null;
};

async function* oneRound(
  turn: Turn,
  upstream: Model,
  model: string,
  names: ToolNames,
  offer: Offer,
): AsyncGenerator<TurnEvent, Said> {
  const { plan, desks } = turn;
  const { response, settled, context } = plan;
  const items = [...(plan.chain?.items ?? []), ...plan.input, ...turn.output];
  const history = await historyOf(desks.world, context, items, names);
  const stream = upstream.stream(
    {
      model,
      instructions: settled.instructions,
      history: [...history, ...turn.mistaken],
      tools: offer.tools,
      toolChoice: offer.choice,
      parallelToolCalls: response.parallelToolCalls,
      sampling: settled.sampling,
      user: response.safetyIdentifier ?? response.user,
    },
    context.signal,
  );
  const round = createRound(turn, names, offer);
  for await (const event of stream) yield* round.take(event);
  return round.said();
}

/** Turns what a model says into items, as it comes: text and function calls stream, MCP calls wait to be whole. */
function createRound(turn: Turn, names: ToolNames, offer: Offer) {
  const { newId } = turn.desks.world;
  const functions = new Map<number, { index: number; item: FunctionCall }>();
  const mcp = new Map<number, ToolCall>();
  const mistaken = new Map<number, Turn["mistaken"][number]>();
  let message: { index: number; item: Message } | null = null;
  let incomplete: string | null = null;

  async function* text(of: "output_text" | "refusal", delta: string): AsyncGenerator<TurnEvent> {
    if (!message) {
      const item: Message = {
        kind: "message",
        id: newId("msg"),
        role: "assistant",
        status: "in_progress",
        content: [],
      };
      message = { index: turn.output.length, item };
      turn.output.push(item);
      yield { kind: "item_added", index: message.index, item: { ...item, content: [] } };
    }
    const { index, item } = message;
    const last = item.content.at(-1);
    if (last?.kind !== of) {
      yield* endPart(index, item);
      item.content.push(
        of === "refusal" ? { kind: of, refusal: "" } : { kind: of, text: "", annotations: [], logprobs: [] },
      );
      yield { kind: "part_added", index, itemId: item.id, part: item.content.length - 1, of };
    }
    const part = item.content.at(-1);
    if (part?.kind === "output_text") part.text += delta;
    if (part?.kind === "refusal") part.refusal += delta;
    yield { kind: "text_delta", index, itemId: item.id, part: item.content.length - 1, of, delta };
  }

  function* endPart(index: number, { id, content }: Message): Generator<TurnEvent> {
    const part = content.at(-1);
    const at = { index, itemId: id, part: content.length - 1 };
    if (part?.kind === "output_text") yield { kind: "part_done", ...at, of: part.kind, text: part.text };
    if (part?.kind === "refusal") yield { kind: "part_done", ...at, of: part.kind, text: part.refusal };
  }

  function* endMessage(status: "completed" | "incomplete"): Generator<TurnEvent> {
    if (!message) return;
    const { index, item } = message;
    message = null;
    yield* endPart(index, item);
    item.status = status;
    yield { kind: "item_done", index, item };
  }

  function* startCall(event: ModelEvent & { kind: "call_started" }): Generator<TurnEvent> {
    yield* endMessage("completed");
    const meant = names.meantBy(event.name);
    const isOffered = offer.tools.some(({ name }) => name === event.name);
    if (!isOffered) {
      const output = `There is no tool ${event.name}.`;
      mistaken.set(event.call, {
        kind: "call",
        callId: event.callId,
        name: event.name,
        arguments: "",
        output,
      });
      return;
    }
    if (meant) {
      const shown = { id: newId("mcp"), label: meant.label, name: meant.tool, arguments: "" };
      mcp.set(event.call, {
        kind: "mcp_call",
        ...shown,
        status: "in_progress",
        output: null,
        error: null,
        approvalRequestId: null,
      });
      return;
    }
    const item: FunctionCall = {
      kind: "function_call",
      id: newId("fc"),
      callId: event.callId,
      name: event.name,
      arguments: "",
      status: "in_progress",
    };
    const index = turn.output.length;
    turn.output.push(item);
    functions.set(event.call, { index, item });
    yield { kind: "item_added", index, item: { ...item } };
  }

  function* endFunctionCalls(): Generator<TurnEvent> {
    for (const { index, item } of functions.values()) {
      item.status = incomplete === null ? "completed" : "incomplete";
      yield {
        kind: "function_arguments_done",
        index,
        itemId: item.id,
        name: item.name,
        arguments: item.arguments,
      };
      yield { kind: "item_done", index, item };
    }
  }

  return {
    take: async function* (event: ModelEvent): AsyncGenerator<TurnEvent> {
      switch (event.kind) {
        case "text":
          return yield* text("output_text", event.delta);
        case "refusal":
          return yield* text("refusal", event.delta);
        case "call_started":
          return yield* startCall(event);
        case "call_arguments": {
          const own = functions.get(event.call);
          const item = own?.item ?? mcp.get(event.call) ?? mistaken.get(event.call);
          if (item) item.arguments += event.delta;
          if (own) {
            const { index } = own;
            yield { kind: "function_arguments_delta", index, itemId: own.item.id, delta: event.delta };
          }
          return;
        }
        case "finished":
          turn.usage = addUsage(turn.usage, event.usage);
          incomplete =
            event.reason === "stop"
              ? null
              : event.reason === "length"
                ? "max_output_tokens"
                : "content_filter";
          yield* endMessage(incomplete === null ? "completed" : "incomplete");
          yield* endFunctionCalls();
      }
    },
    said: (): Said => {
      // Cut off in the middle, a call's arguments are not what the model meant.
      const meant = incomplete === null ? [...mcp.values()] : [];
      const left = Math.max(0, (turn.plan.response.maxToolCalls ?? Infinity) - turn.calls);
      const calls = meant.slice(0, left);
      const ignored = meant.length - calls.length;
      return { calls, functionCalls: functions.size, ignored, mistaken: [...mistaken.values()], incomplete };
    },
  };
}

async function judgeAll(turn: Turn, calls: ToolCall[]): Promise<Judged[]> {
  return Promise.all(
    calls.map(async (call) => {
      const server = turn.plan.servers.find(({ label }) => label === call.label);
      if (!server) throw new Error(`the model called a server that was not offered: ${call.label}`);
      return { call, server, todo: await judgeNow(turn, server, call) };
    }),
  );
}

function addUsage(a: Usage, b: Usage): Usage {
  return {
    inputTokens: a.inputTokens + b.inputTokens,
    cachedTokens: a.cachedTokens + b.cachedTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    reasoningTokens: a.reasoningTokens + b.reasoningTokens,
  };
}
