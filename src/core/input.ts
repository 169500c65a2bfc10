import { asSent } from "./calls.ts";
import { requireOwnSummary } from "./compaction.ts";
import type { Context } from "./context.ts";
import { withoutEchoedDenials } from "./denials.ts";
import { invalid } from "./errors.ts";
import { viewer } from "./identity.ts";
import type { InputItem, Item } from "./items.ts";
import { requestItem } from "./approval.ts";
import type { World } from "./ports.ts";
import { type Chain, newItemId, openItem } from "./thread.ts";

/**
 * What a request adds to its chain: references resolved, repetitions of what the chain holds left out (clients send
 * both a reference and `previous_response_id`), every item with an id, and no denial said twice.
 *
 * Throws `invalid` for references to what is unknown or foreign, and for one id on two explicit calls.
 */
export async function resolveInput(
  world: World,
  context: Context,
  input: InputItem[],
  chain: Chain | null,
): Promise<Item[]> {
  const inChain = new Map((chain?.items ?? []).map((item) => [item.id, item]));
  const resolved: Item[] = [];
  const seen = new Set<string>();
  for (const [at, item] of input.entries()) {
    // Ours, sent back: it says nothing, and the link of an id that a client names is never made.
    if (item.kind === "other" && item.body["type"] === "oauth_consent_request") continue;
    // A question whose id the client has left out (the Agents SDK's conversation sessions do): nobody can answer that one.
    if (item.kind === "mcp_approval_request" && item.id === "") continue;
    if (item.kind === "reference") {
      if (inChain.has(item.id) || seen.has(item.id)) continue;
      seen.add(item.id);
      resolved.push(await dereference(world, context, item.id, `input[${at}].id`));
      continue;
    }
    if (item.kind === "other")
      await requireOwnSummary(world, context, item, `input[${at}].encrypted_content`);
    const calling = item.kind === "mcp_call" && item.status === "calling";
    if (calling && item.id !== "" && seen.has(item.id)) {
      throw invalid({ param: `input[${at}].id`, message: `two calls have the id '${item.id}'` });
    }
    const id = item.id === "" ? newItemId(world, item.kind) : item.id;
    if (seen.has(id)) continue;
    // An explicit call that its chain has executed is answered from there, so it stays.
    if (!calling && inChain.get(id)?.kind === item.kind) continue;
    seen.add(id);
    resolved.push(
      item.kind === "mcp_call" && calling
        ? { ...item, id, arguments: asSent(item.arguments) }
        : { ...item, id },
    );
  }
  return withoutEchoedDenials(resolved, chain?.items ?? []);
}

async function dereference(world: World, context: Context, id: string, param: string): Promise<Item> {
  const project = context.project.name;
  // A user is inherited from what is answered, not from what is merely pointed at.
  const seenBy = { ...viewer(context.caller, context.user), inheritsUser: false };
  const [row] = await world.store.responses.findItems(project, [id], seenBy);
  if (row) return openItem(world, project, row.threadId, row);
  // With `store:false` a held call is all that is kept of the request that made it.
  const held = await world.store.heldCalls.getOwned(project, id, seenBy);
  if (held) return requestItem(world, held);
  throw invalid({ param, message: `there is no item '${id}'` });
}
