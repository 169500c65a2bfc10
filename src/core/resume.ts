import { consentsIn, declinedOf } from "./consent-notice.ts";
import type { ConnectionId } from "./ids.ts";
import type { Item } from "./items.ts";
import type { World } from "./ports.ts";
import type { Chain } from "./thread.ts";

/** How a request goes on with a response that waits for a consent (DESIGN 6, Resume). */
export type Resume = {
  /** What is added to the chain: a message that only says again what waits is not. */
  input: Item[];
  /** What is to be done: the input, or all that the waiting response was asked for. */
  anew: Item[];
  /** The connections that the person declined there. */
  declined: Set<ConnectionId>;
};

export async function resumeOf(world: World, chain: Chain | null, given: Item[]): Promise<Resume> {
  const waiting = chain ? consentsIn(chain.ownOutput) : [];
  if (!chain || waiting.length === 0) return { input: given, anew: given, declined: new Set() };
  const input = withoutRepetition(given, chain);
  return {
    input,
    anew: input.length === 0 ? chain.ownInput : input,
    declined: await declinedOf(world.store.consents, waiting),
  };
}

/**
 * Clients say the same again when they come back from a consent (foundry-wire 10): the message that waits is not told to the
 * model twice.
 */
function withoutRepetition(input: Item[], chain: Chain): Item[] {
  const [only, ...others] = input;
  if (only?.kind !== "message" || only.role !== "user" || others.length > 0) return input;
  const asked = chain.items.findLast((item) => item.kind === "message" && item.role === "user");
  const isSame = asked?.kind === "message" && JSON.stringify(asked.content) === JSON.stringify(only.content);
  return isSame ? [] : input;
}
