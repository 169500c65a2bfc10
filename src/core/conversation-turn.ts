import type { Context } from "./context.ts";
import type { Conversation, ConversationId } from "./conversations.ts";
import { BrokerError } from "./errors.ts";
import { viewer } from "./identity.ts";
import { hasPrefix } from "./ids.ts";
import type { Item } from "./items.ts";
import type { World } from "./ports.ts";
import type { Response, StoredResponse, TurnRequest } from "./request.ts";
import {
  appendResponse,
  type Chain,
  chainOf,
  isSaid,
  openItem,
  type Save,
  saveAlone,
  sealItems,
} from "./thread.ts";

/** Items of a thread, and so of a conversation. */
export const MAX_THREAD_ITEMS = 5_000;

/** The conversation that a request names, and where it ended then. */
export type Named = Conversation & { end: number };

/** Throws `conversation_not_found`, for foreign ones, too. */
export async function findConversation(
  { store }: World,
  { caller, user, project }: Context,
  { conversation: id }: Pick<TurnRequest, "conversation">,
): Promise<Named | null> {
  if (id === null) return null;
  const found = await store.conversations.get({
    project: project.name,
    id,
    viewer: viewer(caller, user),
  });
  if (!found) throw new BrokerError("conversation_not_found", { id, param: "conversation" });
  return { ...found.conversation, end: found.end };
}

/** All that was said in a conversation; the turn goes on from the last response in it. */
export async function conversationChain(
  world: World,
  { caller, user, project }: Context,
  { id, end }: Named,
): Promise<Chain> {
  const stored = await world.store.responses.lastOf(project.name, id, end, viewer(caller, user));
  return chainOf(world, { project: project.name, threadId: id, end, conversation: id, stored });
}

/**
 * A conversation that was made for nobody becomes the user's whose request is the first to name one: the next user must not
 * read what was said for this one. Throws `conversation_not_found` when another user was faster.
 */
export async function claimConversation(
  { store }: World,
  { user, project }: Context,
  { id, owner }: Conversation,
  param: string | null,
): Promise<void> {
  if (user === null || owner.user !== null) return;
  if (await store.conversations.claim(project.name, id, user)) return;
  throw new BrokerError("conversation_not_found", { id, param });
}

/**
 * The conversation in which this response stands last: who answers the response goes on with it. Null: there is none, or it is
 * somebody else's; a response of nobody's can be answered for a user, but that user's answer is not for all who may read it.
 */
export async function conversationOf(
  { store }: World,
  { caller, user, project }: Context,
  { threadId, end }: StoredResponse,
): Promise<ConversationId | null> {
  if (!hasPrefix("conv", threadId)) return null;
  const found = await store.conversations.get({
    project: project.name,
    id: threadId,
    viewer: viewer(caller, user),
  });
  const isTheirs = found?.conversation.owner.user === user;
  return isTheirs && found.end === end ? threadId : null;
}

/**
 * Makes a finished turn part of its conversation, in one step. What others appended since it was read stays before it: of two
 * responses at once the second stands behind the first, whose items it did not know, and nothing is lost or there twice. A
 * response that failed or was cancelled is kept by itself, and so is one whose conversation is gone, full, or another's by then.
 *
 * With `store:false` the items are appended and the response is not kept. Gives the response as it was kept.
 */
export async function saveInConversation(
  world: World,
  context: Context,
  save: Save & { conversation: ConversationId },
): Promise<Response> {
  const { response, conversation } = save;
  if (!isSaid(response.status)) return response.store ? saveAlone(world, save, []) : response;
  const query = {
    project: response.project,
    id: conversation,
    viewer: viewer(context.caller, context.user),
  };
  let end = save.chain?.end ?? 0;
  let { input } = save;
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    if (await append(world, { ...save, input }, end)) return response;
    const now = await world.store.conversations.get(query);
    // Somebody's by now, a response of nobody's must not stand behind their items: who may read it could read those.
    const isTheirs = now?.conversation.owner.user === response.owner.user;
    if (!now || !isTheirs || now.end + input.length + save.output.length > MAX_THREAD_ITEMS) break;
    const meanwhile = await itemsFrom(world, query.project, conversation, end, now.end);
    input = input.filter((item) => !isRepeated(item, meanwhile));
    ({ end } = now);
  }
  const alone = { ...response, conversation: null };
  return response.store ? saveAlone(world, { ...save, response: alone }, []) : alone;
}

/** Each time somebody else appended, so only a crowd gets here. */
const MAX_ATTEMPTS = 50;

async function append(
  world: World,
  save: Save & { conversation: ConversationId },
  from: number,
): Promise<boolean> {
  const { response, conversation, input, output } = save;
  if (response.store) return appendResponse(world, save, { threadId: conversation, from });
  const rows = await sealItems(world, response.project, conversation, [...input, ...output], from);
  return world.store.conversations.append(response.project, conversation, from, rows);
}

async function itemsFrom(
  world: World,
  project: string,
  conversation: ConversationId,
  from: number,
  to: number,
): Promise<Item[]> {
  const rows = await world.store.responses.items(project, conversation, from, to);
  return Promise.all(rows.map((row) => openItem(world, project, conversation, row)));
}

/** Two requests that replay the same item say it once, as within a chain (`resolveInput`). */
function isRepeated(item: Item, others: Item[]): boolean {
  if (item.kind === "mcp_call" && item.status === "calling") return false;
  return others.some(({ id, kind }) => id === item.id && kind === item.kind);
}
