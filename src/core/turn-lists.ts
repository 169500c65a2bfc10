import { failureText } from "./calls.ts";
import type { Item } from "./items.ts";
import { canonicalJson, type Json } from "./json.ts";
import type { TurnEvent } from "./request.ts";
import type { Server } from "./servers.ts";
import { type Listing, offered } from "./tools.ts";
import { noteConsent, type Turn } from "./turn-say.ts";

/** Asks all servers at once; they are shown in the order of the tools. */
export function startListings({ desks, plan }: Turn): { server: Server; listing: Promise<Listing> }[] {
  return plan.servers.map((server) => {
    const listing = desks.tools.list(plan.context, server);
    listing.catch(() => {});
    return { server, listing };
  });
}

/** One `mcp_list_tools` item: what the caller may use, or why there is nothing. */
export async function* showListing(turn: Turn, server: Server, listing: Listing): AsyncGenerator<TurnEvent> {
  if (!listing.ok && listing.failure.kind === "consent") {
    noteConsent(turn, listing.failure.request);
    return;
  }
  const tools = listing.ok ? offered(server, listing) : [];
  const error = listing.ok ? null : failureText(listing.failure);
  if (error === null && isKnown(turn, server.label, tools)) return;
  const id = turn.desks.world.newId("mcpl");
  const index = turn.output.length;
  const item: Item = { kind: "mcp_list_tools", id, label: server.label, tools, error };
  turn.output.push(item);
  yield { kind: "item_added", index, item: { ...item, tools: [], error: null } };
  yield { kind: "list_progress", index, itemId: id, state: "in_progress" };
  yield { kind: "list_progress", index, itemId: id, state: error === null ? "completed" : "failed" };
  yield { kind: "item_done", index, item };
}

/** A list that the conversation holds already is not said again; one that has changed is. */
function isKnown({ plan, output }: Turn, label: string, tools: Json): boolean {
  const before = [...(plan.chain?.items ?? []), ...plan.input, ...output];
  const last = before.findLast((item) => item.kind === "mcp_list_tools" && item.label === label);
  return (
    last?.kind === "mcp_list_tools" &&
    last.error === null &&
    canonicalJson(last.tools) === canonicalJson(tools)
  );
}
