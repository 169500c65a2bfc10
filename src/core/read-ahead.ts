import type { Context } from "./context.ts";
import { findConversation } from "./conversation-turn.ts";
import { historyOf } from "./history.ts";
import { resolveInput } from "./input.ts";
import type { Item } from "./items.ts";
import { createToolNames } from "./naming.ts";
import type { ModelExchange, World } from "./ports.ts";
import { type ReadDefinition, settle, type Settled } from "./recover.ts";
import type { TurnRequest } from "./request.ts";
import { findChain } from "./turn-chain.ts";

/** What a model would read for a request, found out without doing anything. */
export type Ahead = {
  context: Context;
  settled: Settled;
  /** The past and the input, as items. */
  items: Item[];
  history: (Item | ModelExchange)[];
};

/** Throws what a request for a response would be refused with, as far as its past and its input go. */
export async function readAhead(
  world: World,
  caller: Context,
  request: TurnRequest,
  read: ReadDefinition,
): Promise<Ahead> {
  const named = await findConversation(world, caller, request);
  const { context, chain } = await findChain({ world }, caller, request, named);
  const settled = await settle(world, context, { request, chain, read });
  const input = await resolveInput(world, context, request.input, chain);
  const items = [...(chain?.items ?? []), ...input];
  const functions = settled.tools.flatMap((tool) => (tool.kind === "function" ? [tool.name] : []));
  const history = await historyOf(world, context, items, createToolNames(world, functions));
  return { context, settled, items, history };
}
