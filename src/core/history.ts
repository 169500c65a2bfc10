import { openHeld, openReason } from "./approval.ts";
import { type CallEnd, failureSentence } from "./calls.ts";
import { endOf } from "./approved.ts";
import { summaryOf } from "./compaction.ts";
import type { Context } from "./context.ts";
import { viewer } from "./identity.ts";
import type { Item, Message, OtherItem, ToolCall } from "./items.ts";
import type { ToolNames } from "./naming.ts";
import type { ModelExchange, World } from "./ports.ts";
import type { HeldCall } from "./storage.ts";
import { openItem } from "./thread.ts";

/**
 * What a model reads of a conversation: every tool call with what came of it, once, where it was asked for. Clients
 * repeat, shorten and reorder their past; the held calls and our own items say what really happened.
 */
export async function historyOf(
  world: World,
  context: Context,
  items: Item[],
  names: ToolNames,
): Promise<(Item | ModelExchange)[]> {
  const { ends, thoughts } = await storedPast(world, context, items);
  const reader = { world, context, names, stored: ends };
  const calls = new Map<string, ToolCall>();
  for (const item of items) {
    if (item.kind === "mcp_call" && item.approvalRequestId !== null) calls.set(item.approvalRequestId, item);
  }
  const asked = new Set(items.flatMap((item) => (item.kind === "mcp_approval_request" ? [item.id] : [])));
  const told = new Set<string>();
  const history: (Item | ModelExchange)[] = [];
  for (const item of items) {
    switch (item.kind) {
      case "mcp_list_tools":
      case "oauth_consent_request":
      case "consent_notice":
        break;
      case "mcp_approval_request":
      case "mcp_approval_response": {
        const id = item.kind === "mcp_approval_request" ? item.id : item.requestId;
        // An answer without its question (some clients send no more): the exchange stands where the answer is.
        if (told.has(id) || (item.kind === "mcp_approval_response" && asked.has(id))) break;
        told.add(id);
        const exchange = await exchangeOfRequest(reader, id, item, calls.get(id));
        if (exchange) history.push(exchange);
        break;
      }
      case "mcp_call":
        if (item.status === "calling") break;
        if (
          item.approvalRequestId !== null &&
          (told.has(item.approvalRequestId) || asked.has(item.approvalRequestId))
        )
          break;
        history.push(await exchangeOfCall(reader, item));
        break;
      case "message":
        // What we said to the person about a link, sent back: it was not the model's, and the link is not for it.
        if (!asksForConsent(world, item)) history.push(item);
        break;
      case "other":
        history.push((await summaryOf(world, context, item)) ?? thoughts.get(item.id) ?? item);
        break;
      case "function_call":
      case "function_call_output":
        history.push(item);
        break;
    }
  }
  return history;
}

function asksForConsent({ publicUrl }: World, { role, content }: Message): boolean {
  if (role !== "assistant") return false;
  return content.some((part) => part.kind === "output_text" && part.text.includes(`${publicUrl}/consent/`));
}

type Reader = { world: World; context: Context; names: ToolNames; stored: Map<string, CallEnd> };

async function exchangeOfRequest(
  reader: Reader,
  id: string,
  item: Item & { kind: "mcp_approval_request" | "mcp_approval_response" },
  call: ToolCall | undefined,
): Promise<ModelExchange | null> {
  if (call) return exchangeOfCall(reader, call);
  const { world, context } = reader;
  const held = await world.store.heldCalls.getOwned(
    context.project.name,
    id,
    viewer(context.caller, context.user),
  );
  const asked = item.kind === "mcp_approval_request" ? item : null;
  if (!held) return asked && exchange(reader, asked, "Not run: nothing is known about this approval.");
  // What we hold, never the client's echo of it.
  const { arguments: text } = await openHeld(world, held);
  const shown = { id, label: held.label, name: held.tool, arguments: text };
  return exchange(reader, shown, await whatCameOf(world, held));
}

async function whatCameOf(world: World, held: HeldCall): Promise<string> {
  const end = await endOf(world, held);
  if (end) return textOfEnd(end);
  switch (held.status) {
    case "denied": {
      const reason = await openReason(world, held);
      return reason === null
        ? "Not run: the user denied this call."
        : `Not run: the user denied this call. Reason: ${reason}`;
    }
    case "pending":
      return "Not run: approval pending.";
    case "expired":
      return "Not run: the approval expired.";
    case "cancelled":
      return "Not run: the request for approval was withdrawn.";
    case "approved":
    case "dispatched":
    case "done":
    case "unknown":
      return "Approved; no result is known yet.";
  }
}

async function exchangeOfCall(reader: Reader, call: ToolCall): Promise<ModelExchange> {
  if (call.output !== null || call.error !== null) return exchange(reader, call, textOfEnd(call));
  // Agents SDK replays calls without their output: ours is the one that counts.
  const stored = await storedEnd(reader, call);
  return exchange(reader, call, stored ? textOfEnd(stored) : "The result of this call is not available.");
}

async function storedEnd({ world, context, stored }: Reader, call: ToolCall): Promise<CallEnd | null> {
  const end = stored.get(call.id);
  if (end) return end;
  if (call.approvalRequestId === null) return null;
  const seenBy = viewer(context.caller, context.user);
  const held = await world.store.heldCalls.getOwned(context.project.name, call.approvalRequestId, seenBy);
  return held && endOf(world, held);
}

/**
 * What our own items say of the calls that came without their output, and of the reasoning that came without its encrypted form,
 * by their ids; read at once.
 */
async function storedPast(
  world: World,
  context: Context,
  items: Item[],
): Promise<{ ends: Map<string, CallEnd>; thoughts: Map<string, OtherItem> }> {
  const bare = items.filter((item) => isBare(item));
  if (bare.length === 0) return { ends: new Map(), thoughts: new Map() };
  const project = context.project.name;
  const ids = [...new Set(bare.map(({ id }) => id))];
  const rows = await world.store.responses.findItems(project, ids, viewer(context.caller, context.user));
  const found = await Promise.all(rows.map((row) => openItem(world, project, row.threadId, row)));
  const ends = found.flatMap((item) =>
    item.kind === "mcp_call" && (item.output !== null || item.error !== null)
      ? [[item.id, item] as const]
      : [],
  );
  const thoughts = found.flatMap((item) =>
    item.kind === "other" && isThought(item) && !isBare(item) ? [[item.id, item] as const] : [],
  );
  const wanted = new Set(bare.flatMap((item) => (item.kind === "other" ? [item.id] : [])));
  return { ends: new Map(ends), thoughts: new Map(thoughts.filter(([id]) => wanted.has(id))) };
}

function isBare(item: Item): boolean {
  // What a model said here is as whole as it said it.
  if (item.kind === "other" && item.origin !== undefined) return false;
  if (item.kind === "other") return isThought(item) && typeof item.body["encrypted_content"] !== "string";
  return item.kind === "mcp_call" && item.output === null && item.error === null;
}

const isThought = ({ body }: OtherItem) => body["type"] === "reasoning";

async function exchange(
  { names }: Reader,
  call: { id: string; label: string; name: string; arguments: string },
  output: string,
): Promise<ModelExchange> {
  return {
    kind: "call",
    callId: call.id,
    name: await names.nameOf(call.label, call.name),
    arguments: call.arguments === "" ? "{}" : call.arguments,
    output,
  };
}

function textOfEnd(end: CallEnd): string {
  return end.error ? failureSentence(end.error) : (end.output ?? "");
}
